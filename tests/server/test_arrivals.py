"""Examples that arrive as simulated time goes on: what a phone trains on, who is asked, once only, in any stride."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fedsim.config.play import simulate
from fedsim.data.arrival import Arrival, first_after
from fedsim.data.table.table import TableClients
from fedsim.errors import InputError
from fedsim.results.run import Run

# Client al logs at 0, 10, 10 and 40 s, bo at 5 and 20 s; the data's clock is in milliseconds and begins at 1,000.
ROWS = pd.DataFrame(
    {
        "who": ["al", "al", "al", "al", "bo", "bo", "al"],
        "ms": [1_000, 11_000, 11_000, 41_000, 6_000, 21_000, 50_000],
        "x": [0.0, 1.0, 2.0, 3.0, 10.0, 11.0, 99.0],
        "y": [0, 1, 0, 1, 1, 0, 0],
        "part": ["train"] * 6 + ["test"],
    }
)


def clients(folder: Path, **arrival: Any) -> TableClients:
    ROWS.to_parquet(folder / "rows.parquet")
    return TableClients(
        path=str(folder / "rows.parquet"), client="who", label="y", time="ms", seed=0,
        features={"x": {"kind": "numbers", "column": "x", "standardise": False}},
        held_out={"by": "where", "value": {"part": "test"}}, arrival={"starts_at": 1000, "unit_s": 0.001} | arrival,
    )  # fmt: skip


def had(data: TableClients, since: float, at: float) -> list[list[float]]:
    ids, low, high = np.array([0, 1]), np.full(2, since), np.full(2, at)
    examples = data.fetch_between(ids, low, high)
    assert data.n_between(ids, low, high).tolist() == examples.n_examples.tolist()
    return [part[:, 0].tolist() for part in np.split(examples.x, examples.offsets[1:-1])]


def test_what_a_client_has_by_an_instant(tmp_path: Path) -> None:
    data = clients(tmp_path)
    assert had(data, -np.inf, -1.0) == [[], []]
    assert had(data, -np.inf, 0.0) == [[0.0], []]
    assert had(data, -np.inf, 10.0) == [[0.0, 1.0, 2.0], [10.0]]
    assert had(data, 5.0, 25.0) == [[1.0, 2.0], [11.0]]  # after, not at
    assert had(data, -np.inf, 1e6) == [[0.0, 1.0, 2.0, 3.0], [10.0, 11.0]]


def test_since_when() -> None:
    at, ended = np.array([10.0, 100_000.0]), np.array([-np.inf, 99_000.0])
    assert Arrival(0.0).since(at, ended).tolist() == [-np.inf, -np.inf]
    assert Arrival(0.0, retention_days=0.5).since(at, ended).tolist() == [10.0 - 43_200, 100_000.0 - 43_200]
    assert Arrival(0.0, retention_days=0.5, once_only=True).since(at, ended).tolist() == [10.0 - 43_200, 99_000.0]


def test_the_first_later_place_is_that_of_a_walk() -> None:
    draw = np.random.default_rng(0)
    offsets = np.concatenate([[0], np.cumsum(draw.integers(0, 9, 60))])
    time = np.concatenate([np.sort(draw.integers(0, 20, n)) for n in np.diff(offsets)]).astype(float)
    at = draw.integers(-1, 22, 60).astype(float)
    found = first_after(time, offsets[:-1], offsets[1:], at)
    for k, place in enumerate(found):
        later = [row for row in range(offsets[k], offsets[k + 1]) if time[row] > at[k]]
        assert place == (later[0] if later else offsets[k + 1])


# ------------------------------------------------------------------------------------ in a run


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """150 users log an example every hour or so over two days."""
    draw = np.random.default_rng(5)
    user = np.repeat(np.arange(150), 60)
    at = draw.uniform(0, 172_800, len(user))
    x = draw.normal(size=(len(user), 3))
    rows = pd.DataFrame({"user": user, "at": at, "x": list(x), "y": (x.sum(1) > 0).astype(int)})
    path: Path = tmp_path_factory.mktemp("arrivals") / "rows.parquet"
    rows.to_parquet(path)
    return path


def run(table: Path, folder: Path, *more: str, arrival: str = "", training: str = "training=cohort") -> Run:
    return simulate(
        "experiment=smoke", "data=table", f"data.path={table}", "data.client=user", "data.label=y", "data.time=at",
        "data.features={x: {kind: numbers, column: x}}", "data.held_out={by: fraction, value: 0.1}",
        f"data.arrival={{starts_at: 0{arrival}}}", "holders=one_to_one", "fleet.n_devices=140", "server.report_goal=4",
        "fleet.rule='network == wifi'", "stop.max_steps=30", "evaluation.every_steps=30", "data.seed=0", training,
        *more, folder=folder,
    )  # fmt: skip


def expected(table: Path, rows: pd.DataFrame, *, once_only: bool) -> list[int]:
    """What each session of the run may train on, counted from the table by a loop."""
    data = simulate_data(table)
    found, last = [], dict[int, float]()
    for row in rows.sort_values("assigned_at").itertuples():
        since = last.get(row.device_id, -np.inf) if once_only else -np.inf
        found.append(int(((data[row.client_id] > since) & (data[row.client_id] <= row.assigned_at)).sum()))
        last[row.device_id] = row.end_at
    return found


def simulate_data(table: Path) -> list[np.ndarray]:
    """Times of each client's training rows."""
    data = TableClients(
        path=str(table), client="user", label="y", time="at", seed=0,
        features={"x": {"kind": "numbers", "column": "x"}},
        held_out={"by": "fraction", "value": 0.1}, arrival={"starts_at": 0},
    )  # fmt: skip
    assert data._arrived_at is not None
    return [data._arrived_at[data._offsets[k] : data._offsets[k + 1]] for k in range(data.n_clients)]


COLUMNS = ["device_id", "client_id", "assigned_at", "end_at", "version", "weight", "outcome"]


@pytest.mark.slow
@pytest.mark.parametrize("once_only", [False, True])
def test_an_update_weighs_what_its_client_had_by_then(once_only: bool, table: Path, tmp_path: Path) -> None:
    arrival = ", min_examples: 3, once_only: true" if once_only else ", min_examples: 3"
    found = run(table, tmp_path / "run", "server.weighting=examples", arrival=arrival)
    sessions = found.sessions(COLUMNS).sort_values("assigned_at")
    sessions["n"] = expected(table, sessions, once_only=once_only)
    assert sessions["n"].min() == 3 < sessions["n"].max()
    assert sessions["assigned_at"].min() > 600  # nobody has three at midnight
    assert sessions["device_id"].duplicated().any()
    for _, step in sessions[sessions["outcome"] == "AGGREGATED"].groupby("version"):
        assert (step["weight"] / step["weight"].sum()).tolist() == pytest.approx((step["n"] / step["n"].sum()).tolist())


@pytest.mark.slow
def test_all_there_from_the_start_is_as_without_arrival(table: Path, tmp_path: Path) -> None:
    later = run(table, tmp_path / "later", "data.arrival.starts_at=1000000")  # everything was logged before the run
    without = run(table, tmp_path / "without", "data.arrival=null")
    for name in ("steps", "evals"):
        assert getattr(later, name).equals(getattr(without, name))


@pytest.mark.slow
def test_one_by_one_is_as_many_together(table: Path, tmp_path: Path) -> None:
    runs = [
        run(table, tmp_path / name, training=f"training={name}", arrival=", once_only: true")
        for name in ("cohort", "loop")
    ]
    norms = [each.steps["update_norm"].to_numpy() for each in runs]
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("arrival", ["", ", min_examples: 2, once_only: true, retention_days: 0.3"])
def test_strides_write_what_ticks_write(arrival: str, table: Path, tmp_path: Path) -> None:
    buffered = ["server=buffered", "server.concurrency=8", "server.buffer_size=3"]
    tables = []
    for looks_ahead in ("true", "false"):
        folder = tmp_path / looks_ahead
        simulate(
            "experiment=smoke", "data=table", f"data.path={table}", "data.client=user", "data.label=y", "data.time=at",
            "data.features={x: {kind: numbers, column: x}}", "data.held_out={by: fraction, value: 0.1}",
            f"data.arrival={{starts_at: 0{arrival}}}", "holders=one_to_one", "fleet.n_devices=140", *buffered,
            f"server.looks_ahead={looks_ahead}", "fleet.rule='network == wifi'", "stop.max_steps=30", "training=none",
            folder=folder,
        )  # fmt: skip
        tables.append([(folder / name).read_bytes() for name in ("sessions/part-00000.parquet", "steps.parquet")])
    assert tables[0] == tables[1]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"arrival": {"unit_s": 1.0}}, "data.arrival.starts_at must be given"),
        ({"arrival": {"starts_at": 0, "keep": 3}}, "unknown key: 'data.arrival.keep'"),
        ({"time": None}, "data.arrival needs data.time"),
        ({"arrival": {"starts_at": 0, "unit_s": 1e6}}, "an example arrives at second: 41000000000.0"),
    ],
)
def test_bad_input(changes: dict[str, Any], expected: str, tmp_path: Path) -> None:
    ROWS.to_parquet(tmp_path / "rows.parquet")
    asked: dict[str, Any] = {
        "path": str(tmp_path / "rows.parquet"), "client": "who", "label": "y", "time": "ms", "seed": 0,
        "features": {"x": {"kind": "numbers", "column": "x"}}, "arrival": {"starts_at": 0},
        "held_out": {"by": "where", "value": {"part": "test"}},
    }  # fmt: skip
    with pytest.raises(InputError) as refused:
        TableClients(**(asked | changes))
    assert expected in str(refused.value)
