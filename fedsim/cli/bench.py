"""``fedsim bench``: speed and memory, each beside a baseline measured in the same run.

Absolute figures belong to the machine; the ratios are what can be compared. Bars are those of the
design: what the engine must reach at least.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import simpy
from rich.console import Console
from rich.progress import track
from rich.table import Table

from fedsim.config.compose import composed
from fedsim.config.simulation import build_simulation
from fedsim.errors import InputError
from fedsim.files import write_json
from fedsim.fleet.participation import Participation
from fedsim.provenance import package_versions
from fedsim.rng import bits
from fedsim.schema import CHANNELS
from fedsim.server.selector.selection import Scene
from fedsim.server.selector.uniform import UniformSelector
from fedsim.traces.canonical import Events, TraceSet
from fedsim.traces.criteria import compile_rule
from fedsim.traces.rule import Rule
from fedsim.traces.spans import unknown_facts
from fedsim.traces.statistics.stats import criteria_table
from fedsim.training.trainer import Trainer, Updates
from fedsim.units import DAY_MS, DAY_S

_QUIET = ("experiment=smoke", "training=none", "report=false", "stop.max_steps=null", "gauge_interval_s=3600")
_MB = 1_000_000


@dataclass(frozen=True)
class Row:
    """One measured figure: ``value`` in ``unit``, and the bar it must meet."""

    name: str
    value: float
    unit: str
    bar: str
    note: str


def _median_s(action: Callable[[], object], *, repeats: int) -> float:
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))


def bare_timeouts_per_s(n: int = 300_000) -> float:
    """SimPy timeouts with a callback that does nothing, per second: the baseline of the engine."""
    env = simpy.Environment()
    start = time.perf_counter()
    for i in range(n):
        env.timeout(float(i % 977)).callbacks.append(lambda event: None)
    env.run()
    return n / (time.perf_counter() - start)


def selection() -> list[Row]:
    """1,000 eligible devices of a million and of a billion, all free, and of a million of whom 90 % are busy."""
    return [
        _selection(1_000_000, busy_share=0.0),
        _selection(1_000_000_000, busy_share=0.0),
        _selection(1_000_000, busy_share=0.9),
    ]


def _selection(n_devices: int, *, busy_share: float) -> Row:
    world = build_simulation(composed([*_QUIET, f"fleet.n_devices={n_devices}"])).world
    participation = Participation()
    if busy_share:
        is_busy = np.random.default_rng(0).random(n_devices) < busy_share
        busy = np.flatnonzero(is_busy)
        participation.begin(busy, np.full(len(busy), np.inf))
    scene = Scene(world.availability, world.availability.watch(), participation)
    selector = UniformSelector(seed=0, min_between_sessions_s=0.0, min_between_participations_s=0.0)
    search, hours = selector.start(scene), iter(range(10_000))

    def select() -> None:
        selection = search.find(np.full(1000, 3600.0 * next(hours)))
        search.take(selection, len(selection))

    select()  # the first one works out a day of eligibility
    ms = 1000 * _median_s(select, repeats=48)
    share = float(world.availability.eligible_fraction(np.arange(0.0, DAY_S, 3600.0)).mean())
    name = f"select 1,000 of {n_devices:.0e} devices" + (f", {busy_share:.0%} busy" if busy_share else "")
    return Row(name, ms, "ms", "≤ 2 ms", f"mean eligible share {share:.3f}")


def memory() -> list[Row]:
    """Peak memory of a simulated day over a billion devices, in a process of its own."""
    command = "from fedsim.cli.bench import _day_of_a_billion; print(_day_of_a_billion())"
    out = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    peak_mb, n_sessions = out.stdout.split()
    return [Row("peak memory, 1 billion devices, 1 day", float(peak_mb), "MB", "≤ 2,000 MB", f"{n_sessions} sessions")]


def _day_of_a_billion() -> str:
    with tempfile.TemporaryDirectory() as folder:
        values = composed([*_QUIET, "fleet.n_devices=1_000_000_000", "stop.max_s=86400"])
        summary = build_simulation(values).run(Path(folder)).summary
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / _MB:.0f} {summary['n_sessions']}"


def _sessions_per_s(overrides: Sequence[str]) -> float:
    with tempfile.TemporaryDirectory() as folder:
        simulation = build_simulation(composed([*_QUIET, *overrides]))
        start = time.perf_counter()
        summary = simulation.run(Path(folder)).summary
        return float(summary["n_sessions"]) / (time.perf_counter() - start)


def _against_timeouts(name: str, overrides: Sequence[str], bar: float | None) -> list[Row]:
    pairs = [(_sessions_per_s(overrides), bare_timeouts_per_s()) for _ in range(3)]
    ratio = float(np.median([ours / bare for ours, bare in pairs]))
    ours, bare = (float(np.median(column)) for column in zip(*pairs, strict=True))
    note = f"{ours:,.0f} sessions/s against {bare:,.0f} bare timeouts/s, tables written"
    return [Row(name, ratio, "× bare timeouts", "" if bar is None else f"≥ {bar:g}", note)]


def sync() -> list[Row]:
    """Synchronous rounds of 10,000 devices, tables written, against bare SimPy timeouts."""
    overrides = ["server.report_goal=10000", "server.over_selection=1.0", "server.server_step_s=1", "stop.max_steps=20"]
    return _against_timeouts("sync sessions, cohort 10,000", overrides, 3.0)


_BUFFERED = (
    "server=buffered",
    "device.compute.relative_cost=20",
    "server.max_staleness=1000",
    "server.server_step_s=0",
)
_CONCURRENCIES = {100: (10, 4800, 0.15), 1_000: (100, 1200, 0.5), 10_000: (1000, 400, 1.0)}  # buffer, seconds, bar


def buffered() -> list[Row]:
    """Buffered aggregation in strides, tables written, against bare SimPy timeouts; the same tick by tick beside it."""
    rows = []
    for concurrency, (buffer_size, max_s, bar) in _CONCURRENCIES.items():
        overrides = [*_BUFFERED, f"server.concurrency={concurrency}", f"server.buffer_size={buffer_size}"]
        overrides.append(f"stop.max_s={max_s}")
        name = f"buffered sessions, concurrency {concurrency:,}"
        rows += _against_timeouts(name, overrides, bar)
        rows += _against_timeouts(f"{name}, tick by tick", [*overrides, "server.looks_ahead=false"], None)
    return rows


def growth() -> list[Row]:
    """What a run costs beside one with half the sessions, a tenth of the devices, fewer that are busy or touched."""
    common = [*_BUFFERED, "server.concurrency=1000", "server.buffer_size=100"]
    base = [*common, "fleet.n_devices=1_000_000", "stop.max_s=4800"]
    twice = [*common, "fleet.n_devices=1_000_000", "stop.max_s=9600"]
    many = [*common, "fleet.n_devices=10_000_000", "stop.max_s=4800"]
    rows = [
        _ratio("buffered, sessions × 2: time", twice, base, "≤ 2.2"),
        _ratio("buffered, devices × 10: time", many, base, "≤ 1.1"),
    ]
    busy = ["fleet.n_devices=15_000", "server.concurrency=980", "server.buffer_size=100", "stop.max_s=4800"]
    speeds = [(_sessions_per_s([*_BUFFERED, *busy]), _sessions_per_s(base)) for _ in range(3)]
    ratio = float(np.median([ours / ordinary for ours, ordinary in speeds]))
    note = "980 in flight of about 1,090 eligible ones, against 1,000 of 75,000"
    rows.append(Row("buffered, nine of ten eligible busy: sessions/s", ratio, "×", "≥ 0.5", note))
    small, large = _bytes_per_device(100_000), _bytes_per_device(1_000_000)
    note = f"{large:.0f} B a device at a million, the peak while the table grows included"
    return [*rows, Row("devices touched × 10: bytes each", large / small, "×", "≤ 1.1", note)]


def _ratio(name: str, ours: Sequence[str], than: Sequence[str], bar: str) -> Row:
    pairs = [(_run_s(ours), _run_s(than)) for _ in range(3)]
    ratio = float(np.median([one / other for one, other in pairs]))
    return Row(name, ratio, "×", bar, f"{pairs[0][0]:.2f} s against {pairs[0][1]:.2f} s in the first pair")


def _run_s(overrides: Sequence[str]) -> float:
    with tempfile.TemporaryDirectory() as folder:
        simulation = build_simulation(composed([*_QUIET, *overrides]))
        start = time.perf_counter()
        simulation.run(Path(folder))
        return time.perf_counter() - start


def _bytes_per_device(n: int) -> float:
    parts = np.array_split(np.arange(n), 100)
    tracemalloc.start()
    try:
        participation, most = Participation(), 0.0
        for part in parts:
            tracemalloc.reset_peak()
            participation.begin(part, np.zeros(len(part)))
            if participation.n_touched > n // 2:
                most = max(most, tracemalloc.get_traced_memory()[1] / participation.n_touched)
    finally:
        tracemalloc.stop()
    return most


_TASKS = {
    "logistic regression, 650": [
        "model=logistic_digits",
        "data=digits",
        "training.loss=cross_entropy",
        "training.metrics=[accuracy]",
    ],
    "click model": ["model=clicks", "data=clicks", "training.loss=binary_cross_entropy", "training.metrics=[log_loss]"],
}


def cohort() -> list[Row]:
    """Clients trained per second: many at once against one after the other."""
    rows = []
    for name, overrides in _TASKS.items():
        rates = {kind: _clients_per_s([*overrides, f"training={kind}"]) for kind in ("cohort", "loop")}
        note = f"{rates['cohort']:,.0f} clients/s against {rates['loop']:,.0f} in a loop"
        rows.append(Row(f"cohort training, {name} parameters", rates["cohort"] / rates["loop"], "× loop", "≥ 6", note))
    return rows


def _clients_per_s(overrides: Sequence[str], *, n_clients: int = 256) -> float:
    simulation = build_simulation(composed(["report=false", *overrides]))
    trainer: Trainer = simulation.task.trainer()
    clients = np.arange(n_clients) % simulation.task.clients.n_clients

    def step() -> None:
        versions = np.full(n_clients, trainer.version)
        weights = np.full(n_clients, 1 / n_clients)
        trainer.step(Updates(clients, versions, weights, bits(0, "bench", clients)))

    step()
    return n_clients / _median_s(step, repeats=3)


def traces() -> list[Row]:
    """A rule, and a sweep of ten, over as many traces and events as FedScale's full availability set would have."""
    large = _large_set(n=107_749, n_events=232)
    rule = Rule.parse("charging & network == wifi & locked")
    ten = [Rule.parse(text) for text in ("charging", "locked", "screen", "network == wifi", "network == 4g")]
    ten += [Rule.parse(f"charging & battery >= {level}") for level in (10, 30, 50, 70, 90)]
    events = large.events
    device = large.device_of_event()
    sort_s = _median_s(lambda: np.lexsort((events.at_ms, events.channel, device)), repeats=3)
    one_s = _median_s(lambda: compile_rule(large, rule, unknown="ineligible"), repeats=3)
    ten_s = _median_s(lambda: criteria_table(large, ten, unknown="ineligible"), repeats=1)
    size = f"{large.n:,} traces, {len(events) / 1e6:.0f} M events"
    return [
        Row(f"compile a rule, {size}", one_s, "s", "≤ 60 s", f"{one_s / sort_s:.2g} × one sort of the same events"),
        Row(f"criteria of ten rules, {size}", ten_s, "s", "minutes", f"{ten_s / sort_s:.2g} × one sort"),
    ]


def _large_set(*, n: int, n_events: int) -> TraceSet:
    """Traces of a week with changes of random channels at random instants; behaviour is not the point here."""
    draw = np.random.default_rng(0)
    at_ms = np.sort(draw.integers(0, 7 * DAY_MS, (n, n_events)), axis=1).ravel()
    channel = draw.integers(1, len(CHANNELS), n * n_events).astype(np.int8)
    on_off = draw.integers(0, 2, n * n_events).astype(np.float32)
    value = np.where(CHANNELS.index("network") == channel, 1 + 3 * on_off, on_off)
    value = np.where(CHANNELS.index("battery") == channel, draw.integers(0, 101, n * n_events), value)
    return TraceSet(
        device_id=np.arange(n).astype(str).astype(object),
        start_ms=np.zeros(n, dtype=np.int64),
        period_ms=np.full(n, 7 * DAY_MS),
        is_local=np.ones(n, dtype=bool),
        facts=unknown_facts(n),
        offsets=np.arange(n + 1) * n_events,
        events=Events(at_ms, channel, value.astype(np.float32), np.zeros(n * n_events, dtype=bool)),
    )


def start() -> list[Row]:
    """Time to import fedsim and to answer --help, in processes of their own."""

    def fresh(*words: str) -> Callable[[], object]:
        return lambda: subprocess.run([sys.executable, *words], check=True, capture_output=True)

    bare_s = _median_s(fresh("-c", "pass"), repeats=5)
    import_s = _median_s(fresh("-c", "import fedsim.simulation"), repeats=5)
    help_s = _median_s(fresh("-m", "fedsim.cli.main", "--help"), repeats=5)
    note = f"bare interpreter {bare_s:.2f} s"
    return [
        Row("import the engine without training", import_s, "s", "≤ 0.5 s", note),
        Row("fedsim --help", help_s, "s", "≤ 0.5 s", note),
    ]


BENCHMARKS: dict[str, Callable[[], list[Row]]] = {
    "selection": selection,
    "memory": memory,
    "sync": sync,
    "buffered": buffered,
    "growth": growth,
    "traces": traces,
    "cohort": cohort,
    "start": start,
}


def main(names: Sequence[str], *, json_file: Path | None) -> None:
    """Run the named benchmarks (none: all), print the table and optionally write it as JSON."""
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        raise InputError("unknown benchmark", value=unknown[0], allowed=", ".join(BENCHMARKS))
    rows = []
    for name in track(names or list(BENCHMARKS), description="benchmarks", transient=True):
        rows += BENCHMARKS[name]()
    table = Table("figure", "value", "bar", "note", title="Measured in one run on this machine")
    for row in rows:
        table.add_row(row.name, f"{row.value:.3g} {row.unit}", row.bar, row.note)
    Console().print(table)
    if json_file is not None:
        write_json(json_file, {"versions": package_versions(), "rows": [asdict(row) for row in rows]})
