"""Whether a table without ids gives them back: columns that tell one person from another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fedsim.units import IntArray

CONSTANT = 0.99  # of the clients have one value in a column that is theirs
LEAST, MOST = 0.5, 2.0  # tuples of such columns to clients expected


@dataclass(frozen=True)
class QuasiId:
    """Columns that are constant within clients, and how many tuples of them a target has."""

    columns: tuple[str, ...]
    n_tuples: int
    n_expected: float  # clients, at the donor's mean size

    @property
    def tells_clients(self) -> bool:
        """Whether tuples are about as many as clients: then they are clients."""
        return bool(self.columns) and LEAST * self.n_expected <= self.n_tuples <= MOST * self.n_expected


def own_columns(client: IntArray, columns: Mapping[str, IntArray]) -> tuple[str, ...]:
    """The columns (as codes) in which nearly every client of two rows and more has one value."""
    n_clients = int(client.max()) + 1
    several = np.bincount(client, minlength=n_clients) > 1
    found = []
    for name, codes in columns.items():
        low, high = np.full(n_clients, np.iinfo(np.int64).max), np.full(n_clients, -1)
        np.minimum.at(low, client, codes)
        np.maximum.at(high, client, codes)
        if several.any() and (low == high)[several].mean() > CONSTANT and codes.max() > codes.min():
            found.append(name)
    return tuple(found)


def tuples_of(columns: Mapping[str, IntArray], names: Sequence[str]) -> IntArray:
    """A number for each distinct tuple of these columns, ``int64[n]``."""
    n = len(next(iter(columns.values())))
    found = np.zeros(n, dtype=np.int64)
    for name in names:
        codes = columns[name]
        found = np.unique(found * (int(codes.max()) + 1) + codes, return_inverse=True)[1].astype(np.int64)
    return found


def tested(donor_client: IntArray, donor: Mapping[str, IntArray], target: Mapping[str, IntArray]) -> QuasiId:
    """Look for columns that tell the donor's clients apart, and count their tuples in the target."""
    names = own_columns(donor_client, donor)
    mean = len(donor_client) / (int(donor_client.max()) + 1)
    n_rows = len(next(iter(target.values())))
    n_tuples = int(tuples_of(target, names).max()) + 1 if names else 0
    return QuasiId(names, n_tuples, n_rows / mean)
