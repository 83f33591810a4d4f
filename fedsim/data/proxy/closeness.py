"""How near a proxy comes to the truth, each measure beside what two real halves of the truth differ by."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
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


Ranges = Mapping[str, tuple[float, float]]


def ranges_of(true: Rows, *, seed: int, n_halves: int = HALVES) -> Ranges:
    """What chance leaves of each measure: least and most over random halves of the true clients.

    Halves are held against each other as a proxy against the truth. Raises :class:`InputError` for a truth of fewer
    than four clients.
    """
    if true.n_clients < 4:
        raise InputError("clients of the truth", value=true.n_clients, allowed="4 and more, to be halved")
    styled = _styled(true)
    halves = [_halved(styled, seed=seed + k) for k in range(n_halves)]
    found = {}
    for name, pair in _BETWEEN.items():
        found[name] = _range([*(pair(*half, seed + k) for k, half in enumerate(halves)), _NOTHING[name]])
    for name, one in _OF_ONE.items():
        found[name] = _range([one(part) for half in halves for part in half])
    return found


def card(proxy: Rows, true: Rows, ranges: Ranges, *, seed: int) -> list[Line]:
    """The closeness card: sizes (KS and Wasserstein), two-sample test, label and feature ICC, size against label."""
    proxy, true = _styled(proxy), _styled(true)
    between = [Line(name, pair(proxy, true, seed), _NOTHING[name], *ranges[name]) for name, pair in _BETWEEN.items()]
    return between + [Line(name, one(proxy), one(true), *ranges[name]) for name, one in _OF_ONE.items()]


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
