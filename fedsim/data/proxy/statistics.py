"""What a partition is like, in numbers that may be shared: sizes, labels, skew. Never a row, never an id."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fedsim.data.proxy.assign import polya_alpha
from fedsim.data.proxy.frame import Frame
from fedsim.data.proxy.measures import QUANTILES, Rows, icc, one_hot, size_and_label, sizes_of, style
from fedsim.errors import InputError
from fedsim.files import read_json
from fedsim.units import DAY_S

SCHEMA = 1
_STEPS = 200  # of the sizes' quantiles
_MOST_LABELS = 50  # told one by one


@dataclass(frozen=True)
class Statistics:
    """Of one partition; null is what cannot be known. ``sizes`` are quantiles in even steps from 0 to 1."""

    schema: int
    n_rows: int
    n_clients: int
    size_mean: float
    size_sd: float
    size_quantiles: dict[str, float]
    size_most: int
    sizes: list[float]
    n_labels: int
    labels: dict[str, float]  # shares of the most frequent
    label_icc: float | None
    label_alpha: list[float] | None  # of the Dirichlet-multinomial law, one for each label in ascending order
    feature_icc: float | None
    size_label_spearman: float | None
    days: float | None  # from the first row to the last


def rows_of(frame: Frame) -> Rows:
    """A table with ids as a partition."""
    if frame.client is None:
        raise InputError("the table has no column of clients", allowed="--client COLUMN")
    return Rows(frame.client, frame.label, frame.embedding)


def statistics_of(frame: Frame, *, time_unit_s: float = 1.0) -> Statistics:
    """Of a table with ids, whose times are in ``time_unit_s``.

    Raises :class:`InputError` for a single client, of whom nothing can be told apart.
    """
    rows = rows_of(frame)
    if rows.n_clients < 2:
        raise InputError("clients of the table", value=rows.n_clients, allowed="2 and more")
    sizes = sizes_of(rows)
    n_labels = len(frame.labels)
    shares = np.bincount(rows.label, minlength=n_labels) / len(rows.label)
    frequent = np.argsort(-shares, kind="stable")[:_MOST_LABELS]
    has_labels, has_features = n_labels > 1, bool(np.ptp(frame.embedding, axis=0).any())
    return Statistics(
        schema=SCHEMA,
        n_rows=len(rows.client),
        n_clients=rows.n_clients,
        size_mean=float(sizes.mean()),
        size_sd=float(sizes.std()),
        size_quantiles={f"{q:g}": float(np.quantile(sizes, q, method="inverted_cdf")) for q in QUANTILES},
        size_most=int(sizes.max()),
        sizes=np.quantile(sizes, np.linspace(0, 1, _STEPS + 1)).tolist(),
        n_labels=n_labels,
        labels={str(frame.labels[k]): float(shares[k]) for k in frequent},
        label_icc=_known(icc(rows.client, one_hot(rows.label))) if has_labels else None,
        label_alpha=polya_alpha(rows.client, rows.label, n_classes=n_labels).tolist() if 1 < n_labels <= 1000 else None,
        feature_icc=_known(icc(rows.client, style(rows))) if has_features else None,
        size_label_spearman=_known(size_and_label(rows)) if has_labels else None,
        days=None if frame.time is None else float(np.ptp(frame.time)) * time_unit_s / DAY_S,
    )


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def told(statistics: Statistics) -> dict[str, Any]:
    """For JSON."""
    return asdict(statistics)


def read_statistics(path: Path) -> Statistics:
    """From a file of :func:`told`; another schema or a missing key is an :class:`InputError`."""
    found = read_json(path, "statistics of a partition")
    names = set(Statistics.__dataclass_fields__)
    if not isinstance(found, Mapping) or found.get("schema") != SCHEMA:
        value = found.get("schema") if isinstance(found, Mapping) else found
        raise InputError("statistics of a partition have another schema", value=value, where=path, allowed=SCHEMA)
    if found.keys() != names:
        wrong = sorted(names ^ found.keys())[0]
        raise InputError("statistics of a partition lack a key, or have another one", value=wrong, where=path)
    return Statistics(**found)
