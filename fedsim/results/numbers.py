"""The numbers that a run comes to, computed from its tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fedsim.results.binning import Grid, count_quantile, display_width_s, log_quantile
from fedsim.results.run import Run
from fedsim.results.sessions import AGGREGATED, MILLIPERCENT, PHASES
from fedsim.schema import NETWORKS, OUTCOMES
from fedsim.units import DAY_S, HOUR_S, J_PER_KWH, MINUTE_S, FloatArray, IntArray

METRIC_ORDER = (
    "auc", "accuracy", "top3_accuracy", "top5_accuracy", "ndcg10", "ndcg5", "aupr", "perplexity", "log_loss",
)  # fmt: skip


@dataclass(frozen=True)
class OutcomeRow:
    """What the sessions of one outcome cost."""

    outcome: str
    n: int
    device_s: float
    compute_s: float
    download_bytes: int
    upload_bytes: int
    joules: float
    is_useful: bool


@dataclass(frozen=True)
class PhaseRow:
    """What one phase of the sessions cost; quantiles over the sessions that completed it, within 0.6 %."""

    phase: str
    n_reached: int
    n_completed: int
    device_s: float
    median_s: float | None
    p95_s: float | None


@dataclass(frozen=True)
class NetworkRow:
    """What the sessions that began on one type of network moved and took."""

    network: str
    n: int
    n_bytes: float
    joules: float


@dataclass(frozen=True)
class Series:
    """Values in equal time bins; ``values`` is ``[bin]`` or ``[row, bin]``."""

    grid: Grid
    values: FloatArray

    def per_hour(self) -> FloatArray:
        """The sums as a rate per hour of simulated time."""
        rate: FloatArray = self.values / self.grid.seconds() * HOUR_S
        return rate


@dataclass(frozen=True)
class StepTimes:
    """Time per server step: instants of the steps and their seconds, both ``float64[n]``."""

    at: FloatArray
    seconds: FloatArray


@dataclass(frozen=True)
class MetricCurve:
    """One held-out metric, ``float64[n]`` each: instants, what the sessions ended by then had spent, values."""

    at: FloatArray
    device_h: FloatArray
    n_bytes: FloatArray
    kwh: FloatArray
    value: FloatArray


def outcome_rows(run: Run) -> list[OutcomeRow]:
    """One row per outcome of the schema, in its order; only AGGREGATED is useful work."""
    t = run.totals
    is_useful = np.arange(len(OUTCOMES)) == AGGREGATED
    columns = (t.n, t.device_s, t.compute_s, t.download_bytes, t.upload_bytes, t.joules, is_useful)
    return [OutcomeRow(*row) for row in zip(OUTCOMES, *(column.tolist() for column in columns), strict=True)]


def phase_rows(run: Run) -> list[PhaseRow]:
    """Download, training, upload, waiting for the server, and the whole session."""
    t = run.totals
    n_completed = t.phase_histogram.sum(axis=1)
    rows = [
        _phase_row(name, t.n_reached[i], n_completed[i], t.phase_s[i].sum(), t.phase_histogram[i])
        for i, name in enumerate(PHASES)
    ]
    return [*rows, _phase_row("whole session", t.n.sum(), t.n.sum(), t.device_s.sum(), t.session_histogram)]


def _phase_row(name: str, n_reached: int, n_completed: int, device_s: float, histogram: IntArray) -> PhaseRow:
    quantiles = (log_quantile(histogram, 0.5), log_quantile(histogram, 0.95))
    return PhaseRow(name, int(n_reached), int(n_completed), float(device_s), *quantiles)


def network_rows(run: Run) -> list[NetworkRow]:
    """One row per network type on which sessions began, in the order of the schema."""
    t = run.totals
    columns = (t.n_by_network.tolist(), t.bytes_by_network.tolist(), t.joules_by_network.tolist())
    return [NetworkRow(*row) for row in zip(NETWORKS, *columns, strict=True) if row[1]]


def display(run: Run, values: npt.NDArray[Any], *, n_bins: int, at_least_s: float = 0.0) -> Series:
    """Sums in bins of a round width for a figure: at most ``n_bins``, each at least ``at_least_s`` long."""
    grid = run.grid.coarser(display_width_s(max(at_least_s, run.grid.horizon_s / n_bins)))
    return Series(grid, run.grid.coarsen(values, grid))


def in_flight(run: Run, *, n_bins: int, at_least_s: float = 0.0) -> Series:
    """Mean number of devices in a session, per display bin (overlap seconds ÷ seconds of the bin)."""
    series = display(run, run.totals.in_flight_s, n_bins=n_bins, at_least_s=at_least_s)
    return Series(series.grid, series.values / series.grid.seconds())


def peak(run: Run, values: FloatArray, *, width_s: float) -> float | None:
    """The largest sum in a whole minute, hour … of simulated time, counted from its start; None if there is none."""
    n_bins = round(width_s / run.grid.width_s)
    n_whole = int(run.grid.horizon_s // width_s)
    return float(values[: n_whole * n_bins].reshape(n_whole, n_bins).sum(axis=1).max()) if n_whole else None


def peak_width_s(run: Run) -> float:
    """The time over which the peak of devices in flight is a mean: a minute, or a bin if that is longer."""
    return max(MINUTE_S, run.grid.width_s)


def step_times(run: Run) -> StepTimes:
    """Seconds per committed server step.

    Synchronous: from the start of a round to its close. Buffered: from one step to the next.
    """
    steps = run.step_table.filter(pc.field("is_committed")).sort_by("step")
    closed = steps.column("closed_at").to_numpy()
    if run.summary["protocol"] == "sync":
        return StepTimes(closed, closed - steps.column("started_at").to_numpy())
    return StepTimes(closed[1:], np.diff(closed))


def n_abandoned(run: Run) -> int:
    """Rounds that closed below their quorum."""
    return int(pc.sum(pc.invert(run.step_table.column("is_committed"))).as_py() or 0)


def eligible_by_hour(run: Run) -> FloatArray:
    """Mean eligible share in each hour of the simulated day, ``float64[24]``; NaN where not sampled.

    Simulated time 0 is midnight.
    """
    at = run.eligibility_table.column("at").to_numpy()
    hour = (at % DAY_S // HOUR_S).astype(np.int64)
    share = run.eligibility_table.column("admitted_fraction").to_numpy()
    n = np.bincount(hour, minlength=24).astype(np.float64)
    sums = np.bincount(hour, weights=share, minlength=24).astype(np.float64)
    mean: FloatArray = np.divide(sums, n, out=np.full(24, np.nan), where=n > 0)
    return mean


def metric_names(run: Run) -> list[str]:
    """Evaluated metrics, the one to look at first in front."""
    names = pc.unique(run.eval_table.column("metric")).to_pylist()
    return sorted(names, key=lambda name: (METRIC_ORDER.index(name) if name in METRIC_ORDER else 99, name))


def metric_curve(run: Run, metric: str) -> MetricCurve:
    """One metric over simulated time, and over device-hours, bytes and energy of the sessions ended by then."""
    rows = run.eval_table.filter(pc.field("metric") == pa.scalar(metric))
    at = rows.column("at").to_numpy()
    instants = np.unique(run.eval_table.column("at").to_numpy())
    places, t = np.searchsorted(instants, at), run.totals
    device_s, n_bytes, joules = (np.cumsum(each)[places] for each in (t.ended_device_s, t.ended_bytes, t.ended_j))
    return MetricCurve(at, device_s / HOUR_S, n_bytes, joules / J_PER_KWH, rows.column("value").to_numpy())


def top_share(nth_session: IntArray, fraction: float) -> float | None:
    """Share of all sessions done by the busiest ``fraction`` of the devices that took part.

    ``nth_session[k]`` is the number of devices with more than k sessions, so of the m busiest
    devices ``min(m, nth_session[k])`` have a session number k.
    """
    if not nth_session.sum():
        return None
    m = int(np.ceil(fraction * nth_session[0]))
    return float(np.minimum(nth_session, m).sum() / nth_session.sum())


def headline(run: Run) -> dict[str, Any]:
    """The numbers a reader wants first; None where the run did not measure them."""
    return {
        **{key: run.summary[key] for key in ("simulated_s", "n_devices", "n_steps", "n_versions", "n_sessions")},
        **_step_numbers(run),
        **_session_numbers(run),
        **_traffic_numbers(run),
        **_peaks(run),
        **_energy_numbers(run),
        **_battery_numbers(run),
        **_participation_numbers(run),
        "metrics": run.summary["metrics"],
        "central_metrics": run.summary.get("central_metrics"),
    }


def _step_numbers(run: Run) -> dict[str, Any]:
    seconds = step_times(run).seconds
    staleness = run.totals.staleness[0]
    return {
        "n_abandoned_rounds": n_abandoned(run),
        "step_median_s": float(np.median(seconds)) if seconds.size else None,
        "step_p95_s": float(np.quantile(seconds, 0.95)) if seconds.size else None,
        "staleness_median": count_quantile(staleness, 0.5),
        "staleness_p95": count_quantile(staleness, 0.95),
    }


def _session_numbers(run: Run) -> dict[str, Any]:
    t = run.totals
    n, device_s = int(t.n.sum()), float(t.device_s.sum())
    useful_s, width_s = float(t.device_s[AGGREGATED]), peak_width_s(run)
    busiest_s = peak(run, t.in_flight_s, width_s=width_s)
    return {
        "aggregated_fraction": int(t.n[AGGREGATED]) / n if n else None,
        "device_s": device_s,
        "wasted_device_s": device_s - useful_s,
        "wasted_fraction": 1 - useful_s / device_s if device_s else None,
        "session_median_s": log_quantile(t.session_histogram, 0.5),
        "session_p95_s": log_quantile(t.session_histogram, 0.95),
        "mean_in_flight": float(t.in_flight_s.sum()) / run.grid.horizon_s,
        "peak_in_flight": None if busiest_s is None else busiest_s / width_s,
    }


def _traffic_numbers(run: Run) -> dict[str, Any]:
    t = run.totals
    return {
        "download_bytes": int(t.download_bytes.sum()),
        "upload_bytes": int(t.upload_bytes.sum()),
        "peak_hour_download_bytes": peak(run, t.download_by_bin, width_s=HOUR_S),
        "peak_hour_upload_bytes": peak(run, t.upload_by_bin, width_s=HOUR_S),
    }


def _peaks(run: Run) -> dict[str, Any]:
    """Exact maxima over the run, from its gauges, and the busiest minute of reports; None of a run without sessions."""
    gauges = {name: run.gauge_table.column(name) for name in ("in_flight_max", *_RATES)}
    highest = {f"peak_{name.removesuffix('_max')}": pc.max(column).as_py() for name, column in gauges.items()}
    width_s = peak_width_s(run)
    busiest = peak(run, run.totals.reports_by_bin.astype(np.float64), width_s=width_s)
    return {
        "most_in_flight": highest.pop("peak_in_flight"),
        **highest,
        "reports_per_s": float(run.totals.reports_by_bin.sum()) / run.grid.horizon_s,
        "peak_reports_per_s": None if busiest is None else busiest / width_s,
    }


_RATES = ("download_bytes_per_s_max", "upload_bytes_per_s_max")


def waste(run: Run) -> dict[str, float]:
    """Shares of all device time: useful, spent for speed (late and told off: over-selection), lost, open at the end."""
    t = run.totals
    total = float(t.device_s.sum())
    if not total:
        return {}
    shares = dict(zip(OUTCOMES, (t.device_s / total).tolist(), strict=True))
    for_speed, is_open = shares["LATE"] + shares["ABORTED"], shares["OPEN"]
    useful = shares["AGGREGATED"]
    return {"useful": useful, "for speed": for_speed, "lost": 1.0 - useful - for_speed - is_open, "open": is_open}


def _energy_numbers(run: Run) -> dict[str, Any]:
    """Energy; a run that booked no joule at all had no energy model, which is unknown and not zero."""
    n, joules = int(run.totals.n.sum()), float(run.totals.joules.sum())
    return {
        "joules_per_session": joules / n if joules else None,
        "energy_kwh": joules / J_PER_KWH if joules else None,
        "wasted_energy_fraction": 1 - float(run.totals.joules[AGGREGATED]) / joules if joules else None,
    }


def _battery_numbers(run: Run) -> dict[str, Any]:
    """Of a full battery, in percent; None where batteries were not modelled. Quantiles of use within 0.6 %."""
    used = [log_quantile(run.totals.battery_used, q) for q in (0.5, 0.95)]
    median, p95 = (None if value is None else value / MILLIPERCENT for value in used)
    return {
        "battery_used_median_percent": median,
        "battery_used_p95_percent": p95,
        "battery_start_median_percent": count_quantile(run.totals.battery_start, 0.5),
    }


def _participation_numbers(run: Run) -> dict[str, Any]:
    nth, traces = run.totals.nth_session, run.totals.base_trace
    n_distinct = int(nth[0]) if nth.size else 0
    return {
        "n_distinct_devices": n_distinct,
        "distinct_fraction": n_distinct / run.summary["n_devices"],
        "max_sessions_per_device": len(nth),
        "top_tenth_share": top_share(nth, 0.1),
        "n_base_traces_used": int((traces > 0).sum()),
    }
