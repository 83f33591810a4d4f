"""Partitions and proxies: what is generated, how near it comes, what is measured, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from fedsim.cli.main import main
from fedsim.data.proxy.assign import (
    by_shards,
    by_skew,
    polya_alpha,
    scaled,
    sizes_empirical,
    sizes_lognormal,
    sizes_zipf,
)  # fmt: skip
from fedsim.data.proxy.closeness import card, ranges_of
from fedsim.data.proxy.generate import Asked, generated
from fedsim.data.proxy.measures import Rows, icc, one_hot, size_and_label, style, told_apart
from fedsim.data.proxy.quasi import own_columns, tuples_of
from fedsim.data.proxy.transport import transported
from fedsim.errors import InputError

pytestmark = pytest.mark.slow

# ------------------------------------------------------------------------------------ measures


def icc_by_loops(client: list[int], values: list[float]) -> float:
    """One-way analysis of variance, written out."""
    groups = [[v for c, v in zip(client, values, strict=True) if c == k] for k in sorted(set(client))]
    mean = sum(values) / len(values)
    between = sum(len(g) * (sum(g) / len(g) - mean) ** 2 for g in groups) / (len(groups) - 1)
    within = sum((v - sum(g) / len(g)) ** 2 for g in groups for v in g) / (len(values) - len(groups))
    n_0 = (len(values) - sum(len(g) ** 2 for g in groups) / len(values)) / (len(groups) - 1)
    return (between - within) / (between + (n_0 - 1) * within)


def test_intraclass_correlation_by_hand() -> None:
    client, values = [0, 0, 0, 1, 1, 2, 2, 2, 2], [1.0, 2.0, 1.5, 4.0, 5.0, 2.0, 2.0, 3.0, 1.0]
    expected = icc_by_loops(client, values)
    assert icc(np.array(client), np.array(values)[:, None]) == pytest.approx(expected)
    assert icc(np.array([0, 0, 1, 1]), np.array([[0.0], [0.0], [1.0], [1.0]])) == 1.0
    assert icc(np.array([0, 0, 1, 1]), np.array([[0.0], [1.0], [0.0], [1.0]])) == -1.0  # more alike than chance
    assert np.isnan(icc(np.array([0, 1, 2]), np.ones((3, 1))))


def population(n_clients: int, *, seed: int, leaning: float = 1.0) -> Rows:
    """Clients with sizes, label shares and a style of their own; larger clients have more of label 1."""
    draw = np.random.default_rng(seed)
    sizes = np.clip(draw.lognormal(2.5, 0.8, n_clients).astype(int), 2, 200)
    client = np.repeat(np.arange(n_clients), sizes)
    share = np.clip(0.3 + leaning * (0.2 * np.log(sizes / 12) / 2 + draw.normal(0, 0.2, n_clients)), 0.02, 0.98)
    label = (draw.random(len(client)) < share[client]).astype(int)
    own = leaning * draw.normal(size=(n_clients, 3))
    embedding = own[client] + draw.normal(size=(len(client), 3)) + 2 * label[:, None]
    return Rows(client, label, embedding.astype(np.float32))


def test_style_is_what_the_label_does_not_tell() -> None:
    rows = population(50, seed=1)
    found = style(rows)
    assert np.abs(found[rows.label == 1].mean(axis=0)).max() < 1e-5
    assert icc(rows.client, found) > 0.3


def test_the_classifier_tells_unlike_clients_apart_and_like_ones_not() -> None:
    one, other = population(300, seed=1), population(300, seed=2)
    assert told_apart(one, other, seed=0) == pytest.approx(0.5, abs=0.08)
    assert told_apart(one, population(300, seed=3, leaning=0.2), seed=0) > 0.9


# ------------------------------------------------------------------------------------ laws


def test_sizes_add_up_and_follow_their_law() -> None:
    assert scaled(np.array([1.0, 2.0, 7.0]), 23).tolist() == [3, 5, 15]
    assert scaled(np.array([1.0, 1e9]), 5).tolist() == [1, 4]
    lognormal = sizes_lognormal(200_000, 2_000, sigma=0.9, seed=0)
    assert lognormal.sum() == 200_000 and lognormal.min() >= 1
    assert np.log(lognormal).std() == pytest.approx(0.9, abs=0.05)
    zipf = sizes_zipf(100_000, 100, exponent=1.3)
    assert zipf.sum() == 100_000 and zipf[0] / zipf[9] == pytest.approx(10**1.3, rel=0.02)
    quantiles = np.quantile(np.array([1, 1, 2, 4, 40]), np.linspace(0, 1, 201))
    found = sizes_empirical(10_000, quantiles, seed=0)
    assert found.sum() == 10_000 and np.quantile(found, 0.5) == pytest.approx(2, abs=1)
    with pytest.raises(InputError, match=r"more clients than rows: 3 .allowed: at most 2"):
        scaled(np.ones(3), 2)


def test_label_skew_is_drawn_as_asked_and_fitted_again() -> None:
    draw = np.random.default_rng(0)
    label = (draw.random(60_000) < 0.3).astype(int) + 2 * (draw.random(60_000) < 0.2)
    sizes = np.full(600, 100)
    alpha = 2.0 * np.bincount(label) / len(label) * 4
    client = by_skew(label, sizes, alpha, seed=0)
    assert np.bincount(client).tolist() == sizes.tolist()
    assert polya_alpha(client, label, n_classes=4) == pytest.approx(alpha, rel=0.15)
    flat = by_skew(label, sizes, np.full(4, 1e4), seed=0)
    assert icc(flat, one_hot(label)) < 0.02 < icc(client, one_hot(label))


def test_shards_have_few_classes() -> None:
    label = np.repeat(np.arange(10), 100)
    client = by_shards(label, 50, per_client=2, seed=0)
    assert np.bincount(client).tolist() == [20] * 50
    assert max(len(np.unique(label[client == each])) for each in range(50)) <= 2


# ------------------------------------------------------------------------------------ proxies


def test_transport_brings_back_what_ids_told() -> None:
    donor, true = population(250, seed=4), population(250, seed=5)
    client = transported(donor, true.label, true.embedding, seed=0, chunk=400)
    proxy, dealt = (
        Rows(client, true.label, true.embedding),
        Rows(np.random.default_rng(1).permutation(true.client), true.label, true.embedding),
    )
    ranges = ranges_of(true, seed=0, n_halves=6)
    near, far = ({line.name: line for line in card(each, true, ranges, seed=0)} for each in (proxy, dealt))
    assert near["label ICC"].is_within and near["sizes, Kolmogorov and Smirnov"].proxy < 0.15
    assert not far["label ICC"].is_within and far["feature ICC"].proxy < 0.02
    assert near["feature ICC"].proxy > 0.6 * near["feature ICC"].true
    apart = "told apart from the truth, AUC"
    assert near[apart].proxy < far[apart].proxy - 0.1
    assert size_and_label(proxy) == pytest.approx(size_and_label(true), abs=0.2)


def test_the_truth_is_as_near_as_halves_are() -> None:
    true = population(120, seed=4)
    found = card(true, true, ranges_of(true, seed=0, n_halves=4), seed=0)
    assert all(line.is_within for line in found if line.name != "told apart from the truth, AUC")


def test_every_row_is_used_once_and_a_larger_target_takes_whole_clients_again() -> None:
    donor, target = population(20, seed=6), population(90, seed=7)
    client = transported(donor, target.label, target.embedding, seed=0)
    n = np.bincount(client)
    assert n.sum() == len(target.label) and n.min() > 0
    assert len(n) == pytest.approx(20 * len(target.label) / len(donor.label), rel=0.25)
    with pytest.raises(InputError, match="the target has a label that the donor lacks: 9"):
        transported(donor, np.full(5, 9), target.embedding[:5], seed=0)


def test_columns_that_are_a_persons_own() -> None:
    client = np.repeat(np.arange(50), 6)
    columns = {
        "home": client % 7,
        "age": client // 7,
        "day": np.arange(300) % 5,
        "country": np.zeros(300, dtype=np.int64),
    }
    assert own_columns(client, columns) == ("home", "age")
    assert len(np.unique(tuples_of(columns, ("home", "age")))) == 50


# ------------------------------------------------------------------------------------ the command


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tables")
    for name, seed in (("donor", 8), ("true", 9)):
        rows = population(150, seed=seed)
        table = pd.DataFrame({"who": rows.client, "y": rows.label})
        for k in range(3):
            table[f"x{k}"] = rows.embedding[:, k].astype(float)
        table.to_parquet(folder / f"{name}.parquet")
        table.drop(columns="who").to_parquet(folder / f"{name}_without.parquet")
    return folder


PROXY = ["--by", "proxy", "--client", "who", "--label", "y", "--features", "x0,x1,x2"]


def test_a_proxy_by_the_command_line(tables: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    donor, target, out = str(tables / "donor.parquet"), str(tables / "true_without.parquet"), str(tmp_path / "out")
    assert main(["data", "partition", target, out, *PROXY, "--donor", donor]) == 0
    rows = pq.read_table(tmp_path / "out" / "rows.parquet")
    expected = pq.read_table(target)
    assert rows.drop_columns(["client_id"]).equals(expected)  # rows as they were, in their order
    told = json.loads((tmp_path / "out" / "partition.json").read_text())
    assert told["method"] == "proxy" and told["n_clients"] == rows["client_id"].to_numpy().max() + 1
    assert main(["data", "partition", target, str(tmp_path / "again"), *PROXY, "--donor", donor]) == 0
    assert pq.read_table(tmp_path / "again" / "rows.parquet").equals(rows)
    capsys.readouterr()
    words = ["--client", "who", "--label", "y", "--features", "x0,x1,x2"]
    assert main(["data", "closeness", str(tables / "true.parquet"), out, *words]) == 0
    card_lines = capsys.readouterr().out.splitlines()
    assert len(card_lines) == 2 + 6 + 2 and card_lines[2].startswith("| sizes, Kolmogorov and Smirnov | 0.0")


def test_a_statistics_file_stands_for_a_donor(tables: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    donor = str(tables / "donor.parquet")
    words = ["--client", "who", "--label", "y", "--features", "x0,x1,x2", "--out", str(tmp_path / "s")]
    assert main(["data", "stats", donor, *words]) == 0
    said = capsys.readouterr().out
    assert "rows of 150 clients" in said and "label ICC 0." in said
    page = (tmp_path / "s" / "stats.html").read_text()
    assert "Rows of a client" in page and page.count("<svg") == 3
    target = str(tables / "true_without.parquet")
    asked = Asked(target, "proxy", label="y", donor=str(tmp_path / "s" / "stats.json"))
    made = generated(asked)
    true = pq.read_table(tables / "true.parquet")
    label, who = true["y"].to_numpy(), true["who"].to_numpy()
    assert icc(made.client, one_hot(label)) == pytest.approx(icc(who, one_hot(label)), abs=0.05)
    assert np.median(np.bincount(made.client)) == pytest.approx(np.median(np.bincount(who)), rel=0.25)
    assert "features are dealt out at random" in made.remarks[0]


def test_a_table_that_gives_its_ids_back_is_told(
    tables: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("donor", "true"):
        table = pd.read_parquet(tables / f"{name}.parquet")
        table["street"], table["born"] = (table["who"] * 7919) % 977, table["who"] % 60
        table.to_parquet(tmp_path / f"{name}.parquet")
    words = ["--by", "proxy", "--client", "who", "--label", "y", "--features", "x0,street,born", "--drop", "who"]
    donor, true = str(tmp_path / "donor.parquet"), str(tmp_path / "true.parquet")
    assert main(["data", "partition", true, str(tmp_path / "out"), *words, "--donor", donor]) == 0
    assert "the table gives its ids back (street, born: 150 values for about" in capsys.readouterr().err
    client = pq.read_table(tmp_path / "out" / "rows.parquet")["client_id"].to_numpy()
    who = pd.read_parquet(true)["who"].to_numpy()
    assert len(np.unique(np.stack([client, who]), axis=1).T) == 150  # the true clients, by other numbers


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        (["natural", "--client", "who"], 150),
        (["iid", "--clients", "40", "--sizes", "lognormal:0.7"], 40),
        (["iid", "--clients", "40", "--sizes", "zipf:1.1"], 40),
        (["dirichlet", "--label", "y", "--clients", "60", "--alpha", "0.3"], 60),
        (["skew", "--label", "y", "--clients", "60", "--alpha", "0.3"], 60),
        (["shards", "--label", "y", "--clients", "60"], 60),
        (["clusters", "--features", "x0,x1,x2", "--clients", "60", "--alpha", "0.2", "--clusters", "5"], 60),
    ],
)
def test_customary_partitions(by: list[str], expected: int, tables: Path, tmp_path: Path) -> None:
    assert main(["data", "partition", str(tables / "true.parquet"), str(tmp_path / "out"), "--by", *by]) == 0
    client = pq.read_table(tmp_path / "out" / "rows.parquet")["client_id"].to_numpy()
    assert len(np.unique(client)) == expected == client.max() + 1


def test_sizes_of_another_tables_clients(tables: Path, tmp_path: Path) -> None:
    donor, true = str(tables / "donor.parquet"), tables / "true_without.parquet"
    assert main(["data", "stats", donor, "--client", "who", "--out", str(tmp_path)]) == 0
    asked = Asked(str(true), "iid", sizes=str(tmp_path / "stats.json"))
    sizes = np.bincount(generated(asked).client)
    theirs = np.bincount(pq.read_table(donor)["who"].to_numpy())
    for q in (0.25, 0.5, 0.9):
        assert np.quantile(sizes, q) == pytest.approx(np.quantile(theirs, q), rel=0.2)
    with pytest.raises(InputError, match="--by shards has sizes of its own"):
        generated(Asked(str(true), "shards", label="y", sizes=str(tmp_path / "stats.json")))


def test_each_stretch_of_time_is_a_client(tmp_path: Path) -> None:
    rows = pd.DataFrame({"who": list("aababb"), "ms": [0, 5e7, 2e8, 1e8, 1.9e8, 8e7], "x": range(6)})
    rows.to_parquet(tmp_path / "rows.parquet")
    asked = Asked(str(tmp_path / "rows.parquet"), "natural", client="who", time="ms", every_days=1.0, time_unit_s=1e-3)
    assert generated(asked).client.tolist() == [0, 0, 3, 1, 3, 2]  # a: days 0 and 1 · b: days 0 and 2
    with pytest.raises(InputError, match="--every-days and --time go together"):
        generated(Asked(str(tmp_path / "rows.parquet"), "natural", client="who", every_days=1.0))


BAD: list[tuple[list[str], str]] = [
    (["--by", "proxy"], "--by proxy needs a donor"),
    (["--by", "proxy", "--donor", "DONOR"], "a donor needs ids"),
    (["--by", "proxy", "--donor", "DONOR", "--client", "user"], "table has no column: 'user'"),
    ([*PROXY, "--donor", "OTHER"], "the target has a label that the donor lacks: '1'"),
    ([*PROXY, "--donor", "ALONE"], "clients of the donor: 1"),
    (["--by", "proxy", "--donor", "OLD"], "statistics of a partition have another schema: 0"),
    (["--by", "proxy", "--donor", "LESS"], "statistics of a partition lack a key"),
    (["--by", "iid"], "--by iid needs the number of clients"),
    (["--by", "iid", "--clients", "1"], "--clients: 1"),
    (["--by", "iid", "--clients", "9", "--sizes", "gamma:2"], "--sizes: 'gamma:2' (allowed: equal, lognormal"),
    (["--by", "dirichlet", "--clients", "9"], "--by dirichlet needs a label"),
    (["--by", "skew", "--label", "z", "--clients", "9"], "table has no column: 'z'"),
    (["--by", "skew", "--label", "y", "--clients", "9", "--alpha", "0"], "--alpha: 0.0"),
    (["--by", "natural"], "--by natural needs the clients"),
]


@pytest.mark.parametrize(("words", "expected"), BAD)
def test_bad_input_is_one_line_and_writes_nothing(
    words: list[str], expected: str, tables: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = pd.read_parquet(tables / "donor.parquet")
    table.assign(y=0).to_parquet(tmp_path / "other.parquet")
    table.assign(who=1).to_parquet(tmp_path / "alone.parquet")
    (tmp_path / "old.json").write_text('{"schema": 0}')
    (tmp_path / "less.json").write_text('{"schema": 1}')
    files = {
        "DONOR": tables / "donor.parquet",
        "OTHER": tmp_path / "other.parquet",
        "ALONE": tmp_path / "alone.parquet",
    }
    files |= {"OLD": tmp_path / "old.json", "LESS": tmp_path / "less.json"}
    given = [str(files.get(word, word)) for word in words]
    out = tmp_path / "out"
    assert main(["data", "partition", str(tables / "true_without.parquet"), str(out), *given]) == 2
    said = capsys.readouterr()
    assert expected in said.err and len(said.err.splitlines()) == 1 and said.out == ""
    assert not out.exists()


def test_what_a_folder_holds_is_not_replaced(tables: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked: list[Any] = ["data", "partition", str(tables / "true.parquet"), str(tmp_path / "out"), "--by", "natural"]
    asked += ["--client", "who"]
    assert main(asked) == 0 and main(asked) == 2
    assert "will not replace what is there" in capsys.readouterr().err
    assert main([*asked, "--force"]) == 0
