"""Tables of all forms as client data: who holds what, in which order, and what is held out."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from fedsim.data.table.table import TableClients
from fedsim.errors import InputError

ROWS = pd.DataFrame(
    {
        "who": ["bo", "al", "bo", "cy", "al", "bo", "al"],
        "at": [5, 9, 3, 1, 2, 4, 7],
        "colour": ["red", "blue", "red", "green", None, "blue", "red"],
        "weight": [1.0, 3.0, 2.0, 8.0, 5.0, 6.0, 4.0],
        "label": [0, 1, 1, 0, 1, 0, 0],
        "part": ["a", "a", "a", "b", "a", "b", "b"],
    }
)
COLOUR, WEIGHT = {"kind": "category", "column": "colour"}, {"kind": "numbers", "column": "weight", "standardise": False}
CHARACTERS = {"kind": "text", "tokens": "characters", "coding": "vocabulary", "size": None}
ASKED: dict[str, Any] = {
    "client": "who", "label": "label", "features": {"weight": WEIGHT}, "seed": 0,
    "held_out": {"by": "where", "value": {"part": "b"}},
}  # fmt: skip


def table(path: Path | str, **changes: Any) -> TableClients:
    return TableClients(path=str(path), **(ASKED | changes))


def parquet(folder: Path, rows: pd.DataFrame = ROWS, name: str = "rows.parquet") -> Path:
    rows.to_parquet(folder / name)
    return folder / name


def of(data: TableClients, client: int) -> list[float]:
    return [float(value) for value in data.fetch(np.array([client])).x.reshape(-1)]


# ------------------------------------------------------------------------------------ rows and clients


def test_rows_belong_to_clients_in_the_order_of_their_ids(tmp_path: Path) -> None:
    data = table(parquet(tmp_path))
    assert data.keys.tolist() == ["al", "bo"]  # cy has no row to train on
    assert (of(data, 0), of(data, 1)) == ([3.0, 5.0], [1.0, 2.0])
    assert data.fetch(np.array([1, 0, 1])).y.tolist() == [0, 1, 1, 1, 0, 1]
    x, y = data.held_out()
    assert data.held_out_clients is not None
    told = sorted(zip(x[:, 0].tolist(), y.tolist(), data.held_out_clients.tolist(), strict=True))
    assert told == [(4.0, 0, 0), (6.0, 0, 1), (8.0, 0, -1)]


def test_a_time_orders_the_rows_of_a_client(tmp_path: Path) -> None:
    assert of(table(parquet(tmp_path), time="at"), 1) == [2.0, 1.0]


@pytest.mark.parametrize(
    ("held_out", "weights"),
    [
        ({"by": "since", "value": 5}, [1.0, 3.0, 4.0]),
        ({"by": "last_fraction", "value": 0.3}, [3.0, 4.0]),
        ({"by": "last_fraction_of_client", "value": 0.4}, [1.0, 3.0]),  # of al 3 rows: 2 stay; cy keeps its only one
        ({"by": "where", "value": {"part": ["b", "c"]}}, [4.0, 6.0, 8.0]),
    ],
)
def test_what_is_held_out(held_out: dict[str, Any], weights: list[float], tmp_path: Path) -> None:
    data = table(parquet(tmp_path), time="at", held_out=held_out)
    assert sorted(data.held_out()[0][:, 0].tolist()) == weights


def test_the_table_says_itself_what_is_held_out(tmp_path: Path) -> None:
    rows = ROWS.assign(part=["train", "Train", "train", "test", "train", "valid", "training"])
    found = table(parquet(tmp_path, rows), split="part")  # a word that is not train is held out, whatever it is
    assert sorted(found.held_out()[0][:, 0].tolist()) == [3.0, 6.0, 8.0]
    assert of(found, 0) == [5.0, 4.0] and found.held_out_clients is not None
    assert sorted(found.held_out_clients.tolist()) == [-1, 0, 1]


def test_files_to_test_on(tmp_path: Path) -> None:
    train, test = parquet(tmp_path, ROWS.iloc[:5], "train.parquet"), parquet(tmp_path, ROWS.iloc[5:], "test.parquet")
    found = table(train, test=str(test))
    assert sorted(found.held_out()[0][:, 0].tolist()) == [4.0, 6.0] and found.n_clients == 3
    for changes, expected in (
        ({"test": str(train)}, "a file is to be trained on and tested on"),
        ({"test": str(test), "split": "part"}, "data.split and data.test both say"),
        ({"test": "nowhere.parquet"}, "table not found: 'nowhere.parquet'"),
    ):
        with pytest.raises(InputError, match=expected):
            table(train, **changes)


def test_columns_of_which_nothing_is_said(tmp_path: Path) -> None:
    rows = ROWS.assign(note=[f"a longer remark number {n}" for n in range(7)], ready=[True, False] * 3 + [True])
    data = table(parquet(tmp_path, rows), features=None)
    told = "data.features is null: at, weight as numbers; colour, ready as category; note as text"
    assert data.remarks == (told,)
    assert data.sizes["n_numbers"] == 2 and data.sizes["n_inputs"] == 2 + 2 + 64
    alone = rows[["who", "label", "part"]]
    with pytest.raises(InputError, match="the table has no column or no row to learn from"):
        table(parquet(tmp_path, alone), features=None)


def test_an_instant_is_a_time(tmp_path: Path) -> None:
    rows = ROWS.assign(at=pd.to_datetime(ROWS["at"], unit="D", origin="2024-03-01"))
    held_out = {"by": "since", "value": "2024-03-06"}
    from_parquet = table(parquet(tmp_path, rows), time="at", held_out=held_out)
    rows.to_csv(tmp_path / "rows.csv", index=False)
    from_csv = table(tmp_path / "rows.csv", time="at", held_out=held_out)
    for data in (from_parquet, from_csv):
        assert sorted(data.held_out()[0][:, 0].tolist()) == [1.0, 3.0, 4.0]


def test_clients_and_rows_at_random(tmp_path: Path) -> None:
    rows = pd.DataFrame({"who": np.arange(2000) % 500, "weight": np.arange(2000.0), "label": 1})
    people = table(parquet(tmp_path, rows), held_out={"by": "fraction_of_clients", "value": 0.3})
    assert people.n_clients == pytest.approx(350, abs=35) and (people.held_out_clients == -1).all()
    assert set(people.n_examples(np.arange(people.n_clients))) == {4}
    some = table(parquet(tmp_path, rows), held_out={"by": "fraction", "value": 0.3})
    assert len(some.held_out()[1]) == pytest.approx(600, abs=60)
    other = table(parquet(tmp_path, rows), held_out={"by": "fraction", "value": 0.3}, seed=1)
    assert other.sha256() != some.sha256()


def test_some_of_what_is_held_out(tmp_path: Path) -> None:
    rows = pd.DataFrame({"who": np.arange(90) % 30, "weight": np.arange(90.0), "label": 1, "query": np.arange(90) // 3})
    held_out = {"by": "fraction_of_clients", "value": 0.3}
    whole = table(parquet(tmp_path, rows), held_out=held_out)
    some = table(parquet(tmp_path, rows), held_out=held_out, max_held_out=7, batch_rows=11)
    found = some.held_out()[0][:, 0].tolist()
    assert len(found) == 7 and set(found) < set(whole.held_out()[0][:, 0].tolist())
    assert (some.n_examples(np.arange(some.n_clients)) == whole.n_examples(np.arange(whole.n_clients))).all()
    assert found == table(parquet(tmp_path, rows), held_out=held_out, max_held_out=7).held_out()[0][:, 0].tolist()
    lists = {"client": "query", "list_of": {"column": "query", "length": 3}, "max_held_out": 4}
    assert table(parquet(tmp_path, rows), held_out=held_out, **lists).held_out()[0].shape == (4, 3, 1)


def test_rows_that_do_not_count(tmp_path: Path) -> None:
    data = table(parquet(tmp_path), where={"colour": ["red", "green"]})
    assert (data.keys.tolist(), of(data, 0)) == (["bo"], [1.0, 2.0])


# ------------------------------------------------------------------------------------ forms of files


def test_the_same_table_in_every_form(tmp_path: Path) -> None:
    expected = table(parquet(tmp_path)).sha256()
    ROWS.to_csv(tmp_path / "rows.csv", index=False)
    ROWS.to_csv(tmp_path / "rows.tsv", index=False, sep="\t")
    with gzip.open(tmp_path / "packed.csv.gz", "wt") as handle:
        ROWS.to_csv(handle, index=False)
    (tmp_path / "folder").mkdir()
    for number, first in enumerate(range(0, len(ROWS), 3)):
        parquet(tmp_path / "folder", ROWS.iloc[first : first + 3], f"part-{number}.parquet")
    columns = {name: ROWS[name].to_numpy() for name in ("weight", "label")}
    texts = {name: ROWS[name].to_numpy().astype("U8") for name in ("who", "part")}
    np.savez(tmp_path / "rows.npz", **columns, **texts)
    files = ("rows.csv", "rows.tsv", "packed.csv.gz", "folder", "folder/part-*.parquet", "rows.npz")
    for name in files:
        assert table(tmp_path / name).sha256() == expected, name
    for n in (1, 2, 100):
        assert table(tmp_path / "folder", batch_rows=n).sha256() == expected


def test_a_remote_address() -> None:
    with fsspec.open("memory://bucket/rows.parquet", "wb") as handle:
        ROWS.to_parquet(handle)
    with fsspec.open("memory://bucket/more.csv", "wt") as handle:
        ROWS.to_csv(handle, index=False)
    assert table("memory://bucket/rows.parquet").sha256() == table("memory://bucket/*.csv").sha256()


def test_leaf_json(tmp_path: Path) -> None:
    told = {
        "users": ["u2", "u1"],
        "num_samples": [1, 3],
        "user_data": {
            "u1": {"x": [[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]], "y": [1, 0, 2]},
            "u2": {"x": [[0.7, 0.8]], "y": [1]},
        },
    }
    (tmp_path / "all_data.json").write_text(json.dumps(told))
    features = {"x": {"kind": "numbers", "column": "x", "standardise": False}}
    leaf = {
        "client": "user",
        "label": "y",
        "features": features,
        "held_out": {"by": "last_fraction_of_client", "value": 0.3},
    }
    data = table(tmp_path / "all_data.json", **leaf)
    assert data.keys.tolist() == ["u1", "u2"]
    assert of(data, 0) == pytest.approx([0.1, 0.2, 0.3, 0.4]) and of(data, 1) == pytest.approx([0.7, 0.8])
    assert data.sizes == {
        "n_inputs": 2, "n_fields": 2, "n_numbers": 2, "n_values": 0, "length": 2, "n_classes": 3,
    }  # fmt: skip


def test_leaf_texts_learn_the_next_character(tmp_path: Path) -> None:
    told = {"users": ["romeo"], "user_data": {"romeo": {"x": ["hello", "abc"], "y": ["x", "y"]}}}
    (tmp_path / "leaf.json").write_text(json.dumps(told))
    data = table(
        tmp_path / "leaf.json", client="user", label={"kind": "next_token"},
        features={"text": CHARACTERS | {"column": "x", "length": 4}},
        held_out={"by": "last_fraction_of_client", "value": 0.5},
    )  # fmt: skip
    (x,), (y,) = data.fetch(np.array([0])).x, data.fetch(np.array([0])).y
    assert x.tolist()[0] == 2 and x.tolist()[1:] == y.tolist()[:3]  # begins with START; labels are the inputs one on
    assert len(set(y.tolist())) == 3  # h, e, l, l


# ------------------------------------------------------------------------------------ features


def test_categories_have_ids_of_their_own_and_one_for_what_is_new(tmp_path: Path) -> None:
    data = table(parquet(tmp_path), features={"c": COLOUR, "p": {"kind": "category", "column": ["label", "part"]}})
    x = data.fetch(np.array([0, 1])).x
    assert x.dtype == np.int64 and data.sizes["n_values"] == 3 + 3 + 2
    # colours of training rows: red twice, blue once; id 0 is what is missing
    assert x[:, 0].tolist() == [2, 0, 1, 1]
    assert x[:, 1].tolist() == [3 + 1, 3 + 1, 3 + 2, 3 + 1]  # labels 1 thrice, 0 once
    green = data.held_out()[0][data.held_out_clients == -1]
    assert green[0, 0] == 0 and green[0, 2] == 6  # neither green nor part b was trained on


def test_ids_beside_numbers_are_exact_floats(tmp_path: Path) -> None:
    data = table(parquet(tmp_path), features={"w": WEIGHT, "c": COLOUR})
    x = data.fetch(np.array([0])).x
    assert x.dtype == np.float32 and x.tolist() == [[3.0, 2.0], [5.0, 0.0]]


def test_numbers_are_standardised_over_training_rows(tmp_path: Path) -> None:
    data = table(parquet(tmp_path), features={"w": {"kind": "numbers", "column": "weight"}})
    trained = np.array([1.0, 3.0, 2.0, 5.0])
    assert of(data, 0) == pytest.approx((np.array([3.0, 5.0]) - trained.mean()) / trained.std(), abs=1e-6)


def test_a_missing_number_becomes_the_mean_where_that_is_said(tmp_path: Path) -> None:
    rows = ROWS.assign(weight=[1.0, None, 2.0, 8.0, 6.0, 6.0, 4.0])
    data = table(parquet(tmp_path, rows), features={"w": WEIGHT | {"missing": "mean"}})
    assert of(data, 0) == [3.0, 6.0]


def test_columns_by_a_pattern(tmp_path: Path) -> None:
    rows = ROWS.assign(f1=1.0, f2=[2.0, 0, 0, 0, 0, 0, 0], g=7.0)
    data = table(parquet(tmp_path, rows), features={"f": WEIGHT | {"column": "f*"}})
    assert data.fetch(np.array([1])).x.tolist() == [[1.0, 2.0], [1.0, 0.0]]


@pytest.mark.parametrize("coding", ["frequent", "hash"])
def test_a_vocabulary_of_a_given_size(coding: str, tmp_path: Path) -> None:
    data = table(parquet(tmp_path), features={"c": COLOUR | {"coding": coding, "size": 1}})
    x = data.fetch(np.array([0, 1])).x[:, 0].tolist()
    assert data.sizes["n_values"] == 2
    assert x == ([0, 0, 1, 1] if coding == "frequent" else [1, 0, 1, 1])


def test_texts_of_words(tmp_path: Path) -> None:
    rows = ROWS.assign(text=["the cat", "The dog!", "the", "bird", "cat cat the dog", "x", ""])
    text = {"kind": "text", "column": "text", "length": 3, "coding": "frequent", "size": 2}
    data = table(parquet(tmp_path, rows), features={"t": text})
    assert data.sizes["n_values"] == 3 + 2  # the (4 times in training) and cat (3 times)
    the, cat, other = 3, 4, 1
    assert data.fetch(np.array([0, 1])).x.tolist() == [[the, other, other], [cat, cat, the], [the, cat, 0], [the, 0, 0]]


def test_pieces_of_texts_share_what_words_share(tmp_path: Path) -> None:
    rows = ROWS.assign(text=["walking", "walked", "u", "v", "w", "x", "y"])
    text = {"kind": "text", "column": "text", "length": 40, "tokens": "pieces", "size": 1_000_000}
    data = table(parquet(tmp_path, rows), features={"t": text})
    walked, walking = set(data.fetch(np.array([0])).x[0]), set(data.fetch(np.array([1])).x[0])
    assert len(walked & walking - {0}) == 6  # <wa wal alk <wal walk <walk


def test_a_long_text_makes_windows(tmp_path: Path) -> None:
    rows = pd.DataFrame({"who": ["a", "b", "b"], "text": ["abcdefg", "", "ab"], "part": ["a", "a", "b"], "label": 0})
    text = CHARACTERS | {"column": "text", "length": 3}
    label = {"kind": "next_token", "long_texts": "windows"}
    data = table(parquet(tmp_path, rows), features={"t": text}, label=label)
    assert data.n_clients == 1  # of b the empty text is no example, the other is held out
    a, b, c, d, e, f, g = range(3, 10)
    found = data.fetch(np.array([0]))
    assert found.x.tolist() == [[2, a, b], [c, d, e], [f, 0, 0]]
    assert found.y.tolist() == [[a, b, c], [d, e, f], [g, -1, -1]]
    cut = table(parquet(tmp_path, rows), features={"t": text}, label={"kind": "next_token"})
    assert cut.fetch(np.array([0])).x.tolist() == [[2, a, b]]


def test_a_token_without_an_id_is_no_label(tmp_path: Path) -> None:
    rows = pd.DataFrame({"who": list("aab"), "text": ["x y x", "x", "x"], "part": ["a", "a", "b"], "label": 0})
    text = {"kind": "text", "column": "text", "length": 3, "coding": "frequent", "size": 1}
    data = table(parquet(tmp_path, rows), features={"t": text}, label={"kind": "next_token"})
    found = data.fetch(np.array([0]))
    assert found.x[0].tolist() == [2, 3, 1] and found.y[0].tolist() == [3, -1, 3]  # y is the one without


def test_pictures_in_every_form(tmp_path: Path) -> None:
    pixels = np.arange(7 * 6, dtype=np.uint8).reshape(7, 2, 3) * 5
    png = []
    for picture in pixels:
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "PNG")
        png.append(buffer.getvalue())
    rows = ROWS.assign(raw=[each.tobytes() for each in pixels], png=png)
    parquet(tmp_path, rows)
    texts = {name: ROWS[name].to_numpy().astype("U8") for name in ("who", "part")}
    np.savez(tmp_path / "rows.npz", picture=pixels, label=ROWS["label"].to_numpy(), **texts)
    image = {"kind": "image", "shape": [2, 3]}
    for file, column in (("rows.parquet", "raw"), ("rows.parquet", "png"), ("rows.npz", "picture")):
        found = table(tmp_path / file, features={"i": image | {"column": column}}).fetch(np.array([1])).x
        assert found.shape == (2, 2, 3)
        assert found[0] == pytest.approx(pixels[0] / 255) and found[1] == pytest.approx(pixels[2] / 255)


def test_sequences_are_padded_with_a_mask(tmp_path: Path) -> None:
    ids = [["x", "y"], ["z"], ["x"], [], ["q", "x", "x", "x"], ["x"], None]
    rows = ROWS.assign(ids=ids, steps=[[0.5], [1.5, 2.5], [], [9.0], [3.5] * 5, [1.0], None])
    told = {"kind": "sequence", "length": 3}
    data = table(parquet(tmp_path, rows), features={"s": told | {"column": "ids"}})
    x_id = 3  # the most frequent of training rows
    assert data.fetch(np.array([1])).x[:, 0].tolist() == [x_id, x_id]
    assert data.fetch(np.array([0])).x[1].tolist()[1:] == [x_id, x_id]
    assert data.fetch(np.array([0])).x[0].tolist()[1:] == [0, 0]
    numbers = table(parquet(tmp_path, rows), features={"s": told | {"column": "steps", "numbers": True}})
    x = numbers.fetch(np.array([0])).x
    assert x[0].tolist() == [[1.5, 1.0], [2.5, 1.0], [0.0, 0.0]] and x[1].tolist() == [[3.5, 1.0]] * 3


def test_lists_to_rank(tmp_path: Path) -> None:
    rows = ROWS.assign(query=["q1", "q2", "q1", "q3", "q2", "q4", "q4"], label=[2, 0, 1, 0, 3, 1, 0])
    data = table(
        parquet(tmp_path, rows), client="query", list_of={"column": "query", "length": 3},
        held_out={"by": "where", "value": {"query": ["q3", "q4"]}},
    )  # fmt: skip
    found = data.fetch(np.array([1, 0]))
    assert found.x[..., 0].tolist() == [[3.0, 5.0, 0.0], [1.0, 2.0, 0.0]]
    assert found.y.tolist() == [[0, 3, -1], [2, 1, -1]]
    assert data.held_out()[1].tolist() == [[0, -1, -1], [1, 0, -1]]
    assert data.sizes["n_inputs"] == 1


def test_classes_are_numbered_and_numbers_are_labels(tmp_path: Path) -> None:
    assert table(parquet(tmp_path), label="colour", where={"colour": ["red", "blue"]}).sizes["n_classes"] == 2
    found = table(parquet(tmp_path), label={"column": "weight", "kind": "number"}).fetch(np.array([0]))
    assert found.y.dtype == np.float32 and found.y.tolist() == [3.0, 5.0]


# ------------------------------------------------------------------------------------ on disk


def test_a_folder_keeps_the_examples_on_disk(tmp_path: Path) -> None:
    file, kept = parquet(tmp_path), tmp_path / "kept"
    features = {"w": WEIGHT, "c": COLOUR}
    here = table(file, features=features)
    for _ in range(2):
        mapped = table(file, features=features, folder=str(kept))
        assert isinstance(mapped.held_out()[0], np.memmap)
        assert mapped.sha256() == here.sha256() and mapped.sizes == here.sizes
        assert (mapped.fetch(np.array([1, 0])).x == here.fetch(np.array([1, 0])).x).all()
    assert len(list(kept.iterdir())) == 1  # made once
    parquet(tmp_path, ROWS.assign(weight=ROWS["weight"] + 1))
    assert table(file, features=features, folder=str(kept)).sha256() != here.sha256()
    assert len(list(kept.iterdir())) == 2


def test_a_torn_folder_is_told(tmp_path: Path) -> None:
    file, kept = parquet(tmp_path), tmp_path / "kept"
    table(file, folder=str(kept))
    next(kept.glob("*/x.npy")).write_bytes(b"torn")
    with pytest.raises(InputError, match=r"encoded table cannot be read .*allowed: remove it"):
        table(file, folder=str(kept))


# ------------------------------------------------------------------------------------ what is refused


def number(column: str, **more: Any) -> dict[str, Any]:
    return {"features": {"f": {"kind": "numbers", "column": column} | more}}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"client": "user"}, "table has no column: 'user' in"),
        (number("height"), "table has no column: 'height'"),
        (number("colour"), "column colour is not numbers"),
        ({"features": {}}, "data.features: {}"),
        ({"features": {"f": {"kind": "number"}}}, "features.f.kind: 'number' (allowed: numbers, category"),
        (number("weight", sise=3), "unknown key: 'features.f.sise' (allowed: column, standardise, missing)"),
        ({"features": {"f": COLOUR | {"size": 1}}}, "column colour has more values than its size: 2 (allowed: 1;"),
        ({"features": {"f": COLOUR | {"size": 0}}}, "features.f.size: 0"),
        ({"features": {"f": COLOUR | {"coding": "hash"}}}, "size of column colour"),
        ({"label": "colour"}, "label column colour is null in row"),
        ({"label": {"column": "weight", "kind": "numbr"}}, "data.label.kind: 'numbr'"),
        ({"label": {"kind": "next_token"}}, "label next_token: ['weight'] (allowed: one feature, of kind: text)"),
        ({"held_out": {"by": "where", "value": {"part": "z"}}}, "data.held_out takes no rows"),
        ({"held_out": {"by": "since", "value": 0}, "time": "at"}, "data.held_out takes all rows"),
        ({"held_out": {"by": "since", "value": 3}}, "data.held_out.by: since needs data.time"),
        ({"held_out": {"by": "since", "value": "May"}, "time": "at"}, "data.held_out.value: 'May'"),
        ({"held_out": {"by": "fraction", "value": 2}}, "data.held_out.value: 2"),
        ({"held_out": {"fraction": 0.2}}, "data.held_out: {'fraction': 0.2}"),
        ({"where": {"part": ["z"]}}, "table has no row"),
        ({"time": "colour", "held_out": {"by": "since", "value": 3}}, "column colour is no time"),
        ({"list_of": {"column": "who", "length": 2}}, "more rows than data.list_of.length: 2"),
        ({"features": {"f": {"kind": "image", "column": "weight", "shape": [2]}}}, "pictures of column weight: [1]"),
        ({"features": {"f": {"kind": "sequence", "column": "who", "length": 2}}}, "column who does not hold lists"),
    ],
)
def test_bad_input_is_one_line(changes: dict[str, Any], expected: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        table(parquet(tmp_path), **changes)
    assert expected in str(refused.value) and "\n" not in str(refused.value)


def test_numbers_that_are_none_are_told_with_their_row(tmp_path: Path) -> None:
    file = parquet(tmp_path, ROWS.assign(weight=[1.0, 2.0, 3.0, np.nan, 5.0, 6.0, np.inf]))
    with pytest.raises(
        InputError, match=r"column weight in row 3 of a batch: nan .allowed: finite numbers, or missing"
    ):
        table(file)
    with pytest.raises(InputError, match=r"column weight in row 2 of a batch: inf .*begins with row 4 of those"):
        table(file, features={"f": WEIGHT | {"missing": "mean"}}, batch_rows=4)


def test_labels_below_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="label: -1 in column label"):
        table(parquet(tmp_path, ROWS.assign(label=[0, 1, -1, 0, 1, 0, 0])))


def test_nobody_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"column who names nobody in row 1 of a batch in .*rows\.parquet"):
        table(parquet(tmp_path, ROWS.assign(who=["a", None, "b", "c", "d", "e", "f"])))


def test_files_that_are_none(tmp_path: Path) -> None:
    for name in ("none.parquet", "*.parquet", "."):
        with pytest.raises(InputError, match="table not found"):
            table(tmp_path / name)
    (tmp_path / "rows.txt").write_text("who,label\n")
    with pytest.raises(InputError, match=r"kind of a table's file: .*rows\.txt"):
        table(tmp_path / "rows.txt")
    (tmp_path / "rows.parquet").write_bytes(b"no parquet")
    with pytest.raises(InputError, match=r"table cannot be read .*rows\.parquet"):
        table(tmp_path / "rows.parquet")
    (tmp_path / "rows.csv").write_text("who,weight,label,part\na,1.0,0,a\na,heavy,0,b\n")
    with pytest.raises(InputError, match=r"table cannot be read .*heavy.*rows\.csv"):
        table(tmp_path / "rows.csv")
    (tmp_path / "rows.json").write_text('{"users": ["u"], "user_data": {"u": {"x": [], "y": []}}}')
    with pytest.raises(InputError, match="client has no example: 'u'"):
        leaf = {"features": {"x": WEIGHT | {"column": "x"}}, "held_out": {"by": "fraction", "value": 0.5}}
        table(tmp_path / "rows.json", client="user", label="y", **leaf)
    np.savez(tmp_path / "rows.npz", who=np.arange(3), label=np.arange(3), weight=np.arange(3), part=np.arange(2))
    with pytest.raises(InputError, match="arrays of the file differ in length"):
        table(tmp_path / "rows.npz")
    with pytest.raises(InputError, match="files of a table are of several kinds"):
        table(tmp_path)


def test_a_table_that_changes_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = parquet(tmp_path)
    opened = pq.ParquetFile.iter_batches
    n_opened = 0

    def grown(self: pq.ParquetFile, *args: Any, **kwargs: Any) -> Any:
        nonlocal n_opened
        n_opened += 1
        for batch in opened(self, *args, **kwargs):
            yield batch if n_opened == 1 else pa.RecordBatch.from_pylist(batch.to_pylist()[:-1], batch.schema)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", grown)
    with pytest.raises(InputError, match="table has changed while it was read"):
        table(file)
