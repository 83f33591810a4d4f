"""How near a proxy comes to the truth, each measure beside what two real halves of the truth differ by."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import stats

from fedsim import rng
from fedsim.data.proxy.measures import Rows, icc, one_hot, size_and_label, sizes_of, style, told_apart
from fedsim.errors import InputError

HALVES = 20


@dataclass(frozen=True)
class Line:
    """A measure of the proxy and of the truth, and the range of it over random halves of the truth.

    ``is_within``: the proxy lies in that range (None: the measure is not defined for it).
    """

    name: str
    proxy: float
    true: float
    low: float
    high: float

    @property
    def is_within(self) -> bool | None:
        """Whether two real halves differ by as much."""
        if math.isnan(self.proxy):
            return None
        return self.low <= self.proxy <= self.high


def card(proxy: Rows, true: Rows, *, seed: int, n_halves: int = HALVES) -> list[Line]:
    """The closeness card: sizes (KS and Wasserstein), label and feature ICC, size against label, two-sample test.

    Each half of the truth is held against the other as the proxy against the truth; the range is from the least to the
    most of ``n_halves`` such splits. Raises :class:`InputError` for a truth of fewer than four clients.
    """
    if true.n_clients < 4:
        raise InputError("clients of the truth", value=true.n_clients, allowed="4 and more, to be halved")
    proxy, true = _styled(proxy), _styled(true)
    halves = [_halved(true, seed=seed + k) for k in range(n_halves)]
    lines = []
    for name, pair in _BETWEEN.items():
        between = [pair(*half, seed + k) for k, half in enumerate(halves)]
        nothing = _NOTHING[name]
        lines.append(Line(name, pair(proxy, true, seed), nothing, *_range([*between, nothing])))
    for name, one in _OF_ONE.items():
        of_halves = [one(part) for half in halves for part in half]
        lines.append(Line(name, one(proxy), one(true), *_range(of_halves)))
    return lines


def _range(values: list[float]) -> tuple[float, float]:
    known = [value for value in values if not math.isnan(value)]
    return (min(known), max(known)) if known else (math.nan, math.nan)


def _styled(rows: Rows) -> Rows:
    return Rows(rows.client, rows.label, style(rows))


def _halved(rows: Rows, *, seed: int) -> tuple[Rows, Rows]:
    order = np.argsort(rng.bits(seed, "halves", np.arange(rows.n_clients)), kind="stable")
    middle = rows.n_clients // 2
    return rows.of_clients(order[:middle]), rows.of_clients(order[middle:])


def _ks(one: Rows, other: Rows, _: int) -> float:
    return float(stats.ks_2samp(sizes_of(one), sizes_of(other)).statistic)


def _wasserstein(one: Rows, other: Rows, _: int) -> float:
    """In sizes of the mean client of the other."""
    mean = float(sizes_of(other).mean())
    return float(stats.wasserstein_distance(sizes_of(one), sizes_of(other))) / mean


def _label_icc(rows: Rows) -> float:
    return icc(rows.client, one_hot(rows.label))


def _feature_icc(rows: Rows) -> float:
    return icc(rows.client, rows.embedding)


def _told_apart(one: Rows, other: Rows, seed: int) -> float:
    return told_apart(one, other, seed=seed)


_BETWEEN: dict[str, Callable[[Rows, Rows, int], float]] = {
    "sizes, Kolmogorov and Smirnov": _ks,
    "sizes, Wasserstein in mean sizes": _wasserstein,
    "told apart from the truth, AUC": _told_apart,
}
_NOTHING = dict(zip(_BETWEEN, (0.0, 0.0, 0.5), strict=True))  # where there is no difference
_OF_ONE: dict[str, Callable[[Rows], float]] = {
    "label ICC": _label_icc, "feature ICC": _feature_icc, "size and label, Spearman": size_and_label,
}  # fmt: skip
