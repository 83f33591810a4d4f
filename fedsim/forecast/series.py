"""What servers and links carry from second to second: reports, assignments, connections, bytes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fedsim.errors import InputError
from fedsim.results.binning import Grid, spread
from fedsim.results.run import Run
from fedsim.units import DAY_S, HOUR_S, MINUTE_S, FloatArray

LONGEST_S = 100 * DAY_S  # counted by the second: 8.6 million numbers a series
_COLUMNS = (
    "assigned_at", "download_end_at", "train_end_at", "upload_end_at", "end_at", "download_bytes", "upload_bytes",
)  # fmt: skip
QUANTILES = (0.5, 0.95, 0.99)


@dataclass(frozen=True)
class Series:
    """A rate or a level in each second of a run, ``float64[n]``; ``scales_with`` is what it is in proportion to."""

    name: str
    unit: str
    scales_with: str  # sessions or population
    values: FloatArray


@dataclass(frozen=True)
class Load:
    """A series in few numbers: over seconds, the busiest minute and second, and the mean of each hour of the day."""

    name: str
    unit: str
    scales_with: str
    mean: float
    quantiles: tuple[float, float, float]  # QUANTILES of the seconds
    busiest_minute: float
    busiest_second: float
    by_hour: tuple[float, ...]  # NaN: the run has no second in it


def series_of(run: Run) -> list[Series]:
    """The loads of a run's sessions, in one pass over them; what goes on after the run's end is left out.

    Transfers are spread evenly over their time. Raises :class:`InputError` for a run of more than 100 days.
    """
    horizon_s = float(run.summary["simulated_s"])
    if horizon_s > LONGEST_S:
        raise InputError("a forecast counts by the second", value=f"{horizon_s / DAY_S:.0f} days", allowed="100 days")
    grid = Grid(max(1.0, np.ceil(horizon_s)), 1)
    reports, assignments, connections, egress, ingress = np.zeros((5, grid.n_bins))
    for batch in run.session_batches(_COLUMNS):
        column = {name: batch.column(name).to_numpy() for name in _COLUMNS}
        start, end = column["assigned_at"], column["end_at"]
        trained_at = column["train_end_at"]
        reports += _counts(grid, column["upload_end_at"])
        assignments += _counts(grid, start)
        connections += spread(grid, start, end, end - start)
        egress += spread(grid, start, np.fmin(column["download_end_at"], end), column["download_bytes"])
        sent = column["upload_bytes"] > 0
        ended = np.fmin(column["upload_end_at"], end)
        ingress += spread(grid, trained_at[sent], ended[sent], column["upload_bytes"][sent])
    return [
        Series("updates", "1/s", "sessions", reports),
        Series("assignments", "1/s", "sessions", assignments),
        Series("connections in a session", "", "sessions", connections),
        Series("egress", "bytes/s", "sessions", egress),
        Series("ingress", "bytes/s", "sessions", ingress),
    ]


def _counts(grid: Grid, at: npt.NDArray[np.float64]) -> FloatArray:
    known = at[(~np.isnan(at)) & (at <= grid.horizon_s)]
    return np.bincount(grid.index(known), minlength=grid.n_bins).astype(np.float64)


def check_ins(run: Run, *, retry_s: float) -> Series | None:
    """Devices that contact the server: when they become eligible, and again every ``retry_s`` while they are idle.

    From the expected openings and the eligible share of a week, which is repeated, and the devices in a session, as
    means of ten minutes. None for a run whose tables do not tell openings.
    """
    table = run.eligibility_table
    openings = table.column("openings_per_device")
    if not table.num_rows or openings.null_count:
        return None
    at, n_devices = table.column("at").to_numpy(), run.summary["n_devices"]
    width_s = float(at[1] - at[0]) if len(at) > 1 else float(run.summary["simulated_s"])
    per_s = openings.to_numpy() * n_devices / width_s
    eligible = table.column("admitted_fraction").to_numpy() * n_devices
    second = np.arange(int(max(1.0, np.ceil(run.summary["simulated_s"]))))
    row = (second // width_s).astype(np.int64) % len(at)
    flying = np.interp(second, run.gauge_table["at"].to_numpy(), run.gauge_table["in_flight_mean"].to_numpy())
    return Series("check-ins", "1/s", "population", per_s[row] + np.maximum(eligible[row] - flying, 0.0) / retry_s)


def load_of(series: Series) -> Load:
    """A series in few numbers. Simulated time 0 is midnight."""
    values = series.values
    n_minutes = len(values) // int(MINUTE_S)
    minutes = values[: n_minutes * 60].reshape(n_minutes, 60).mean(axis=1) if n_minutes else np.array([values.mean()])
    return Load(
        name=series.name,
        unit=series.unit,
        scales_with=series.scales_with,
        mean=float(values.mean()),
        quantiles=tuple(np.quantile(values, QUANTILES, method="inverted_cdf").tolist()),
        busiest_minute=float(minutes.max()),
        busiest_second=float(values.max()),
        by_hour=tuple(_by_hour(values).tolist()),
    )


def _by_hour(values: FloatArray) -> FloatArray:
    hour = (np.arange(len(values)) % DAY_S // HOUR_S).astype(np.int64)
    n, sums = np.bincount(hour, minlength=24), np.bincount(hour, weights=values, minlength=24)
    mean: FloatArray = np.divide(sums, n, out=np.full(24, np.nan), where=n > 0)
    return mean
