"""Grouping by device on disk: any number of shards gives one result, and an import that was cut off goes on."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedsim.errors import InputError
from fedsim.traces.folder import load_traces
from fedsim.traces.importers import shards
from fedsim.traces.importers.events import SessionLaw, import_events

OPTIONS: dict[str, Any] = {"unit": "s", "clock": "relative", "gap_s": 100, "tail_s": 10}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Three files over which the events of 50 users are scattered."""
    folder = tmp_path / "log"
    folder.mkdir()
    draw = np.random.default_rng(1)
    for name in ("a.csv", "b.csv", "c.csv"):
        rows = zip(draw.integers(0, 50, 400), draw.integers(0, 200_000, 400), strict=True)
        (folder / name).write_text("user,time\n" + "".join(f"u{user},{at}\n" for user, at in rows))
    return folder


def logs(folder: Path) -> dict[str, list[tuple[int, float]]]:
    traces = load_traces(folder)
    assert len(set(traces.device_id)) == traces.n, "each device is in one shard"
    return {
        device: list(zip(*(column[a:b].tolist() for column in (traces.events.at_ms, traces.events.value)), strict=True))
        for device, a, b in zip(traces.device_id, traces.offsets, traces.offsets[1:], strict=False)
    }


def test_shards_and_buffers_change_nothing_but_the_order(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_events(source, tmp_path / "one", **OPTIONS)
    monkeypatch.setattr(shards, "_SHARD_BYTES", 1500)
    monkeypatch.setattr(shards, "_BUFFER_ROWS", 64)
    import_events(source, tmp_path / "many", **OPTIONS)
    assert logs(tmp_path / "many") == logs(tmp_path / "one")
    one, many = load_traces(tmp_path / "one").provenance, load_traces(tmp_path / "many").provenance
    assert one == many
    assert one["n_events_read"] == 1200
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "many", "one"]


class Killed(BaseException):
    """Stands for a process that ends without any word."""


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Any]]:
    """What was read and converted."""
    done: dict[str, list[Any]] = {"read": [], "converted": []}
    monkeypatch.setattr(shards, "_SHARD_BYTES", 1500)
    deal, convert = shards._deal, SessionLaw.traces

    def counted_deal(rows: Any, folder: Path, n_shards: int) -> Any:
        done["read"].append(folder.name)
        return deal(rows, folder, n_shards)

    def counted_convert(self: SessionLaw, rows: Any, totals: Any) -> Any:
        done["converted"].append(rows.num_rows)
        return convert(self, rows, totals)

    monkeypatch.setattr(shards, "_deal", counted_deal)
    monkeypatch.setattr(SessionLaw, "traces", counted_convert)
    return done


def killed_at(monkeypatch: pytest.MonkeyPatch, name: str, when: int) -> None:
    """Kill the import at the n-th call of a function of the module."""
    original, calls = getattr(shards, name), iter(range(when + 1))

    def kill(*arguments: Any) -> Any:
        if next(calls, when) == when:
            raise Killed
        return original(*arguments)

    monkeypatch.setattr(shards, name, kill)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize(("where", "when", "read", "n_converted"), [("_write_shards", 1, 2, 9), ("_sorted", 3, 0, 6)])
def test_an_import_that_was_cut_off_goes_on(
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    counted: dict[str, list[Any]],
    where: str,
    when: int,
    read: int,
    n_converted: int,
) -> None:
    import_events(source, tmp_path / "whole", **OPTIONS)
    assert (len(counted["read"]), len(counted["converted"])) == (3, 9)
    with monkeypatch.context() as patched, pytest.raises(Killed):
        killed_at(patched, where, when)
        import_events(source, tmp_path / "set", **OPTIONS)
    assert (tmp_path / ".set.work").exists()
    assert not (tmp_path / "set").exists()
    counted["read"].clear(), counted["converted"].clear()
    import_events(source, tmp_path / "set", **OPTIONS)
    assert (len(counted["read"]), len(counted["converted"])) == (read, n_converted)
    assert files(tmp_path / "set") == files(tmp_path / "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "set", "whole"]


@pytest.mark.parametrize("change", ["option", "content"])
def test_another_plan_starts_over(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counted: dict[str, list[Any]], change: str
) -> None:
    with monkeypatch.context() as patched, pytest.raises(Killed):
        killed_at(patched, "_sorted", 5)
        import_events(source, tmp_path / "set", **OPTIONS)
    options = OPTIONS | {"gap_s": 5000} if change == "option" else OPTIONS
    if change == "content":
        with (source / "b.csv").open("a") as file:
            file.write("newcomer,150000\n")
    counted["read"].clear()
    import_events(source, tmp_path / "set", **options)
    assert len(counted["read"]) == 3
    import_events(source, tmp_path / "fresh", **options)
    assert files(tmp_path / "set") == files(tmp_path / "fresh")


def test_bad_input_leaves_nothing_behind(source: Path, tmp_path: Path) -> None:
    with (source / "c.csv").open("a") as file:
        file.write("u1,noon\n")
    with pytest.raises(InputError, match=r"column 'time' has a bad value at row 400: 'noon' in .*c\.csv"):
        import_events(source, tmp_path / "set", **OPTIONS)
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


def test_a_log_without_rows_is_refused(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user,time\n")
    with pytest.raises(InputError, match="no row found"):
        import_events(tmp_path / "log.csv", tmp_path / "set", **OPTIONS)
    assert [path.name for path in tmp_path.iterdir()] == ["log.csv"]


def test_a_file_is_never_held_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are dealt out while they are read: at most one buffer of them is in memory."""
    seen: list[int] = []
    original = shards._write_shards

    def write(table: Any, *more: Any) -> None:
        seen.append(table.num_rows)
        original(table, *more)

    def read(path: Path) -> Iterator[shards.Rows]:
        for k in range(100):
            yield shards.pa.table({"device": ["a", "b"] * 5, "at_ms": np.arange(10) + 10 * k}), {"n": 10}

    monkeypatch.setattr(shards, "_BUFFER_ROWS", 50)
    monkeypatch.setattr(shards, "_write_shards", write)
    said = shards._deal(read(tmp_path), tmp_path, 4)
    assert seen == [50] * 20
    assert said == {"first_ms": 0, "last_ms": 999, "days": [0], "counts": {"n": 1000}}
