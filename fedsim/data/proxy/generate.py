"""From a table and what is asked to whose each row is: customary partitions, and proxies fitted to a donor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from fedsim.data.partition import dirichlet
from fedsim.data.proxy.assign import (
    at_random,
    by_shards,
    by_skew,
    clusters_of,
    sizes_empirical,
    sizes_equal,
    sizes_lognormal,
    sizes_zipf,
)  # fmt: skip
from fedsim.data.proxy.frame import Embedder, Frame, frame_of
from fedsim.data.proxy.measures import Rows, style
from fedsim.data.proxy.quasi import QuasiId, tested, tuples_of
from fedsim.data.proxy.statistics import Statistics, read_statistics
from fedsim.data.proxy.transport import transported
from fedsim.data.table.reading import files_of
from fedsim.data.table.rows import Ids
from fedsim.errors import InputError
from fedsim.units import DAY_S, IntArray

Method = Literal["natural", "iid", "dirichlet", "skew", "shards", "clusters", "proxy"]
METHODS: tuple[Method, ...] = ("natural", "iid", "dirichlet", "skew", "shards", "clusters", "proxy")
MOST_ROWS = 3_000_000  # that transport holds at once, with the embedding of each


@dataclass(frozen=True)
class Asked:
    """A partition of a table: the method and what it needs.

    ``sizes`` is equal, lognormal:SIGMA, zipf:EXPONENT or a statistics file, whose clients' sizes they are; of
    ``natural`` clients each stretch of ``every_days`` of ``time`` (in ``time_unit_s``) is one; ``donor`` a table with
    ids (and their column ``client``), or a statistics file; ``alpha`` of the Dirichlet laws, ``per_client`` shards,
    ``n_clusters``.
    """

    table: str
    method: Method
    label: str | None = None
    features: Sequence[str] = ()
    client: str | None = None
    n_clients: int | None = None
    sizes: str = "equal"
    alpha: float = 0.5
    per_client: int = 2
    n_clusters: int = 20
    donor: str | None = None
    time: str | None = None
    every_days: float | None = None
    time_unit_s: float = 1.0
    seed: int = 0


@dataclass(frozen=True)
class Made:
    """Whose each row is, and lines for the user of how that came about."""

    client: IntArray
    remarks: tuple[str, ...] = ()


def generated(asked: Asked) -> Made:
    """Whose each row of the table is. Raises :class:`InputError` for what the method lacks or cannot do."""
    if asked.method == "proxy":
        return _proxy(asked)
    needs_features = asked.method == "clusters"
    if asked.method in ("dirichlet", "skew", "shards") and asked.label is None:
        raise InputError(f"--by {asked.method} needs a label", allowed="--label COLUMN")
    if needs_features and not asked.features:
        raise InputError("--by clusters needs features", allowed="--features COLUMN,COLUMN")
    of_client = asked.client if asked.method == "natural" else None
    if asked.method == "natural" and asked.client is None:
        raise InputError("--by natural needs the clients", allowed="--client COLUMN")
    if (asked.every_days is None) != (asked.time is None) or (asked.time and asked.method != "natural"):
        raise InputError("--every-days and --time go together, with --by natural", value=asked.every_days)
    features = asked.features if needs_features else ()
    frame, _ = frame_of(asked.table, client=of_client, label=asked.label, features=features, time=asked.time)
    return Made(_customary(asked, frame))


def _customary(asked: Asked, frame: Frame) -> IntArray:
    if asked.method == "natural":
        return _ids(frame) if frame.time is None else _by_stretches(asked, frame)
    if asked.sizes.endswith(".json"):
        sizes = sizes_empirical(frame.n, np.array(read_statistics(Path(asked.sizes)).sizes), seed=asked.seed)
        return _at_sizes(asked, frame, sizes)
    n_clients = _n_clients(asked, frame.n)
    if asked.method == "shards":
        return by_shards(frame.label, n_clients, per_client=asked.per_client, seed=asked.seed)
    if asked.method == "dirichlet":
        order, offsets = dirichlet(frame.label, n_clients=n_clients, alpha=asked.alpha, min_examples=1, seed=asked.seed)
        client = np.empty(frame.n, dtype=np.int64)
        client[order] = np.repeat(np.arange(n_clients), np.diff(offsets))
        return client
    return _at_sizes(asked, frame, _sizes(asked, frame.n, n_clients))


def _at_sizes(asked: Asked, frame: Frame, sizes: IntArray) -> IntArray:
    if asked.method in ("dirichlet", "shards"):
        raise InputError(
            f"--by {asked.method} has sizes of its own", value=asked.sizes, allowed="--by iid, skew, clusters"
        )
    if asked.method == "iid":
        return at_random(sizes, seed=asked.seed)
    label, n_classes = frame.label, len(frame.labels)
    if asked.method == "clusters":
        label, n_classes = clusters_of(frame.embedding, asked.n_clusters, seed=asked.seed), asked.n_clusters
    return by_skew(label, sizes, np.full(n_classes, asked.alpha), seed=asked.seed)


def _by_stretches(asked: Asked, frame: Frame) -> IntArray:
    """A client for each of the ids in each stretch of time in which it has a row."""
    assert frame.time is not None and asked.every_days is not None
    stretch = np.floor((frame.time - frame.time.min()) * asked.time_unit_s / (asked.every_days * DAY_S)).astype(
        np.int64
    )
    number = _ids(frame) * (int(stretch.max()) + 1) + stretch
    return np.unique(number, return_inverse=True)[1].astype(np.int64)


def _n_clients(asked: Asked, n_rows: int) -> int:
    if asked.n_clients is None:
        raise InputError(f"--by {asked.method} needs the number of clients", allowed="--clients N")
    if not 2 <= asked.n_clients <= n_rows:
        raise InputError("--clients", value=asked.n_clients, allowed=f"2 to {n_rows:,}, the rows of the table")
    return asked.n_clients


def _sizes(asked: Asked, n_rows: int, n_clients: int) -> IntArray:
    law, _, number = asked.sizes.partition(":")
    try:
        value = float(number) if number else 0.0
    except ValueError as error:
        raise InputError("--sizes", value=asked.sizes, allowed=_LAWS) from error
    if law == "equal" and not number:
        return sizes_equal(n_rows, n_clients)
    if law == "lognormal" and 0 < value <= 10:
        return sizes_lognormal(n_rows, n_clients, sigma=value, seed=asked.seed)
    if law == "zipf" and 0 < value <= 10:
        return sizes_zipf(n_rows, n_clients, exponent=value)
    raise InputError("--sizes", value=asked.sizes, allowed=_LAWS)


_LAWS = "equal, lognormal:SIGMA, zipf:EXPONENT (numbers above 0 up to 10), or STATS.json"


def _proxy(asked: Asked) -> Made:
    if asked.donor is None:
        raise InputError("--by proxy needs a donor", allowed="--donor TABLE --client COLUMN, or --donor STATS.json")
    if asked.donor.endswith(".json") and "users" not in Path(asked.donor).read_text(encoding="utf-8")[:1000]:
        return _from_statistics(asked, read_statistics(Path(asked.donor)))
    if asked.client is None:
        raise InputError("a donor needs ids", value=asked.donor, allowed="--client COLUMN of the donor")
    donor, embedder = frame_of(asked.donor, client=asked.client, label=asked.label, features=asked.features)
    rows = Rows(_ids(donor), donor.label, donor.embedding)
    if rows.n_clients < 2:
        raise InputError("clients of the donor", value=rows.n_clients, allowed="2 and more", where=asked.donor)
    found, codes = _quasi_id(asked, rows)
    if found.tells_clients:
        told = f"{', '.join(found.columns)}: {found.n_tuples:,} values for about {found.n_expected:,.0f} clients"
        warning = f"the table gives its ids back ({told}): it is personal data; its rows are grouped by them"
        return Made(tuples_of(codes, found.columns), (warning,))
    return Made(_by_transport(asked, donor, embedder))


def _ids(frame: Frame) -> IntArray:
    assert frame.client is not None
    return frame.client


def _by_transport(asked: Asked, donor: Frame, embedder: Embedder) -> IntArray:
    target, _ = frame_of(asked.table, client=None, label=asked.label, features=asked.features, embedder=embedder)
    if target.n > MOST_ROWS:
        allowed = f"up to {MOST_ROWS:,} rows, which are held in memory; or --donor STATS.json of the donor"
        raise InputError("rows of the target", value=target.n, where=asked.table, allowed=allowed)
    label = _as_donors(target, donor)
    both = Rows(
        np.zeros(donor.n + target.n, dtype=np.int64),
        np.concatenate([donor.label, label]),
        np.concatenate([donor.embedding, target.embedding]),
    )
    styled = style(both)
    rows = Rows(_ids(donor), donor.label, styled[: donor.n])
    return transported(rows, label, styled[donor.n :], seed=asked.seed)


def _as_donors(target: Frame, donor: Frame) -> IntArray:
    """The target's labels as the donor numbers them."""
    place = np.searchsorted(donor.labels, target.labels)
    known = np.take(donor.labels, np.minimum(place, len(donor.labels) - 1)) == target.labels
    if not known.all():
        value = target.labels[~known][0]
        raise InputError("the target has a label that the donor lacks", value=str(value), allowed="the donor's labels")
    return place[target.label]


def _from_statistics(asked: Asked, statistics: Statistics) -> Made:
    """Sizes and label skew of a donor of which only statistics are known; its features' skew is not carried over."""
    frame, _ = frame_of(asked.table, client=None, label=asked.label, features=())
    sizes = sizes_empirical(frame.n, np.array(statistics.sizes), seed=asked.seed)
    remark = "features are dealt out at random: statistics of a donor do not carry their skew"
    icc = statistics.label_icc
    if asked.label is None or statistics.label_alpha is None or icc is None or icc <= 0:
        return Made(
            at_random(sizes, seed=asked.seed), (remark, "labels too: the donor's have no skew, or it is not known")
        )
    if len(statistics.label_alpha) != len(frame.labels):
        raise InputError(
            "labels of the table", value=len(frame.labels), allowed=f"{statistics.n_labels}, as the donor's"
        )
    return Made(by_skew(frame.label, sizes, np.array(statistics.label_alpha), seed=asked.seed), (remark,))


def _quasi_id(asked: Asked, donor: Rows) -> tuple[QuasiId, dict[str, IntArray]]:
    """Whether the target's features tell people apart, and its codes of the features that are no measurements."""
    both = [_codes(path, asked.features) for path in (str(asked.donor), asked.table)]
    return tested(donor.client, *both), both[1]


def _codes(path: str, features: Sequence[str]) -> dict[str, IntArray]:
    ids = {name: Ids(name) for name in features}
    parts: dict[str, list[Any]] = {name: [] for name in features}
    for where, batch in files_of(path).batches(dict.fromkeys(features), n_rows=65_536):
        for name, column in batch.items():
            if not isinstance(column, np.ndarray) and not pa.types.is_nested(column.type):
                parts[name].append(ids[name].of(column.cast("string").fill_null(""), where))
    found = {name: np.concatenate(part) for name, part in parts.items() if part}
    return found or {"": np.zeros(1, dtype=np.int64)}
