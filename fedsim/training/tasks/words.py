"""A small recurrent language model: what a keyboard or a search box runs to guess the next word."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn


class WordLstm(nn.Module):
    """The next word after a window of words: x int64[n, length] of word ids, logits [n, n_words].

    An LSTM over embedded words; its last state is projected back to the width of the embedding, whose table also
    scores the words (tied weights: Press and Wolf 2017).
    """

    def __init__(self, *, n_words: int, n_factors: int, n_hidden: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(n_words, n_factors)
        self.lstm = nn.LSTM(n_factors, n_hidden, batch_first=True)
        self.projection = nn.Linear(n_hidden, n_factors)
        self.bias = nn.Parameter(torch.zeros(n_words))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits [n, n_words]."""
        states, _ = self.lstm(self.embedding(x))
        return F.linear(self.projection(states[:, -1]), self.embedding.weight, self.bias)


class NextToken(nn.Module):
    """The next word or character at each position: x int64[n, length] of ids, logits [n, length, n_words].

    ``cell`` is LSTM or GRU, over embedded tokens. ``is_tied``: its states are projected back to the width of the
    embedding, whose table also scores the tokens (Press and Wolf 2017); else a layer of their own scores them.
    """

    def __init__(
        self, *, n_words: int, n_factors: int, n_hidden: int, cell: Literal["LSTM", "GRU"], is_tied: bool
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(n_words, n_factors)
        kinds: dict[str, type[nn.LSTM] | type[nn.GRU]] = {"LSTM": nn.LSTM, "GRU": nn.GRU}
        if cell not in kinds:
            raise ValueError(f"cell {cell!r} is neither LSTM nor GRU")
        self.recurrent = kinds[cell](n_factors, n_hidden, batch_first=True)
        self.projection = nn.Linear(n_hidden, n_factors) if is_tied else nn.Identity()
        self.scores = nn.Linear(n_factors if is_tied else n_hidden, n_words)
        if is_tied:
            self.scores.weight = self.embedding.weight
            nn.init.normal_(self.embedding.weight, std=n_factors**-0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits [n, length, n_words]."""
        states, _ = self.recurrent(self.embedding(x))
        out: torch.Tensor = self.scores(self.projection(states))
        return out
