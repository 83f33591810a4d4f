"""Which rows of a table are held out from training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from fedsim import rng
from fedsim.errors import InputError
from fedsim.units import BoolArray, FloatArray, IntArray

TRAIN = ("train", "training")  # values of a column that tells the parts of a table
WAYS = ("where", "since", "last_fraction", "last_fraction_of_client", "fraction_of_clients", "fraction")
_BY_TIME = ("since", "last_fraction")


@dataclass(frozen=True)
class Split:
    """One of :data:`WAYS` and its value, as ``data.held_out`` has them; or what ``data.split`` and ``data.test`` say.

    where: rows with one of these values in a column (value: ``{split: [valid]}``). since: rows from this time on.
    last_fraction: the latest of all rows. last_fraction_of_client: the latest of each client (its last rows where no
    time is told), all but one at most. fraction_of_clients: all rows of some clients, drawn at random: new people.
    fraction: rows at random. part: rows whose value in this column is not train. file: rows of these files.
    """

    way: str
    value: Any

    @classmethod
    def parse(cls, said: Mapping[str, Any], *, time: str | None) -> Split:
        """From ``data.held_out``: ``by`` and ``value``."""
        if said.keys() != {"by", "value"} or said["by"] not in WAYS:
            raise InputError("data.held_out", value=dict(said), allowed=f"{{by: …, value: …}}, by: {', '.join(WAYS)}")
        way, value = said["by"], said["value"]
        if way == "where" and not (isinstance(value, Mapping) and len(value) == 1):
            raise InputError("data.held_out.value", value=value, allowed="{column: [value, …]} with by: where")
        if "fraction" in way and not (isinstance(value, int | float) and 0 < value < 1):
            raise InputError("data.held_out.value", value=value, allowed=f"between 0 and 1 with by: {way}")
        if way in _BY_TIME and time is None:
            what = f"data.held_out.by: {way} needs data.time"
            raise InputError(what, allowed="the column that tells the time")
        if way == "since":
            value = instant(value)
        return cls(way, value)

    @property
    def column(self) -> str | None:
        """The column whose values are looked at, if any."""
        if self.way == "part":
            return str(self.value)
        return str(next(iter(self.value))) if self.way == "where" else None

    @property
    def values(self) -> set[str]:
        """Its values that are looked for, as texts: those that are held out, of ``part`` those that train."""
        return {*TRAIN} if self.way == "part" else texts_of(next(iter(self.value.values())))

    def held_out(self, client: IntArray, time: FloatArray, is_chosen: BoolArray, *, seed: int) -> BoolArray:
        """Of rows with these clients and times (NaN: not told), and whether ``where`` holds."""
        if self.way in ("where", "file"):
            return is_chosen
        if self.way == "part":
            return ~is_chosen
        if self.way == "since":
            return np.asarray(time >= self.value)
        if self.way == "fraction_of_clients":
            return np.asarray(rng.uniform(seed, "held out client", client) < self.value)
        row = np.arange(len(client))
        if self.way == "fraction":
            return np.asarray(rng.uniform(seed, "held out row", row) < self.value)
        held = np.zeros(len(client), dtype=bool)
        if self.way == "last_fraction":
            held[np.lexsort((row, time))[round((1 - self.value) * len(row)) :]] = True
            return held
        order = np.lexsort((row, time, client))
        n = np.bincount(client)
        place = np.arange(len(row)) - np.repeat(np.cumsum(n) - n, n)
        n_kept = np.maximum(np.floor((1 - self.value) * n + 0.5), 1)
        held[order] = place >= np.repeat(n_kept, n)
        return held


def texts_of(values: Any) -> set[str]:
    """A value or several as the texts that stand in a column."""
    each = values if isinstance(values, list | tuple) else [values]
    return {str(value).lower() if isinstance(value, bool) else str(value) for value in each}


def instant(value: Any) -> float:
    """A time of the configuration as a number: as it stands, or a date or ISO instant as seconds since 1970 in UTC."""
    if isinstance(value, bool):
        raise InputError("data.held_out.value", value=value, allowed="a number or an ISO date")
    if isinstance(value, int | float):
        return float(value)
    try:
        at = datetime.fromisoformat(str(value))
    except ValueError as error:
        raise InputError("data.held_out.value", value=str(value), allowed="a number or an ISO date") from error
    return (at.replace(tzinfo=None) - datetime(1970, 1, 1)).total_seconds() - (at.utcoffset() or _NONE).total_seconds()


_NONE = datetime.min - datetime.min
