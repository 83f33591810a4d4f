"""The figures of the page, each with a sentence that says what it shows, or why it is missing."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fedsim.report import plots
from fedsim.report.words import duration, hours, large, metric_name, percent, size
from fedsim.results.numbers import (
    MetricCurve,
    OutcomeRow,
    display,
    eligible_by_hour,
    in_flight,
    metric_curve,
    metric_names,
    outcome_rows,
    peak_width_s,
    step_times,
)
from fedsim.results.run import Run
from fedsim.results.sessions import STALE
from fedsim.units import DAY_S, HOUR_S, MINUTE_S

LINE_BINS, BAR_BINS = 400, 200
BINS_PER_ROUND, ROUNDS_PER_BIN = 4, 12  # a bin holds a round more or less: of 12 that is little
_PERIODS: dict[float, str] = {MINUTE_S: "minute", HOUR_S: "hour"}


class Panel(NamedTuple):
    """A figure of the page; ``svg`` is None where the run has nothing to draw."""

    title: str
    caption: str
    svg: str | None = None


def availability_panels(run: Run) -> list[Panel]:
    """Who could take part: eligible share over a week and by hour of day."""
    at, share = (run.eligibility_table.column(name).to_numpy() for name in ("at", "admitted_fraction"))
    if len(at) < 2:
        return [Panel("Eligible devices", "Not drawn: the run did not sample who is eligible.")]
    caption = (
        f"On average {percent(share.mean())} of the fleet; between {percent(share.min())} and {percent(share.max())}."
    )
    by_rule = run.summary["eligible_fraction_mean"]
    if run.summary["admitted_fraction_mean"] < by_rule:
        lacking = "the others lack what else is asked for: phone, app version or data"
        caption += f" The rule alone leaves {percent(by_rule)}; {lacking}."
    if run.grid.horizon_s < 7 * DAY_S:
        caption += f" The run covers the first {duration(run.grid.horizon_s)}."
    over_time = Panel("Eligible devices over a week", caption, plots.eligible_over_time(at, share))
    by_hour = eligible_by_hour(run)
    best, worst = int(np.nanargmax(by_hour)), int(np.nanargmin(by_hour))
    caption = f"Most at {best:02d} h ({percent(by_hour[best])}), fewest at {worst:02d} h ({percent(by_hour[worst])})"
    ratio = f", a factor of {by_hour[best] / by_hour[worst]:.1f}." if by_hour[worst] > 0 else "."
    return [over_time, Panel("Eligible devices by hour of day", caption + ratio, plots.eligible_by_hour(by_hour))]


def work_panels(run: Run, numbers: dict[str, Any]) -> list[Panel]:
    """What the devices did: devices in flight and outcomes over time."""
    if not numbers["n_sessions"]:
        return [Panel("Devices in flight", "Not drawn: no device was assigned.")]
    mean, peak = numbers["mean_in_flight"], numbers["peak_in_flight"]
    busiest = "" if peak is None else f", {large(peak)} in the busiest {_PERIODS[peak_width_s(run)]}"
    # Bins either resolve the rise and fall within a round or average over several: between the two they beat.
    is_fine = BINS_PER_ROUND * numbers["n_steps"] <= LINE_BINS
    flying = in_flight(run, n_bins=LINE_BINS, at_least_s=0.0 if is_fine else few_rounds_s(run, numbers))
    ended = display(run, run.totals.ended, n_bins=BAR_BINS, at_least_s=few_rounds_s(run, numbers))
    return [
        Panel(
            "Devices in flight",
            f"{large(mean)} devices are in a session on average{busiest}. "
            f"Drawn as means of {duration(flying.grid.width_s)}.",
            plots.devices_in_flight(flying, mean=mean),
        ),
        Panel(
            "Outcomes of sessions",
            f"{percent(numbers['aggregated_fraction'])} of the sessions counted. "
            f"One column for every {duration(ended.grid.width_s)} of simulated time.",
            plots.outcomes_over_time(ended),
        ),
    ]


def few_rounds_s(run: Run, numbers: dict[str, Any]) -> float:
    """The time in which a few rounds begin, if the run has many; 0 where there are no rounds."""
    if run.summary["protocol"] != "sync" or numbers["step_median_s"] is None:
        return 0.0
    return min(ROUNDS_PER_BIN * run.grid.horizon_s / int(numbers["n_steps"]), run.grid.horizon_s / 20)


def step_panels(run: Run, numbers: dict[str, Any]) -> list[Panel]:
    """How fast the server moved: distribution and course of the time per step."""
    times, label = step_times(run), "round time" if run.summary["protocol"] == "sync" else "time between steps"
    if times.seconds.size < 2:
        return [Panel(label.capitalize(), "Not drawn: fewer than two server steps to compare.")]
    median, p95 = numbers["step_median_s"], numbers["step_p95_s"]
    is_grouped = times.seconds.size > plots.MAX_POINTS
    return [
        Panel(
            f"Distribution of the {label}",
            f"Half of them are below {duration(median)}, one in twenty is above {duration(p95)}.",
            plots.step_time_distribution(times.seconds, label=label),
        ),
        Panel(
            f"{label.capitalize()} over time",
            "Median and 5 to 95 % range of neighbouring steps." if is_grouped else "Each dot is one server step.",
            plots.step_times_over_time(times, label=label, horizon_s=run.grid.horizon_s),
        ),
    ]


def learning_panels(run: Run) -> list[Panel]:
    """What the model learned: the first metric against simulated time and against device-hours."""
    names = metric_names(run)
    if not names:
        return [Panel("Model quality", "Not drawn: the run trained no model or evaluated none, so no metric exists.")]
    curve, name = metric_curve(run, names[0]), metric_name(names[0])
    central = (run.summary.get("central_metrics") or {}).get(names[0])
    reached = _reached(curve)
    by_time, by_hours = "", ""
    if reached is not None:
        by_time = f"; nine tenths of the gain were there after {duration(curve.at[reached])}"
        by_hours = f"; nine tenths of the gain had cost {hours(curve.device_h[reached] * HOUR_S)}"
    return [
        Panel(
            f"Held-out {name} against simulated time",
            f"{curve.value[-1]:.3f} after {duration(curve.at[-1])}{by_time}.",
            plots.metric_over_time(curve.at, curve.value, metric=name, central=central, horizon_s=run.grid.horizon_s),
        ),
        Panel(
            f"Held-out {name} against device-hours",
            f"{curve.value[-1]:.3f} for {hours(curve.device_h[-1] * HOUR_S)} of device time{by_hours}.",
            plots.metric_over_device_hours(curve.device_h, curve.value, metric=name, central=central),
        ),
    ]


def _reached(curve: MetricCurve) -> int | None:
    """The first evaluation with nine tenths of the change from the first to the last; None without a change."""
    gain = curve.value[-1] - curve.value[0]
    return None if gain == 0 else int(np.argmax((curve.value - curve.value[0]) / gain >= 0.9))


def cost_panels(run: Run, numbers: dict[str, Any]) -> list[Panel]:
    """What it cost: bytes over time, wasted device-hours, staleness of the updates."""
    if not numbers["n_sessions"]:
        return []
    t = run.totals
    down, up = numbers["peak_hour_download_bytes"], numbers["peak_hour_upload_bytes"]
    caption = (
        "The run is shorter than an hour: rates, not sums."
        if down is None
        else f"Busiest hour: {size(down)} down, {size(up)} up."
    )
    at_least_s = few_rounds_s(run, numbers)
    series = [
        display(run, values, n_bins=BAR_BINS, at_least_s=at_least_s) for values in (t.download_by_bin, t.upload_by_bin)
    ]
    panels = [Panel("Bytes per hour", caption, plots.traffic(*series)), _wasted_panel(outcome_rows(run), numbers)]
    return [*panels, _staleness_panel(run, numbers)] if run.summary["protocol"] == "buffered" else panels


def _wasted_panel(rows: list[OutcomeRow], numbers: dict[str, Any]) -> Panel:
    wasted = [row for row in rows if not row.is_useful and row.device_s > 0]
    if not wasted:
        return Panel("Wasted work by reason", "Not drawn: every session was aggregated.")
    largest = max(wasted, key=lambda row: row.device_s)
    caption = (
        f"{hours(numbers['wasted_device_s'])} of device time ({percent(numbers['wasted_fraction'])}) reached no model; "
        f"{percent(largest.device_s / numbers['wasted_device_s'])} of it {largest.outcome.lower()}."
    )
    return Panel("Wasted work by reason", caption, plots.wasted_work(wasted))


def _staleness_panel(run: Run, numbers: dict[str, Any]) -> Panel:
    if numbers["staleness_median"] is None:
        return Panel("Staleness of updates", "Not drawn: no update was aggregated.")
    n_refused = int(run.totals.n[STALE])
    refused = f"{large(n_refused)} were refused as too old" if n_refused else "none was refused as too old"
    caption = (
        f"Median of the aggregated updates {numbers['staleness_median']}, 95 % at most {numbers['staleness_p95']}; "
        f"{refused}."
    )
    return Panel("Staleness of updates", caption, plots.staleness_histogram(run.totals.staleness))
