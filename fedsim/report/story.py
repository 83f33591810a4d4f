"""The sentences of the page: what was asked, what came out, what it rests on, how to repeat it."""

from __future__ import annotations

import shlex
from typing import Any, NamedTuple

from fedsim.report.sources import Noted
from fedsim.report.words import UNKNOWN, duration, group, hours, large, listed, metric_name, percent, size
from fedsim.results.numbers import metric_curve, metric_names, step_times
from fedsim.results.run import Run
from fedsim.units import HOUR_S

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
    eligible = percent(run.summary["admitted_fraction_mean"])
    start = (
        f"In {duration(numbers['simulated_s'])} of simulated time, a fleet of {large(numbers['n_devices'])} devices "
        f"({eligible} of them eligible on average)"
    )
    if not numbers["n_sessions"]:
        return f"{start} carried out no session."
    steps = f"{large(numbers['n_steps'])} {'rounds' if run.summary['protocol'] == 'sync' else 'server steps'}"
    if numbers["step_median_s"] is not None:
        steps += f" (median {duration(numbers['step_median_s'])})"
    aggregated, wasted = percent(numbers["aggregated_fraction"]), percent(numbers["wasted_fraction"])
    return (
        f"{start} carried out {large(numbers['n_sessions'])} sessions; {aggregated} of them went into {steps}, "
        f"{wasted} of {large(numbers['device_s'] / HOUR_S)} device-hours were wasted, and {_quality(run)}."
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
    return [
        Tile("Simulated time", duration(numbers["simulated_s"]), STOP_REASONS.get(reason, reason) + _in_rounds(run)),
        Tile("Server steps", large(n_steps), _abandoned(run, numbers)),
        _quantile_tile(f"Time per {unit}", numbers["step_median_s"], numbers["step_p95_s"]),
        *_quality_tiles(run),
        Tile("Sessions", large(n_sessions), per_step),
        Tile("Aggregated", _share(numbers["aggregated_fraction"]), "of all sessions"),
        _quantile_tile("Session length", numbers["session_median_s"], numbers["session_p95_s"]),
        Tile("Device time", hours(numbers["device_s"]), f"wasted: {_share(numbers['wasted_fraction'])}"),
        Tile("Download", size(numbers["download_bytes"]), _busiest(numbers["peak_hour_download_bytes"])),
        Tile("Upload", size(numbers["upload_bytes"]), _busiest(numbers["peak_hour_upload_bytes"])),
        _energy_tile(numbers),
        *_battery_tiles(numbers),
        Tile("Devices in flight", large(numbers["mean_in_flight"]), _peak(numbers)),
        Tile("Distinct devices", large(numbers["n_distinct_devices"]), _spread(numbers)),
    ]


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
    return tiles or [Tile("Model quality", UNKNOWN, "no model was evaluated")]


def _busiest(n_bytes: float | None) -> str:
    return "run shorter than an hour" if n_bytes is None else f"busiest hour: {size(n_bytes)}"


def _peak(numbers: dict[str, Any]) -> str:
    busiest = numbers["peak_in_flight"]
    return "mean over time" if busiest is None else f"mean over time; {large(busiest)} in the busiest minute"


def _energy_tile(numbers: dict[str, Any]) -> Tile:
    if numbers["joules_per_session"] is None:
        return Tile("Session energy", UNKNOWN, "no energy was booked")
    remark = f"{numbers['energy_kwh']:.3g} kWh in all; {percent(numbers['wasted_energy_fraction'])} wasted"
    return Tile("Session energy", f"{numbers['joules_per_session']:.3g} J", remark)


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
    """What the run was asked to do, in words."""
    summary, config = run.summary, run.config
    device = config.get("device", {})
    rows = [
        ("Fleet", f"{summary['n_devices']:,} devices over {summary['n_base_traces']:,} base traces"),
        ("Trace set", str(config.get("traces", {}).get("folder", "not recorded"))),
        ("Eligible", f"{summary['rule']} (on average {percent(summary['eligible_fraction_mean'])} of the fleet)"),
        ("Roll-out", group(config.get("fleet", {}).get("rollout") or {})),
        ("Protocol", _protocol(run)),
        ("Device", group({key: value for key, value in device.items() if not isinstance(value, dict)})),
        ("Phones", group(config.get("fleet", {}).get("hardware") or {})),
        *((name.capitalize(), group(device[name])) for name in ("compute", "network", "energy") if name in device),
        ("Battery", _battery(device.get("battery") or {})),
        ("Model", _model(run)),
        ("Data", group(config.get("data", {}))),
        ("Training", _training(config.get("training", {}))),
        ("Stop", group({key: value for key, value in config.get("stop", {}).items() if value is not None})),
        ("Seed", str(summary["seed"])),
    ]
    return [(name, text) for name, text in rows if text]


def _protocol(run: Run) -> str:
    settings = {key: value for key, value in run.config.get("server", {}).items() if key != "_target_"}
    name = PROTOCOLS.get(run.summary["protocol"], run.summary["protocol"])
    return f"{name}: {group(settings)}" if settings else name


def _model(run: Run) -> str:
    n, n_bytes = run.summary["n_parameters"], run.summary["model_bytes"]
    counted = f"{n:,} parameters" if n else f"parameters {UNKNOWN}"
    module = group(run.config.get("model", {}).get("module") or {})
    assets = run.summary.get("assets_bytes")
    more = f", {size(assets)} of static assets beside it" if assets else ""
    return f"{module}; {counted}, {size(n_bytes)} to download{more}".removeprefix("; ")


def _battery(values: dict[str, Any]) -> str:
    return group(values) if values.get("capacity_wh") else ""


def _training(values: dict[str, Any]) -> str:
    return "none: the schedule alone was simulated" if values.get("name") == "none" else group(values)


def foundations(run: Run, numbers: dict[str, Any], noted: list[Noted]) -> list[str]:
    """What the numbers rest on: traces, simplifications, checks, what is missing."""
    summary = run.summary
    lines = [
        _trace_source(run),
        f"The fleet's behaviour is that of {summary['n_base_traces']:,} base traces, of which "
        f"{numbers['n_base_traces_used']:,} took part. {_sharing(run)}",
        f"One seed ({summary['seed']}): every number is one draw and has no interval. Repeat the run with other seeds "
        "to see how far they spread.",
        "Useful work is that of sessions that were aggregated; wasted work is that of all others, each with its "
        "whole time from assignment to end.",
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
