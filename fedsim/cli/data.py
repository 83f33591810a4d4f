"""``fedsim data partition|stats|closeness``: the work behind the command line."""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import asdict
from pathlib import Path

from fedsim.data.proxy.closeness import HALVES, Line, card, ranges_of
from fedsim.data.proxy.frame import frame_of
from fedsim.data.proxy.generate import Asked, generated
from fedsim.data.proxy.statistics import Statistics, rows_of, statistics_of, told
from fedsim.data.proxy.write import CLIENT, ROWS, write_partition
from fedsim.errors import InputError
from fedsim.files import write_json
from fedsim.folders import require_new
from fedsim.report.data_page import write_data_page


def partition(arguments: argparse.Namespace) -> None:
    """Write the partition, and say how many clients it has."""
    if not arguments.force:
        require_new(arguments.out, option=", or --force")
    _check(arguments)
    asked = Asked(
        table=_table(arguments.table), method=arguments.by, label=arguments.label, features=_listed(arguments.features),
        client=arguments.client, n_clients=arguments.clients, sizes=arguments.sizes, alpha=arguments.alpha,
        per_client=arguments.per_client, n_clusters=arguments.clusters, donor=arguments.donor, time=arguments.time,
        every_days=arguments.every_days, time_unit_s=_UNITS_S[arguments.time_unit], seed=arguments.seed,
    )  # fmt: skip
    drop = _listed(arguments.drop)
    made = generated(asked)
    for line in made.remarks:
        print(f"fedsim: {line}", file=sys.stderr)
    n_clients = int(made.client.max()) + 1
    if n_clients < 2:
        raise InputError("clients of the partition", value=n_clients, allowed="2 and more", where=arguments.table)
    facts = {**asdict(asked), "features": list(asked.features), "n_clients": n_clients, "n_rows": len(made.client)}
    write_partition(arguments.out, asked.table, made.client, facts | {"remarks": list(made.remarks)}, drop=drop)
    print(f"{arguments.out / ROWS}: {len(made.client):,} rows of {n_clients:,} clients in the column {CLIENT}")


def _check(arguments: argparse.Namespace) -> None:
    for name, low, high in (("alpha", 1e-6, 1e6), ("per_client", 1, 1000), ("clusters", 2, 10_000)):
        if not low <= getattr(arguments, name) <= high:
            option = f"--{name.replace('_', '-')}"
            raise InputError(option, value=getattr(arguments, name), allowed=f"{low:g} to {high:g}")
    if arguments.every_days is not None and not 1e-4 <= arguments.every_days <= 1e5:
        raise InputError("--every-days", value=arguments.every_days, allowed="0.0001 to 100,000")
    if arguments.seed < 0:
        raise InputError("--seed", value=arguments.seed, allowed="0 and more")


def stats(arguments: argparse.Namespace) -> None:
    """Print what the clients are like; with ``--out`` write it as JSON and as a page."""
    frame, _ = frame_of(
        _table(arguments.table), client=arguments.client, label=arguments.label,
        features=_listed(arguments.features), time=arguments.time,
    )  # fmt: skip
    found = statistics_of(frame, time_unit_s=_UNITS_S[arguments.time_unit])
    print(_text(found))
    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
        write_json(arguments.out / "stats.json", told(found))
        print(write_data_page(arguments.out / "stats.html", found, rows_of(frame), table=Path(arguments.table).name))


_UNITS_S = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}


def closeness(arguments: argparse.Namespace) -> None:
    """Print the closeness card."""
    features = _listed(arguments.features)
    true, embedder = frame_of(_table(arguments.true), client=arguments.client, label=arguments.label, features=features)
    proxy, _ = frame_of(
        _table(arguments.proxy), client=arguments.proxy_client, label=arguments.label, features=features,
        embedder=embedder,
    )  # fmt: skip
    unlike = [str(one) for one in {*true.labels.tolist()} ^ {*proxy.labels.tolist()}]
    if unlike:
        raise InputError("labels of the two tables differ", value=sorted(unlike)[0], allowed="the same in both")
    ranges = ranges_of(rows_of(true), seed=arguments.seed)
    print(card_text(card(rows_of(proxy), rows_of(true), ranges, seed=arguments.seed)))


def card_text(lines: list[Line]) -> str:
    """The closeness card in Markdown."""
    rows = [
        f"| {line.name} | {_number(line.proxy)} | {_number(line.true)} | {_number(line.low)} … {_number(line.high)} "
        f"| {'not defined' if line.is_within is None else 'yes' if line.is_within else 'no'} |"
        for line in lines
    ]
    head = ["| measure | proxy | truth | two real halves | as near as they? |", "| --- | --- | --- | --- | --- |"]
    return "\n".join([*head, *rows, "", f"Two real halves: least and most of {HALVES} random splits of the truth."])


def _text(found: Statistics) -> str:
    quantiles = " · ".join(f"p{float(q) * 100:g} {value:g}" for q, value in found.size_quantiles.items())
    labels = ", ".join(f"{name or repr(name)} {share:.1%}" for name, share in list(found.labels.items())[:10])
    lines = [
        f"{found.n_rows:,} rows of {found.n_clients:,} clients",
        f"rows of a client: mean {found.size_mean:.4g}, sd {found.size_sd:.4g}, most {found.size_most:,}; {quantiles}",
    ]
    if found.n_labels > 1:
        lines.append(f"labels: {labels}{', …' if found.n_labels > 10 else ''}")
        lines.append(
            f"label ICC {_number(found.label_icc)}; size and label, Spearman {_number(found.size_label_spearman)}"
        )
    if found.feature_icc is not None:
        lines.append(f"feature ICC {_number(found.feature_icc)}")
    if found.days is not None:
        lines.append(f"from the first row to the last {found.days:.1f} days")
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "unknown" if value is None or math.isnan(value) else f"{value:.3f}"


def _listed(columns: str) -> list[str]:
    return [name for name in columns.split(",") if name]


def _table(path: str) -> str:
    """The rows of a folder that a partition wrote, else the path itself."""
    return str(Path(path) / ROWS) if (Path(path) / ROWS).is_file() else path
