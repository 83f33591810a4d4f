"""SQL against frames, and a trace whose events nest; what cannot be asked is one line."""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from fedsim.cli.main import main
from fedsim.results.query import query
from fedsim.results.run import Run
from fedsim.results.runs import found_runs, open_runs
from fedsim.results.timeline import PHONES, SERVER, events, write_timeline
from tests.report.fake_run import hand_made, random_run, without_sessions
from tests.results.many_runs import accuracy, written


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    for number, (seed, share) in enumerate(((0, 0.3), (1, 0.3), (0, 0.7))):
        learned = accuracy(0.1, share + 0.1 * seed)
        written(tmp_path / "sweep" / str(number), seed=seed, asked={"server.share": share}, learned=learned)
    return tmp_path / "sweep"


# ------------------------------------------------------------------------------------ query


def test_views_are_the_frames(sweep: Path) -> None:
    runs = open_runs(sweep)
    asked = "select run, seed, outcome, network, end_at from sessions order by run, session_id"
    rows = query(runs, asked).to_pylist()
    frame = runs.sessions(["outcome", "network", "end_at"])
    wanted = frame[["run", "seed", "outcome", "network", "end_at"]].astype({"outcome": str, "network": str})
    assert rows == wanted.to_dict("records")
    for name in ("steps", "evals", "gauges", "eligibility"):
        n = query(runs, f"select count(*) as n from {name}").to_pylist()[0]["n"]
        assert n == sum(run.dataset(name).count_rows() for run in runs)


def test_which_hour_wastes_most(sweep: Path) -> None:
    """Of one run: late in the third hour a session of 15 minutes, in the fourth one of an hour, refused as stale."""
    asked = """
        select cast(floor(assigned_at / 3600) as int) as hour, sum(end_at - assigned_at) / 60 as minutes
        from sessions where outcome <> 'AGGREGATED' and run = 0 group by 1 order by minutes desc, hour
    """
    assert query(open_runs(sweep), asked).to_pylist() == [
        {"hour": 3, "minutes": 60.0}, {"hour": 1, "minutes": 15.0}, {"hour": 2, "minutes": 15.0}
    ]  # fmt: skip


def test_arms_are_joined(sweep: Path) -> None:
    asked = """
        select arm, max(value) as best from evals join runs using (run)
        where metric = 'accuracy' group by 1 order by 1
    """
    assert query(open_runs(sweep), asked).to_pylist() == [
        {"arm": "share=0.3", "best": pytest.approx(0.4)}, {"arm": "share=0.7", "best": pytest.approx(0.7)}
    ]  # fmt: skip


def test_the_command_prints_a_table_or_writes_a_file(
    sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["query", str(sweep), "select run, value from evals where version = 1 order by run"]) == 0
    assert capsys.readouterr().out == "| run | value |\n| --- | --- |\n| 0 | 0.3 |\n| 1 | 0.4 |\n| 2 | 0.7 |\n"
    assert main(["query", str(sweep), f"copy (select * from steps) to '{tmp_path}/steps.csv'"]) == 0
    assert len((tmp_path / "steps.csv").read_text().splitlines()) == 1 + 9


def test_many_rows_are_cut(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = random_run(tmp_path / "run", n=500, days=0.1)
    assert main(["query", str(run), "select session_id, staleness from sessions"]) == 0
    said = capsys.readouterr().out
    assert len(said.splitlines()) == 2 + 200 + 2
    assert "300 more rows" in said
    assert "| null |" in said


def test_a_query_that_cannot_be_is_one_line(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for sql in ("selct 1", "select nothing from sessions", "select * from session"):
        assert main(["query", str(sweep), sql]) == 2
        said = capsys.readouterr()
        assert "views runs, sessions, steps" in said.err and len(said.err.splitlines()) == 1


def test_without_the_database_it_says_what_to_install(
    sweep: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "fedsim.results.query", None)  # as if its import failed
    assert main(["query", str(sweep), "select 1"]) == 2
    assert "pip install 'fedsim-fleet[query]'" in capsys.readouterr().err


# ------------------------------------------------------------------------------------ timeline

KEYS = {
    "M": {"name", "args"},
    "X": {"name", "dur", "args"},
    "C": {"name", "args"},
    "b": {"cat", "id"},
    "e": {"cat", "id"},
}


def check_format(trace: Mapping[str, Any]) -> None:
    """What a trace viewer asks for: known kinds of events with their keys, whole microseconds, pairs that close."""
    open_pairs = set()
    for event in trace["traceEvents"]:
        assert {"ph", "pid", "tid", "ts"} | KEYS[event["ph"]] <= set(event)
        assert isinstance(event["ts"], int) and event["ts"] >= 0
        assert event["ph"] != "X" or (isinstance(event["dur"], int) and event["dur"] >= 0)
        if event["ph"] == "b":
            open_pairs.add(event["id"])
        elif event["ph"] == "e":
            open_pairs.remove(event["id"])
    assert not open_pairs


def check_nesting(trace: Mapping[str, Any]) -> None:
    """On each thread an event lies wholly inside the one that it begins in."""
    threads: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for event in trace["traceEvents"]:
        if event["ph"] == "X":
            threads.setdefault((event["pid"], event["tid"]), []).append((event["ts"], event["ts"] + event["dur"]))
    for spans in threads.values():
        around: list[tuple[int, int]] = []
        for start, end in sorted(spans, key=lambda span: (span[0], -span[1])):
            while around and around[-1][1] <= start:
                around.pop()
            assert not around or end <= around[-1][1], (start, end, around[-1])
            around.append((start, end))


def test_five_sessions_as_a_trace(tmp_path: Path) -> None:
    run = Run.load(hand_made(tmp_path / "run"))
    assert write_timeline(tmp_path / "t.json", run, n_devices=200) == len(list(events(run, n_devices=200)))
    trace = json.loads((tmp_path / "t.json").read_text())
    check_format(trace)
    check_nesting(trace)
    spans = [event for event in trace["traceEvents"] if event["ph"] == "X" and event["pid"] == PHONES]
    first = [(event["name"], event["ts"] / 1e6, event["dur"] / 1e6) for event in spans[:4]]
    assert first == [
        ("aggregated", 0.0, 1800.0), ("download", 0.0, 600.0), ("train", 600.0, 900.0), ("upload", 1500.0, 300.0)
    ]  # fmt: skip
    cut = [event for event in spans if event["tid"] == 3]  # phone 9, interrupted in its download
    assert [(event["name"], event["dur"] / 1e6) for event in cut] == [("interrupted", 900.0), ("download", 900.0)]
    steps = [event for event in trace["traceEvents"] if event["ph"] == "X" and event["pid"] == SERVER]
    assert [event["name"] for event in steps] == ["version 1", "abandoned", "version 2"]
    names = [event["args"]["name"] for event in trace["traceEvents"] if event["name"] == "thread_name"]
    assert names == ["steps", "aggregator", "phone 7", "phone 8", "phone 9"]


def test_a_sample_of_phones_and_a_compressed_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = written(tmp_path / "run", seed=0)
    out = tmp_path / "t.json.gz"
    assert main(["timeline", str(folder), "--devices", "2", "--out", str(out)]) == 0
    assert "ui.perfetto.dev" in capsys.readouterr().out
    trace = json.loads(gzip.decompress(out.read_bytes()))
    check_format(trace)
    assert {event["tid"] for event in trace["traceEvents"] if event["pid"] == PHONES} == {0, 1, 2}
    assert any("phone 9" in str(event["args"]) for event in trace["traceEvents"])


def test_a_run_without_sessions_is_a_trace_too(tmp_path: Path) -> None:
    run = Run.load(without_sessions(tmp_path / "run"))
    write_timeline(tmp_path / "t.json", run, n_devices=5)
    check_format(json.loads((tmp_path / "t.json").read_text()))


def test_bad_input_is_one_line_and_writes_nothing(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = sweep / "t.json"
    for words, expected in (
        ([str(sweep / "0"), "--devices", "0"], "--devices: 0"),
        ([str(sweep / "nowhere")], "run directory not found"),
        ([str(sweep)], "no run is here"),
    ):
        assert main(["timeline", *words, "--out", str(out)]) == 2
        said = capsys.readouterr().err
        assert expected in said and len(said.splitlines()) == 1
    assert not out.exists()
    assert len(found_runs([sweep])) == 3
