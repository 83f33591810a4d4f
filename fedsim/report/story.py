"""The sentences of the page: what was asked, what came out, what it rests on, how to repeat it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any, NamedTuple

from fedsim.report.sources import Noted
from fedsim.report.words import UNKNOWN, duration, group, hours, large, listed, metric_name, percent, size
from fedsim.results.numbers import metric_curve, metric_names, peak_width_s, step_times, waste
from fedsim.results.run import Run
from fedsim.units import HOUR_S, MINUTE_S

PROTOCOLS = {"sync": "synchronous rounds", "buffered": "buffered asynchronous aggregation"}


STOP_REASONS = {
    "max_steps": "ended at the asked number of steps",
    "max_s": "ended at the asked time",
    "target": "ended when the target metric was reached",
}


class Tile(NamedTuple):
    """A headline number with what it is and a remark."""

    label: str
    value: str
    remark: str


def title(run: Run) -> str:
    """The heading of the page."""
    protocol = PROTOCOLS.get(run.summary["protocol"], run.summary["protocol"])
    return f"{large(run.summary['n_devices'])} devices, {protocol}, {duration(run.summary['simulated_s'])}"


def result_sentence(run: Run, numbers: dict[str, Any]) -> str:
    """The result in one sentence of plain language."""
    let_in = percent(run.summary["admitted_fraction_mean"])
    word = "let in" if run.summary["admitted_fraction_mean"] < run.summary["eligible_fraction_mean"] else "eligible"
    start = (
        f"In {duration(numbers['simulated_s'])} of simulated time, a fleet of {large(numbers['n_devices'])} devices "
        f"({let_in} of them {word} on average)"
    )
    if not numbers["n_sessions"]:
        return f"{start} carried out no session."
    steps = f"{large(numbers['n_steps'])} {'rounds' if run.summary['protocol'] == 'sync' else 'server steps'}"
    if numbers["step_median_s"] is not None:
        steps += f" (median {duration(numbers['step_median_s'])})"
    aggregated, spent = percent(numbers["aggregated_fraction"]), waste(run)
    return (
        f"{start} carried out {large(numbers['n_sessions'])} sessions; {aggregated} of them went into {steps}. "
        f"Of {large(numbers['device_s'] / HOUR_S)} device-hours {percent(spent['for speed'])} were the price of speed "
        f"(late, or told that they were not needed) and {percent(spent['lost'])} were lost; {_quality(run)}."
    )


def _quality(run: Run) -> str:
    names = metric_names(run)
    if not names:
        return "no model was evaluated"
    central = _central(run, names[0])
    text = f"held-out {metric_name(names[0])} ended at {metric_curve(run, names[0]).value[-1]:.3f}"
    return text if central is None else f"{text} (central training: {central:.3f})"


def _central(run: Run, metric: str) -> float | None:
    value = (run.summary.get("central_metrics") or {}).get(metric)
    return None if value is None else float(value)


def tiles(run: Run, numbers: dict[str, Any]) -> list[Tile]:
    """Headline numbers, in the order in which a planner asks for them."""
    n_sessions, n_steps, reason = numbers["n_sessions"], numbers["n_steps"], run.summary["stop_reason"]
    unit = "round" if run.summary["protocol"] == "sync" else "step"
    per_step = f"{large(n_sessions / n_steps)} per server step" if n_steps else "no server step"
    tiles = [
        Tile("Simulated time", duration(numbers["simulated_s"]), STOP_REASONS.get(reason, reason) + _in_rounds(run)),
        Tile("Server steps", large(n_steps), _abandoned(run, numbers)),
        _quantile_tile(f"Time per {unit}", numbers["step_median_s"], numbers["step_p95_s"]),
        *_quality_tiles(run),
        Tile("Sessions", large(n_sessions), per_step),
        Tile("Aggregated", _share(numbers["aggregated_fraction"]), "of all sessions"),
        _quantile_tile("Session length", numbers["session_median_s"], numbers["session_p95_s"]),
        Tile("Device time", hours(numbers["device_s"]), _spent(run)),
        Tile("Download", size(numbers["download_bytes"]), _fastest(numbers["peak_download_bytes_per_s"])),
        Tile("Upload", size(numbers["upload_bytes"]), _fastest(numbers["peak_upload_bytes_per_s"])),
        *_energy_tiles(numbers),
        *_battery_tiles(numbers),
        Tile("Devices in flight", large(numbers["mean_in_flight"]), _peak(numbers)),
        Tile("Reports per second", f"{numbers['reports_per_s']:.3g}", _busiest_minute(run, numbers)),
        Tile("Distinct devices", large(numbers["n_distinct_devices"]), _spread(numbers)),
    ]
    return [tile for tile in tiles if tile.value != UNKNOWN]  # what was not measured takes no room


def _in_rounds(run: Run) -> str:
    """How much of the time rounds took; the rest went by between them."""
    if run.summary["protocol"] != "sync":
        return ""
    rounds_s = float(step_times(run).seconds.sum())
    return f"; rounds took {percent(rounds_s / run.summary['simulated_s'])} of it, the server and waiting the rest"


def _quantile_tile(label: str, median: float | None, p95: float | None) -> Tile:
    return Tile(label, duration(median), "too few to tell" if p95 is None else f"median; 95 % below {duration(p95)}")


def _abandoned(run: Run, numbers: dict[str, Any]) -> str:
    if run.summary["protocol"] == "sync":
        return f"and {large(numbers['n_abandoned_rounds'])} abandoned rounds"
    return "model versions"


def _quality_tiles(run: Run) -> list[Tile]:
    tiles = []
    for name in metric_names(run)[:2]:
        central = _central(run, name)
        remark = "held-out; no central baseline" if central is None else f"held-out; central training: {central:.3f}"
        tiles.append(Tile(f"Final {metric_name(name)}", f"{metric_curve(run, name).value[-1]:.3f}", remark))
    return tiles


def _spent(run: Run) -> str:
    """``useful 54.9 %, for speed 33.1 %, lost 11.8 %``."""
    return ", ".join(f"{name} {percent(share)}" for name, share in waste(run).items() if share)


def _fastest(rate: float | None) -> str:
    return "no transfer" if not rate else f"at most {size(rate)}/s at once"


def _peak(numbers: dict[str, Any]) -> str:
    return f"mean over time; {large(numbers['most_in_flight'] or 0)} at once at most"


def _busiest_minute(run: Run, numbers: dict[str, Any]) -> str:
    busiest = numbers["peak_reports_per_s"]
    period = "minute" if peak_width_s(run) <= MINUTE_S else "hour"
    return "mean over time" if busiest is None else f"mean over time; {busiest:.3g} in the busiest {period}"


def _energy_tiles(numbers: dict[str, Any]) -> list[Tile]:
    if numbers["joules_per_session"] is None:
        return []
    remark = f"{numbers['energy_kwh']:.3g} kWh in all; {percent(numbers['wasted_energy_fraction'])} reached no model"
    return [Tile("Session energy", f"{numbers['joules_per_session']:.3g} J", remark)]


def _battery_tiles(numbers: dict[str, Any]) -> list[Tile]:
    median, p95 = numbers["battery_used_median_percent"], numbers["battery_used_p95_percent"]
    if median is None:
        return []
    return [Tile("Battery per session", f"{median:.2g}\u00a0%", f"median; 95 % below {p95:.2g}\u00a0%")]


def _share(fraction: float | None) -> str:
    return UNKNOWN if fraction is None else percent(fraction)


def _spread(numbers: dict[str, Any]) -> str:
    if numbers["top_tenth_share"] is None:
        return "no session took place"
    top = percent(numbers["top_tenth_share"])
    return f"{percent(numbers['distinct_fraction'])} of the fleet; the busiest tenth did {top} of the sessions"


def asked(run: Run) -> list[tuple[str, str]]:
    """What the run was asked to do, in the few settings that matter most; the page ends with all of them."""
    summary, config = run.summary, run.config
    device = config.get("device", {})
    rows = [
        ("Fleet", f"{summary['n_devices']:,} devices over {summary['n_base_traces']:,} base traces"),
        ("Trace set", PurePath(str(config.get("traces", {}).get("folder") or "a mixture")).name),
        ("Rule", f"{summary['rule']} (on average {percent(summary['eligible_fraction_mean'])} of the fleet)"),
        ("Roll-out", group(config.get("fleet", {}).get("rollout") or {})),
        ("Protocol", _protocol(run)),
        ("Device", _chosen(device, _OF_DEVICE)),
        *((name.capitalize(), _chosen(device.get(name) or {}, keys)) for name, keys in _OF_PARTS.items()),
        ("Battery", _battery(device.get("battery") or {})),
        ("Model", _model(run)),
        ("Data", _chosen(config.get("data", {}), _OF_DATA)),
        ("Training", _training(config.get("training", {}))),
        ("Stop", group({key: value for key, value in config.get("stop", {}).items() if value})),
        ("Seed", str(summary["seed"])),
    ]
    return [(name, text) for name, text in rows if text]


def _chosen(values: dict[str, Any], keys: Sequence[str]) -> str:
    """The class of a group and some of its settings, as far as they are given."""
    some = {key: values[key] for key in ("_target_", *keys) if values.get(key) is not None}
    return group(some)


_OF_DEVICE = ("interruption", "partial_work", "crash_fraction", "session_timeout_s", "setup_s")
_OF_PARTS = {
    "compute": ("relative_cost", "time_factor"),
    "network": ("connect_s", "rate_factor"),
    "energy": ("compute_w",),
}
_OF_DATA = ("n_clients", "examples_median")
_OF_SERVER = (
    "report_goal", "over_selection", "quorum_fraction", "deadline_s", "concurrency", "buffer_size", "max_staleness",
    "server_step_s",
)  # fmt: skip
_OF_TRAINING = ("loss", "local", "server_optimizer")


def _protocol(run: Run) -> str:
    server = run.config.get("server", {})
    settings = {key: server[key] for key in _OF_SERVER if server.get(key) is not None}
    name = PROTOCOLS.get(run.summary["protocol"], run.summary["protocol"])
    return f"{name}: {group(settings)}" if settings else name


def _model(run: Run) -> str:
    n, n_bytes, model = run.summary["n_parameters"], run.summary["model_bytes"], run.config.get("model", {})
    name = str((model.get("module") or {}).get("_target_", "")).rpartition(".")[2]
    counted = f"{n:,} parameters" if n else f"parameters {UNKNOWN}"
    assets = run.summary.get("assets_bytes")
    more = f", {size(assets)} of static assets beside it" if assets else ""
    stand_in = model.get("costs_as")
    if stand_in:
        more += f"; phones and links pay for {stand_in['name']} of {stand_in['n_parameters']:,} parameters instead"
    return f"{name}; {counted}, {size(n_bytes)} to download{more}".removeprefix("; ")


def _battery(values: dict[str, Any]) -> str:
    return group(values) if values.get("capacity_wh") else ""


def _training(values: dict[str, Any]) -> str:
    if str(values.get("_target_", "")).endswith(".NullTrainer"):
        return "none: the schedule alone was simulated"
    return group({key: _given(values[key]) for key in _OF_TRAINING if values.get(key) is not None})


def _given(value: Any) -> Any:
    """A group without what is not set."""
    return {key: item for key, item in value.items() if item is not None} if isinstance(value, dict) else value


def foundations(run: Run, numbers: dict[str, Any], noted: list[Noted]) -> list[str]:
    """What the numbers rest on: traces, simplifications, checks, what is missing."""
    summary = run.summary
    lines = [
        _trace_source(run),
        f"The fleet's behaviour is that of {summary['n_base_traces']:,} base traces, of which "
        f"{numbers['n_base_traces_used']:,} took part. {_sharing(run)}",
        f"One seed ({summary['seed']}): every number is one draw and has no interval. Repeat the run with other seeds "
        "to see how far they spread.",
        "Useful work is that of sessions that were aggregated. For speed: late, or told before the upload that they "
        "were not needed, which over-selection takes into account. Lost: interrupted, timed out, failed, stale. Each "
        "session counts with its whole time from assignment to end.",
        "Figures over time spread the bytes of a transfer evenly over its duration. Quantiles of session and phase "
        "lengths are within 0.6 %. Hours of the day are those of the simulated clock, which starts at midnight.",
        f"Checked: the tables hold the {numbers['n_sessions']:,} sessions that the summary counts, outcome by outcome.",
    ]
    n_after = int(run.totals.n.sum() - run.totals.ended.sum())
    if n_after:
        lines.append(
            f"{n_after:,} sessions ended after the run. They are in all totals; figures over time end with the run."
        )
    if numbers["joules_per_session"] is not None:
        lines.append("Energy is that of training and radio at the configured powers, not measured on devices.")
    assumed = [f"{note.key}={_flow(note.value)}" for note in noted if note.is_assumed]
    if assumed:
        lines.append(f"Assumed, neither measured nor published: {listed(assumed)}.")
    return lines


def _trace_source(run: Run) -> str:
    origin = (run.provenance.get("traces") or {}).get("provenance") or {}
    return f"Traces: {origin.get('source', 'source not recorded')}; licence: {origin.get('licence', 'not recorded')}."


def _flow(value: Any) -> str:
    """A value as the command line takes it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {item}" for key, item in value.items()) + "}"
    return str(value)


def _sharing(run: Run) -> str:
    if run.config.get("fleet", {}).get("is_replay"):
        return "Each device replays a trace of its own as it was recorded."
    per_trace = large(run.summary["n_devices"] / run.summary["n_base_traces"])
    return (
        f"{per_trace} devices share a trace, each at its own shift in time: "
        "a behaviour that no trace shows cannot occur."
    )


def command(run: Run) -> str:
    """The command line that repeats the run."""
    overrides = run.provenance.get("overrides") or []
    return shlex.join(["fedsim", "run", *map(str, overrides)])


def provenance_rows(run: Run) -> list[tuple[str, str]]:
    """Everything the run recorded about its origin, nested entries by dotted names."""
    return sorted(_flat(run.provenance))


def _flat(value: Any, name: str = "") -> list[tuple[str, str]]:
    if isinstance(value, dict):
        return [row for key, item in value.items() for row in _flat(item, f"{name}.{key}" if name else key)]
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        return [row for i, item in enumerate(value) for row in _flat(item, f"{name}.{i}")]
    return [(name, ", ".join(map(str, value)) if isinstance(value, list) else str(value))]
