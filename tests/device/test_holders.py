"""Whose data a device holds."""

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import norm

from fedsim.device.holders import OwnDataHolders, RandomHolders, SpeedCoupledHolders, normal_cdf
from fedsim.errors import InputError
from fedsim.fleet.fleet import Fleet
from fedsim.fleet.hardware import Hardware
from fedsim.fleet.phones import LognormalPhones
from fedsim.schema import HARDWARE
from fedsim.units import DAY_S
from tests.build import Sizes
from tests.hand import events_of, traces_of

IDS = np.arange(20_000)
CLIENTS = Sizes(tuple(np.random.default_rng(0).permutation(500) + 1))
PHONES = LognormalPhones(seed=3, median_inference_ms=50.0, sigma=0.7)


def test_random_holders_tell_nothing_about_speed() -> None:
    sizes = CLIENTS.n_examples(RandomHolders(CLIENTS, seed=3).client_of(IDS))
    assert abs(np.corrcoef(sizes, PHONES.slowness(IDS))[0, 1]) < 0.02


@pytest.mark.parametrize("correlation", [-0.7, 0.0, 0.5, 1.0])
def test_slow_phones_hold_more_data_by_the_copula(correlation: float) -> None:
    holders = SpeedCoupledHolders(CLIENTS, PHONES, seed=3, correlation=correlation)
    sizes = CLIENTS.n_examples(holders.client_of(IDS))
    scores = norm.ppf((sizes - 0.5) / 500)
    assert np.corrcoef(scores, PHONES.slowness(IDS))[0, 1] == pytest.approx(correlation, abs=0.02)
    assert np.bincount(sizes, minlength=501)[1:].min() > 0  # every client is still held by somebody


@pytest.mark.parametrize("weights", [[1.0], [0.1, 0.8, 0.1]])
def test_phones_of_a_table_leave_no_client_out(weights: list[float]) -> None:
    """However few rows: sizes stay evenly held, and with several rows slow ones hold more."""
    rows = [{"weight": w, "inference_ms_per_sample": 10.0 * (i + 1)} for i, w in enumerate(weights)]
    traces = traces_of([events_of([(0, "available", 1)])], period_s=DAY_S)
    phones = Hardware(Fleet(traces, n_devices=10**6, seed=0), pa.Table.from_pylist(rows, HARDWARE.arrow()))
    z = phones.slowness(IDS)
    assert (z.mean(), z.std()) == pytest.approx((0.0, 1.0), abs=0.03)
    sizes = CLIENTS.n_examples(SpeedCoupledHolders(CLIENTS, phones, seed=3, correlation=0.9).client_of(IDS))
    assert np.quantile(sizes, [0.1, 0.5, 0.9]) == pytest.approx([50, 250, 450], abs=12)
    if len(weights) > 1:
        row = phones.row_of(IDS)
        assert sizes[row == 0].mean() < 150 < 350 < sizes[row == 2].mean()


def test_a_device_holds_its_own_user_s_data_and_nobody_else_s() -> None:
    logs = [events_of([(0, "available", 1)])] * 3
    traces = traces_of(logs, period_s=DAY_S)
    traces.device_id[:] = ["u7", "u9", "u5"]
    fleet = Fleet(traces, n_devices=3, seed=0, is_replay=True)
    clients = Sizes((1, 2))
    object.__setattr__(clients, "keys", ["u5", "u7"])
    holders = OwnDataHolders(clients, fleet)
    three = np.arange(3)
    assert holders.admits(three, three, 0.0).tolist() == [True, False, True]
    assert holders.client_of(np.array([0, 2])).tolist() == [1, 0]
    assert holders.share(0.0) == pytest.approx(2 / 3)


def test_data_without_natural_ids_is_refused() -> None:
    traces = traces_of([events_of([(0, "available", 1)])], period_s=DAY_S)
    with pytest.raises(InputError, match="natural ids"):
        OwnDataHolders(CLIENTS, Fleet(traces, n_devices=1, seed=0))


def test_a_correlation_beyond_one_is_refused() -> None:
    with pytest.raises(InputError, match=r"holders\.correlation.*1\.1"):
        SpeedCoupledHolders(CLIENTS, PHONES, seed=0, correlation=1.1)


def test_the_approximation_of_the_normal_law_is_as_good_as_it_says() -> None:
    z = np.linspace(-6, 6, 4001)
    assert np.abs(normal_cdf(z) - norm.cdf(z)).max() < 3e-4
