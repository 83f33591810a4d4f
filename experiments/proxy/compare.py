"""Proxies against the true partition; usage: compare.py REPORT.md FOLDER [DATA_SET …].

Half of a data set's clients are the donor. The rows of the other half lose their ids, are partitioned by each method,
and held against their true partition: in the closeness card, and in the loss of the model that clients of it train.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import t

import fedsim
from fedsim.data.proxy.closeness import card, ranges_of
from fedsim.data.proxy.frame import frame_of
from fedsim.data.proxy.generate import Asked, Made, generated
from fedsim.data.proxy.statistics import rows_of, statistics_of, told
from fedsim.files import write_json, write_text

DATA = Path(os.environ.get("FEDSIM_DATASETS", "../shared/data/datasets"))
SEEDS = (0, 1, 2, 3)
EARLY, LATE = 5, 25
TRUE, UNDEFINED = "the true clients", "not defined"


@dataclass(frozen=True)
class Case:
    """A data set: all rows with ``who`` and ``part`` (train, test); what is looked at; what is trained."""

    rows: Callable[[], pd.DataFrame]
    label: str | None
    features: Sequence[str]
    overrides: Sequence[str]
    keeps_ids: bool = False  # its features tell people apart: the proxy groups by them


def mnist() -> pd.DataFrame:
    """Digits with their writers; 3,000 of unseen writers are the test."""
    with np.load(DATA / "mnist_by_writer" / "mnist_by_writer.npz") as file:
        images, part = file["images"], np.where(file["is_test"], "test", "train")
        rows = pd.DataFrame({"image": [each.tobytes() for each in images], "digit": file["label"].astype(int)})
        rows["pixels"] = list(images.reshape(len(images), -1)[:, ::4].astype(np.float32))
        return _with_test(rows.assign(who=file["writer"], part=part))


def kuairand() -> pd.DataFrame:
    """Impressions up to 4 May 2022; later ones are the test."""
    folder = DATA / "kuairand_feed"
    rows = pd.read_parquet(folder / "impressions.parquet").merge(
        pd.read_parquet(folder / "users.parquet"), on="user_id"
    )
    rows = rows.merge(pd.read_parquet(folder / "videos.parquet")[["video_id", "tag", "video_type"]], on="video_id")
    rows["hour"], rows["duration"] = rows["hourmin"] // 100, np.round(2 * np.log2(rows["duration_ms"].clip(lower=1)))
    part = np.where(rows["date"] <= 20220504, "train", "test")
    names = ["is_click", *FEED]
    return _with_test(rows[names].assign(who=rows["user_id"], part=part))


def irc() -> pd.DataFrame:
    """Messages; the last tenth are the test."""
    rows = pd.read_parquet(DATA / "ubuntu_irc" / "messages.parquet").sort_values("minute_utc", kind="stable")
    part = np.where(np.arange(len(rows)) < 0.9 * len(rows), "train", "test")
    return _with_test(rows[["text"]].assign(who=rows["client_id"], part=part))


def _with_test(rows: pd.DataFrame) -> pd.DataFrame:
    test = rows[rows["part"] == "test"].sample(3000, random_state=0)
    return pd.concat([rows[rows["part"] == "train"], test], ignore_index=True)


CONTEXT = ("tab", "hour", "duration", "tag", "video_type")
USER = ("user_active_degree", "register_days_range", "fans_user_num_range", "onehot_feat1", "onehot_feat6")
FEED = (*CONTEXT, *USER)
CATEGORIES = f"data.features={{all: {{kind: category, column: [{','.join(FEED)}]}}}}"
TEXT = "data.features={text: {kind: text, column: text, length: 12, coding: frequent, size: 1000}}"
CASES = {
    "mnist_by_writer": Case(
        mnist, "digit", ("pixels",),
        ("data.label=digit", "data.features={image: {kind: image, column: image, shape: [28, 28]}}",
         "training.loss=cross_entropy", "training.metrics=[log_loss]", "training.local.learning_rate=0.05"),
    ),
    "kuairand_feed": Case(
        kuairand, "is_click", FEED,
        ("data.label=is_click", CATEGORIES, "model=clicks", "training.loss=binary_cross_entropy",
         "training.metrics=[log_loss]", "training/server_optimizer=fedadam"),
    ),
    "ubuntu_irc": Case(
        irc, None, ("text",),
        ("data.label={kind: next_token}", TEXT, "model=gru_words", "model.module.n_hidden=32",
         "model.module.n_factors=16", "training=loop", "training.metrics=[log_loss]",
         "training.local.learning_rate=1.0",
         "training.local.max_examples=50", "training/server_optimizer=fedadam"),
    ),
}  # fmt: skip


def main(report: Path, folder: Path, names: Sequence[str]) -> None:
    """Write a table for each data set."""
    parts = []
    for name in names or CASES:
        parts.append(of_case(name, CASES[name], folder / name))
        write_text(report, "\n\n".join([*parts, _NOTE]) + "\n")


_NOTE = (
    "Ranges: least and most of 20 random splits of the true clients into halves; **bold** lies inside. Losses:"
    f" held-out, after {EARLY} and {LATE} rounds of 30 clients, mean and interval over {len(SEEDS)} seeds, which share"
    " the draws of phones; bold lies within the truth's interval."
)


def of_case(name: str, case: Case, folder: Path) -> str:
    """Partition the half without ids by each method, and measure."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = case.rows()
    train, test = rows[rows["part"] == "train"], rows[rows["part"] == "test"]
    people = np.random.default_rng(0).permutation(train["who"].unique())
    is_donor = train["who"].isin(people[: len(people) // 2])
    for table, part in (("donor", train[is_donor]), ("true", train[~is_donor])):
        part.drop(columns="part").to_parquet(folder / f"{table}.parquet")
    target = train[~is_donor].drop(columns=["part", "who"])
    target.to_parquet(folder / "target.parquet")
    donor, embedder = frame_of(str(folder / "donor.parquet"), client="who", label=case.label, features=case.features)
    true, _ = frame_of(
        str(folder / "true.parquet"), client="who", label=case.label, features=case.features, embedder=embedder
    )
    write_json(folder / "stats.json", told(statistics_of(donor)))
    ids = {TRUE: true.client} | _partitions(case, folder, n_clients=len(people) - len(people) // 2)
    lines = [f"## {name}", "", f"{len(people) // 2:,} donor clients, {len(target):,} rows without ids.", ""]
    table: list[list[str]] = []
    ranges = ranges_of(rows_of(true), seed=0)
    truth = None
    for method, client in ids.items():
        made = type(rows_of(true))(client, true.label, true.embedding)
        found = card(made, rows_of(true), ranges, seed=0)
        losses = _losses(target.assign(who=client), test, case, folder / f"partition-{len(table)}")
        truth = truth or (found, losses)
        table.append([method, *_cells(found), *_loss_cells(losses, truth[1])])
    assert truth is not None
    ranges = [UNDEFINED if line.is_within is None else f"{line.low:.3f} … {line.high:.3f}" for line in truth[0]]
    head = ["partition", *(line.name for line in truth[0]), f"loss at {EARLY}", f"loss at {LATE}"]
    table.insert(0, ["*two real halves*", *ranges, "", ""])
    lines += [_row(head), _row(["---"] * len(head)), *map(_row, table)]
    print("\n".join(lines))
    return "\n".join(lines)


def _partitions(case: Case, folder: Path, *, n_clients: int) -> dict[str, np.ndarray]:
    target = str(folder / "target.parquet")
    labelled = {"label": case.label} if case.label else {}
    asked: dict[str, Asked] = {"iid, equal sizes": Asked(target, "iid", n_clients=n_clients)}
    if case.label:
        asked["Dirichlet(0.5) labels, the custom"] = Asked(target, "dirichlet", label=case.label, n_clients=n_clients)
    fitted = Asked(target, "proxy", **labelled, donor=str(folder / "stats.json"))
    asked["sizes and labels fitted (statistics file)"] = fitted
    asked["proxy: transport"] = Asked(
        target, "proxy", **labelled, features=case.features, client="who", donor=str(folder / "donor.parquet")
    )
    found: dict[str, np.ndarray] = {}
    for name, one in asked.items():
        made: Made = generated(one)
        print(name, *made.remarks)
        found[name] = made.client
    return found


def _losses(train: pd.DataFrame, test: pd.DataFrame, case: Case, folder: Path) -> dict[int, list[float]]:
    """Held-out loss after few and many rounds, by seed."""
    table = pd.concat([train.assign(part="train"), test.assign(who=-1)], ignore_index=True)
    folder.mkdir(exist_ok=True)
    table.to_parquet(folder / "rows.parquet")
    found: dict[int, list[float]] = {EARLY: [], LATE: []}
    for seed in SEEDS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            run = fedsim.simulate(
                "experiment=smoke", "data=table", f"data.path={folder / 'rows.parquet'}", "data.client=who",
                "data.held_out={by: where, value: {part: test}}", *case.overrides, f"seed={seed}", "data.seed=0",
                "server.report_goal=30", f"stop.max_steps={LATE}", f"evaluation.every_steps={EARLY}", "force=true",
                folder=folder / f"run-{seed}",
            )  # fmt: skip
        loss = run.evals.query("metric == 'log_loss'").set_index("version")["value"]
        for at, values in found.items():
            values.append(float(loss[at]))
    return found


def _cells(found: Sequence) -> list[str]:
    told = {True: "**{:.3f}**", False: "{:.3f}", None: UNDEFINED}
    return [told[line.is_within].format(line.proxy) for line in found]


def _loss_cells(losses: dict[int, list[float]], true: dict[int, list[float]]) -> list[str]:
    cells = []
    for at, values in losses.items():
        mean, half = _interval(values)
        center, width = _interval(true[at])
        text = f"{mean:.3f} ± {half:.3f}"
        cells.append(f"**{text}**" if abs(mean - center) <= width else text)
    return cells


def _interval(values: Sequence[float]) -> tuple[float, float]:
    half = t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return float(np.mean(values)), float(half)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
