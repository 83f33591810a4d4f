"""FedScale pickles: there and back, chatter kept, capacity as hardware, bad files refused."""

import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedsim.errors import InputError
from fedsim.fleet.fleet import Fleet
from fedsim.traces.canonical import TraceSet
from fedsim.traces.criteria import Rule, compile_rule
from fedsim.traces.folder import load_traces
from fedsim.traces.importers import fedscale
from fedsim.traces.importers.fedscale import import_fedscale
from fedsim.traces.statistics.stats import mean_share, session_quantiles, share_per_device

DAY_S = 86_400


def client(active: list[int], inactive: list[int], finish_time: int = DAY_S, model: str | None = "LG-K350") -> Any:
    return {
        "duration": sum(inactive) - sum(active),
        "active": active,
        "inactive": inactive,
        "finish_time": finish_time,
        "model": model,
    }


CLIENTS = {
    1: client([0, 100, 100, 500], [100, 100, 200, DAY_S]),  # starts at 0, touching, zero-length, up to the end
    2: client([], []),
    3: client([10], [20], finish_time=2 * DAY_S, model=None),
}


def written(folder: Path, clients: Any, name: str = "client_behave_trace") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_bytes(clients if isinstance(clients, bytes) else pickle.dumps(clients, 3))
    return path


def imported(folder: Path, clients: Any) -> TraceSet:
    import_fedscale(written(folder, clients), folder / "set")
    return load_traces(folder / "set")


def exported(traces: TraceSet) -> dict[int, Any]:
    """The FedScale dict of an imported set."""
    result = {}
    for row, device in enumerate(traces.device_id):
        opening, *rest = range(traces.offsets[row], traces.offsets[row + 1])
        assert (traces.events.at_ms[opening], traces.events.value[opening]) == (0, 0)
        assert traces.events.value[rest].tolist() == [1, 0] * (len(rest) // 2)
        at_s = (traces.events.at_ms[rest] // 1000).tolist()
        result[int(device)] = client(
            at_s[::2], at_s[1::2], int(traces.period_ms[row]) // 1000, traces.facts["model"][row]
        )
    return result


def test_the_dict_comes_back_with_all_its_chatter(tmp_path: Path) -> None:
    traces = imported(tmp_path, OrderedDict(CLIENTS))
    assert exported(traces) == CLIENTS
    assert traces.channels() == ("available",)
    assert not traces.is_local.any()
    assert traces.start_ms.tolist() == [0, 0, 0]
    assert traces.hardware is None


def test_sessions_as_windows_whatever_unknown_counts_as(tmp_path: Path) -> None:
    traces = imported(tmp_path, CLIENTS)
    for unknown in ("ineligible", "eligible"):
        windows = compile_rule(traces, Rule.parse("available"), unknown=unknown)  # type: ignore[arg-type]
        assert windows.offsets.tolist() == [0, 2, 2, 3]
        assert windows.start_ms.tolist() == [0, 500_000, 10_000]
        assert windows.end_ms.tolist() == [200_000, DAY_S * 1000, 20_000]


def test_batches_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import_fedscale(written(tmp_path, CLIENTS), tmp_path / "whole")
    monkeypatch.setattr(fedscale, "_BATCH", 2)
    import_fedscale(tmp_path / "client_behave_trace", tmp_path / "parts")
    whole, parts = load_traces(tmp_path / "whole"), load_traces(tmp_path / "parts")
    assert exported(parts) == exported(whole) == CLIENTS
    assert parts.provenance == whole.provenance


def test_broken_promises_that_do_no_harm_are_counted(tmp_path: Path) -> None:
    clients = {1: client([10, DAY_S - 5, DAY_S + 7], [20, DAY_S + 5, DAY_S + 9]), 2: client([1], [2]) | {"duration": 7}}
    traces = imported(tmp_path, clients)
    assert traces.provenance["n_clients_whose_sessions_do_not_sum_to_duration"] == 1
    assert traces.provenance["n_sessions_cut_at_finish_time"] == 2
    windows = compile_rule(traces, Rule.parse("available"), unknown="ineligible")
    assert windows.end_ms.tolist() == [20_000, DAY_S * 1000, 2000]


def test_a_folder_brings_capacity_along(tmp_path: Path) -> None:
    source = tmp_path / "source"
    written(source, CLIENTS)
    capacity = {
        1: {"computation": np.float64(153.0), "communication": np.float64(8.0)},
        2: {"computation": 39, "communication": 16.5},
    }
    written(source, capacity, "client_device_capacity.first2.pkl")
    (source / "client_behave_trace.parquet").write_bytes(b"a conversion, not looked at")
    import_fedscale(source, tmp_path / "set")
    traces = load_traces(tmp_path / "set")
    assert traces.hardware is not None
    known = [name for name in traces.hardware.column_names if traces.hardware.column(name).null_count < 2]
    assert traces.hardware.select(known).to_pydict() == {
        "weight": [1.0, 1.0],
        "inference_ms_per_sample": [153.0, 39.0],
        "bytes_per_s": [1024.0, 2112.0],  # 1 kbit = 1024 bit = 128 bytes
        "latency_source": ["measured", "measured"],
    }
    assert [file["name"] for file in traces.provenance["files"]] == [
        "client_behave_trace",
        "client_device_capacity.first2.pkl",
    ]
    import_fedscale(
        source / "client_behave_trace", tmp_path / "b", capacity=source / "client_device_capacity.first2.pkl"
    )
    assert load_traces(tmp_path / "b").hardware == traces.hardware
    written(source, CLIENTS, "client_behave_trace.again.pkl")
    with pytest.raises(InputError, match="more than one client_behave_trace"):
        import_fedscale(source, tmp_path / "c")


def test_real_clients_come_back(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "raw/fedscale"
    import_fedscale(source, tmp_path / "set")
    traces = load_traces(tmp_path / "set")
    with (source / "client_behave_trace.first100.pkl").open("rb") as file:
        original = pickle.load(file)
    assert exported(traces) == original
    assert traces.provenance["n_clients_whose_sessions_do_not_sum_to_duration"] == 0
    assert traces.provenance["n_sessions_cut_at_finish_time"] == 0
    assert traces.hardware is not None
    hardware = traces.hardware.to_pydict()
    assert hardware["inference_ms_per_sample"][:3] == [153.0, 39.0, 22.0]
    assert hardware["bytes_per_s"][0] == 2209.615982329485 * 128
    windows = compile_rule(traces, Rule.parse("available"), unknown="ineligible")
    assert round(float(share_per_device(windows).mean()), 3) == 0.746
    assert windows.open_ms[0] == 972_262_000
    assert mean_share(windows) > 0.7
    sessions_s = session_quantiles(windows)
    assert sessions_s is not None
    assert len(windows.start_ms) < 6306, "touching sessions are one window"


def test_a_file_sorted_by_availability_says_so(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fedscale, "_BATCH", 30)
    import_fedscale(shared_data / "raw/fedscale", tmp_path / "set")
    traces = load_traces(tmp_path / "set")
    assert traces.provenance["is_sorted_by_availability"] is True
    # so a fleet must not be the file's first n: it samples
    drawn = Fleet(traces, n_devices=10**6, seed=0).trace_of(np.arange(1000))
    assert len(set(drawn.tolist())) == 100
    assert np.count_nonzero(drawn == np.arange(1000) % 100) < 50
    assert imported(tmp_path, CLIENTS).provenance["is_sorted_by_availability"] is False


def test_any_instant_in_any_order(shared_data: Path, tmp_path: Path) -> None:
    """FedScale's own cursor is wrong once time jumps over a session, and keeps to one client."""
    source = shared_data / "raw/fedscale"
    import_fedscale(source, tmp_path / "set")
    with (source / "client_behave_trace.first100.pkl").open("rb") as file:
        original = pickle.load(file)
    windows = compile_rule(load_traces(tmp_path / "set"), Rule.parse("available"), unknown="ineligible")
    draw = np.random.default_rng(5)
    for row in draw.integers(0, 100, 40).tolist():
        entry = original[row + 1]
        at_s = draw.uniform(0, 5 * entry["finish_time"], 200) % entry["finish_time"]
        active, inactive = np.array(entry["active"]), np.array(entry["inactive"])
        expected = ((active <= at_s[:, None]) & (at_s[:, None] < inactive)).any(axis=1)
        mine = slice(windows.offsets[row], windows.offsets[row + 1])
        k = np.searchsorted(windows.start_ms[mine], at_s * 1000, side="right") - 1
        found = (k >= 0) & (at_s * 1000 < windows.end_ms[mine][np.maximum(k, 0)])
        assert (found == expected).all()


class Shell:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("true",)


@pytest.mark.parametrize(
    ("clients", "says"),
    [
        (pickle.dumps(CLIENTS)[:-9], "pickle cannot be read"),
        ({1: Shell()}, r"global that is not allowed: '(posix|nt)\.system'"),
        ({1: client([np.int64(1)], [2])}, "global that is not allowed: 'numpy"),
        ([1, 2], "must hold a dict of clients"),
        ({}, "must hold a dict of clients"),
        ({1: 5}, "field 'duration' is missing in client 1 of"),
        ({"x": {"duration": 1}}, "field 'finish_time' is missing in client 'x'"),
        ({1: client([1], [2]) | {"duration": "1"}}, "field 'duration' has the wrong type: '1' in client 1"),
        ({1: client([1], [2]) | {"duration": True}}, "field 'duration' has the wrong type: True"),
        ({1: client([1], [2], finish_time=0)}, "finish_time out of range: 0 in client 1"),
        ({1: client([1], [2], finish_time=10**18)}, "finish_time out of range"),
        ({1: client([1.5], [2]) | {"duration": 1}}, "field 'active' must list whole seconds: 1.5 in client 1"),  # type: ignore[list-item]
        ({1: client([1], [10**30])}, "field 'inactive' must list whole seconds"),
        ({1: client([1, 2], [3])}, r"active and inactive differ in length: \(2, 1\) in client 1"),
        ({1: client([1], [2], model=7)}, "field 'model' has the wrong type: 7"),  # type: ignore[arg-type]
        ({1: client([1], [2]), 4: client([5, 8], [9, 10])}, r"session 1 starts before .*: \(8, 10\) in client 4"),
        ({1: client([5], [4])}, r"session 0 starts before .*: \(5, 4\) in client 1"),
        ({1: client([-1], [4])}, "session 0 starts before"),
    ],
)
def test_bad_behaviour_is_named_and_nothing_is_written(tmp_path: Path, clients: Any, says: str) -> None:
    source = written(tmp_path, clients)
    with pytest.raises(InputError, match=says):
        import_fedscale(source, tmp_path / "set")
    assert [path.name for path in tmp_path.iterdir()] == ["client_behave_trace"]


@pytest.mark.parametrize(
    ("capacity", "says"),
    [
        ({1: {"computation": 1.0}}, "field 'communication' is missing in client 1"),
        ({1: {"computation": 1.0, "communication": -2.0}}, r"communication must be positive: -2\.0 in client 1"),
        ({5: {"computation": float("nan"), "communication": 1.0}}, "computation must be positive: nan in client 5"),
        ({1: {"computation": "fast", "communication": 1.0}}, "field 'computation' has the wrong type"),
        ({1: Shell()}, "global that is not allowed"),
    ],
)
def test_bad_capacity_is_named_and_nothing_is_written(tmp_path: Path, capacity: Any, says: str) -> None:
    source = tmp_path / "source"
    written(source, CLIENTS)
    written(source, capacity, "client_device_capacity")
    with pytest.raises(InputError, match=says):
        import_fedscale(source, tmp_path / "set")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_a_missing_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not found"):
        import_fedscale(tmp_path / "nothing", tmp_path / "set")
    with pytest.raises(InputError, match="must be a file"):
        import_fedscale(tmp_path, tmp_path / "set")
