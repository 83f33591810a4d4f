"""A small recurrent language model: what a keyboard or a search box runs to guess the next word."""

from __future__ import annotations

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
