"""What the clients of a table are like, as a page to forward: sizes, labels, skew."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fedsim.data.proxy.measures import Rows, sizes_of
from fedsim.data.proxy.statistics import Statistics
from fedsim.report import data_plots as plots
from fedsim.report.exhibit import Exhibit, Page, write_page
from fedsim.report.words import UNKNOWN
from fedsim.units import IntArray

_MEANING = (
    "Share of the variance that lies between clients: 0 is chance, 1 is a client for each value, below 0 clients are"
    " more alike than chance."
)


def write_data_page(path: Path, found: Statistics, rows: Rows, *, table: str) -> Path:
    """Write the page and return its path."""
    n = sizes_of(rows)
    mean = f"{found.size_mean:,.4g}"
    page = Page(
        kind="fedsim data stats",
        title=f"Clients of {table}",
        lead=f"{found.n_clients:,} clients hold {found.n_rows:,} rows: {mean} on average, {found.size_most:,} at most.",
        tiles=[
            ("clients", f"{found.n_clients:,}", ""),
            (
                "rows of the median client",
                f"{found.size_quantiles['0.5']:,.0f}",
                f"mean {mean}, sd {found.size_sd:,.4g}",
            ),
            ("label ICC", _number(found.label_icc), "labels that go with clients"),
            ("feature ICC", _number(found.feature_icc), "features that go with clients"),
        ],
        sections=[("How much clients hold", _sizes(found, rows)), ("What they hold", _labels(found, rows, n))],
        facts=_facts(found),
    )
    return write_page(path, page)


def _sizes(found: Statistics, rows: Rows) -> list[Exhibit]:
    n = sizes_of(rows)
    quantiles = [(f"{float(q):.0%}", f"{value:,.0f}") for q, value in found.size_quantiles.items()]
    tenth = np.sort(n)[::-1][: max(1, len(n) // 10)].sum() / n.sum()
    return [
        Exhibit(
            "Rows of a client", "On a logarithmic axis.", plots.sizes(n), ("of clients hold at most", "rows"), quantiles
        ),
        Exhibit("Who holds the rows", f"The largest tenth of the clients holds {tenth:.0%} of them.", plots.held_by(n)),
    ]


def _labels(found: Statistics, rows: Rows, n: IntArray) -> list[Exhibit]:
    if found.n_labels < 2:
        return [Exhibit("Labels", "Not drawn: no label was named (--label COLUMN).")]
    frequent = np.bincount(rows.label).argmax()
    is_label = (rows.label == frequent).astype(np.float64)
    shares = np.bincount(rows.client, weights=is_label, minlength=len(n)) / np.maximum(n, 1)
    dealt = np.random.default_rng(0).permutation(is_label)
    expected = np.bincount(rows.client, weights=dealt, minlength=len(n)) / np.maximum(n, 1)
    several = np.asarray(n) >= 5
    name = next(iter(found.labels))
    table = [(label, f"{share:.1%}") for label, share in list(found.labels.items())[:12]]
    caption = f"The most frequent label is {name!r}; clients of five rows and more. Wider than chance: skew."
    drawn = plots.label_shares(shares[several], expected[several], name=name) if several.any() else None
    return [Exhibit("Labels over clients", caption, drawn, ("label", "of all rows"), table)]


def _facts(found: Statistics) -> list[tuple[str, str]]:
    return [
        ("label ICC", f"{_number(found.label_icc)}. {_MEANING}"),
        ("feature ICC", f"{_number(found.feature_icc)}, of the features' embedding without what the label tells."),
        ("size and label", f"Spearman's correlation {_number(found.size_label_spearman)}"),
        ("time", UNKNOWN if found.days is None else f"{found.days:.1f} days from the first row to the last"),
    ]


def _number(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.3f}"
