"""Outcomes of many sessions against their laws."""

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from fedsim.data.passes import Passes
from fedsim.device.compute import FixedCompute
from fedsim.device.session import FAILED, INTERRUPTED, REPORTS, Sessions
from fedsim.device.work import Work
from fedsim.fleet.availability import Availability
from fedsim.fleet.fleet import Fleet
from fedsim.traces.criteria import Windows
from tests.build import planned
from tests.device.lived import device
from tests.hand import events_of, traces_of


def renewal_fleet(n: int, mean_s: float) -> Availability:
    """Stays and absences of exponential length; far from the start any instant is as good as another."""
    lengths_ms = np.random.default_rng(12).exponential(mean_s * 1000, (n, 60))
    edges = np.cumsum(np.maximum(np.rint(lengths_ms), 1).astype(np.int64), axis=1)
    windows = Windows(
        offsets=np.arange(0, 30 * n + 1, 30),
        start_ms=edges[:, 0::2].ravel(),
        end_ms=edges[:, 1::2].ravel(),
        period_ms=edges[:, -1] + 1000,
        trace_start_ms=np.zeros(n, dtype=np.int64),
        is_local=np.zeros(n, dtype=bool),
    )
    traces = traces_of([events_of([])] * n, period_s=(windows.period_ms / 1000).tolist(), is_local=False)
    return Availability(Fleet(traces, n_devices=n, seed=0, is_replay=True), windows)


@pytest.fixture(scope="module")
def renewal() -> Availability:
    return renewal_fleet(16_000, 600.0)


def outcomes(availability: Availability, now: float, **changes: Any) -> tuple[Sessions, dict[int, float]]:
    """Trips without transfers of all phones that are there, and the share of each outcome."""
    ids = np.flatnonzero(availability.at_cells(np.arange(availability.fleet.n_cells), now)[0])
    work = Work(download_bytes=0, upload_bytes=0, passes=Passes(1, 1))
    rows = planned(device(**changes),
        availability, None, work, now=now, ids=ids, k=np.zeros(len(ids), dtype=np.int32),
        n_examples=np.ones(len(ids), dtype=np.int64),
    )  # fmt: skip
    return rows, {code: float((rows["outcome"] == code).mean()) for code in (REPORTS, INTERRUPTED, FAILED)}


@pytest.mark.parametrize("load", [0.3, 1.0, 2.5])
def test_exponential_stays_finish_by_their_law(renewal: Availability, load: float) -> None:
    """Stays of rate λ and fixed work w under abort: exp(−λw) finish."""
    rows, share = outcomes(renewal, 9000.0, compute=FixedCompute(train_s=load * 600))
    assert len(rows) > 7000
    wanted = math.exp(-load)
    assert share[REPORTS] == pytest.approx(wanted, abs=4 * math.sqrt(wanted * (1 - wanted) / len(rows)))
    assert share[INTERRUPTED] == pytest.approx(1 - share[REPORTS])
    stays = (rows["end_at"] - 9000.0)[rows["outcome"] == INTERRUPTED]
    truncated = stats.truncexpon(b=load, scale=600)
    assert stats.kstest(stays, truncated.cdf).pvalue > 0.01


def test_crashes_and_departures_compete(renewal: Availability) -> None:
    """A share c crashes at a uniform moment of its trip, unless it left before: c (1 − e^−λw) / λw."""
    load, crash = 1.2, 0.4
    rows, share = outcomes(renewal, 9000.0, compute=FixedCompute(train_s=load * 600), crash_fraction=crash)
    stays = math.exp(-load)
    for code, wanted in ((REPORTS, stays * (1 - crash)), (FAILED, crash * (1 - stays) / load)):
        assert share[code] == pytest.approx(wanted, abs=4 * math.sqrt(wanted * (1 - wanted) / len(rows)))


def test_crashes_strike_their_share_at_uniform_moments(renewal: Availability) -> None:
    rows, share = outcomes(
        renewal, 9000.0, compute=FixedCompute(train_s=50.0), crash_fraction=0.3, interruption="ignore"
    )
    n_struck = round(share[FAILED] * len(rows))
    assert share[FAILED] == pytest.approx(0.3, abs=4 * math.sqrt(0.21 / len(rows)))
    moments = (rows["end_at"] - 9000.0)[rows["outcome"] == FAILED] / 50.0
    assert len(moments) == n_struck
    assert stats.kstest(moments, "uniform").pvalue > 0.01
    assert outcomes(renewal, 9000.0, compute=FixedCompute(train_s=50.0))[1][FAILED] == 0.0
    assert outcomes(renewal, 9000.0, crash_fraction=1.0, interruption="pause")[1][FAILED] == 1.0
