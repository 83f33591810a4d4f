"""The shipped models. Any other ``torch.nn.Module`` can be named in a config; its outputs are logits."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn


class Logistic(nn.Module):
    """Multinomial logistic regression: x [n, …] is flattened to ``n_inputs``, logits [n, n_classes]."""

    def __init__(self, *, n_inputs: int, n_classes: int) -> None:
        super().__init__()
        self.output = nn.Linear(n_inputs, n_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits [n, n_classes]."""
        out: torch.Tensor = self.output(x.flatten(1))
        return out


class SmallCnn(nn.Module):
    """Two 5×5 convolutions with stride 2 and a hidden layer for 28×28 pictures, no BatchNorm.

    54,698 parameters with 10 classes. Strides instead of pooling, and most parameters in the hidden
    layer: a sixth of the work of the usual network of two convolutions and two poolings of that size.
    """

    def __init__(self, *, n_classes: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 8, 5, stride=2)
        self.second = nn.Conv2d(8, 16, 5, stride=2)
        self.hidden = nn.Linear(16 * 4 * 4, 192)
        self.output = nn.Linear(192, n_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits [n, n_classes] of pictures [n, 28, 28]."""
        maps = F.relu(self.second(F.relu(self.first(x.unsqueeze(1)))))
        out: torch.Tensor = self.output(F.relu(self.hidden(maps.flatten(1))))
        return out


class ClickModel(nn.Module):
    """A factorisation machine with a deep part for categorical fields (DeepFM, Guo et al. 2017).

    x int64[n, n_fields] are ids of one table of ``n_values`` ids. The logit is a bias, a weight for
    each id, the products of all pairs of embeddings (``n_factors`` numbers each), and an MLP with
    ``n_hidden`` units over the embeddings side by side.
    """

    def __init__(self, *, n_values: int, n_fields: int, n_factors: int, n_hidden: int) -> None:
        super().__init__()
        self.weight = nn.Embedding(n_values, 1)
        self.factors = nn.Embedding(n_values, n_factors)
        self.hidden = nn.Linear(n_fields * n_factors, n_hidden)
        self.output = nn.Linear(n_hidden, 1)
        nn.init.zeros_(self.weight.weight)
        nn.init.normal_(self.factors.weight, std=0.05)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits [n]."""
        factors = self.factors(x)
        pairs = (factors.sum(1).square() - factors.square().sum(1)).sum(1) / 2
        deep = self.output(F.relu(self.hidden(factors.flatten(1)))).squeeze(1)
        out: torch.Tensor = self.weight(x).sum((1, 2)) + pairs + deep
        return out


class TextBag(nn.Module):
    """The mean of a text's embedded tokens, and a hidden layer: one logit (fastText, Joulin et al. 2017).

    x int64[n, length] are ids of ``n_values`` tokens; 0 is padding and has no part in the mean.
    """

    def __init__(self, *, n_values: int, n_factors: int, n_hidden: int) -> None:
        super().__init__()
        self.factors = nn.Embedding(n_values, n_factors)
        self.hidden = nn.Linear(n_factors, n_hidden)
        self.output = nn.Linear(n_hidden, 1)
        nn.init.normal_(self.factors.weight, std=0.1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits [n]."""
        is_token = (x != 0).unsqueeze(-1)
        mean = (self.factors(x) * is_token).sum(1) / is_token.sum(1).clamp(min=1)
        out: torch.Tensor = self.output(F.relu(self.hidden(mean))).squeeze(1)
        return out


class DocumentScore(nn.Module):
    """A score for each document of a list by itself: x [n, length, n_inputs], scores [n, length]."""

    def __init__(self, *, n_inputs: int, n_hidden: Sequence[int]) -> None:
        super().__init__()
        widths = [n_inputs, *n_hidden]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.output = nn.Linear(widths[-1], 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores [n, length]."""
        for layer in self.layers:
            x = F.relu(layer(x))
        out: torch.Tensor = self.output(x).squeeze(-1)
        return out


class TableModel(nn.Module):
    """A hidden layer over a table's numbers and embedded ids: x [n, …], the first ``n_numbers`` of a row are numbers.

    Logits [n, n_classes]. ``n_values`` are the ids of all features together, ``n_factors`` the numbers of an id.
    """

    def __init__(
        self, *, n_inputs: int, n_numbers: int, n_values: int, n_classes: int, n_factors: int, n_hidden: int
    ) -> None:
        super().__init__()
        self.n_numbers, n_ids = n_numbers, n_inputs - n_numbers
        self.embedding = nn.Embedding(n_values, n_factors) if n_ids else None
        self.hidden = nn.Linear(n_numbers + n_ids * n_factors, n_hidden)
        self.output = nn.Linear(n_hidden, n_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits [n, n_classes]."""
        row = x.flatten(1)
        parts = [row[:, : self.n_numbers].to(self.hidden.weight.dtype)]
        if self.embedding is not None:
            parts.append(self.embedding(row[:, self.n_numbers :].long()).flatten(1))
        out: torch.Tensor = self.output(F.relu(self.hidden(torch.cat(parts, dim=1))))
        return out
