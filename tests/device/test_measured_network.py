"""Rates drawn from measured links."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from fedsim.cost.phones import PhoneClasses
from fedsim.device.measured_network import MeasuredNetwork
from fedsim.errors import InputError
from fedsim.schema import LINKS, NETWORKS
from fedsim.traces.canonical import NETWORK_CODE
from fedsim.traces.measurements import MeasurementWriter

N = 20_000
IDS, K = np.arange(N), np.zeros(N, dtype=np.int32)
REST = dict.fromkeys(("2g", "3g", "5g", "wifi"), 1000.0)


@pytest.fixture
def folder(tmp_path: Path) -> str:
    """4g at 100, 200 and 400 kB/s for 3 s, 5 s and 2 s."""
    base = {"network": NETWORK_CODE["4g"], "trace": "a", "scenario": None, "up_bytes_per_s": None, "rtt_ms": None}
    spans = [(0, 3000, 1e5), (3000, 5000, 2e5), (8000, 2000, 4e5)]
    rows = [base | {"at_ms": at, "duration_ms": ms, "down_bytes_per_s": rate} for at, ms, rate in spans]
    with MeasurementWriter(tmp_path / "links") as writer:
        writer.add(LINKS, pa.Table.from_pylist(rows, LINKS.arrow()))
        writer.provenance.update({"source": "hand-made", "licence": "none"})
    return str(tmp_path / "links")


def made(folder: str, **changes: object) -> MeasuredNetwork:
    values = {
        "seed": 0, "folders": [folder], "otherwise_bytes_per_s": REST, "up_fraction": 0.4,
        "device_variance_share": 0.3, "connect_s": 0.0, "assumed_type": "4g",
    }  # fmt: skip
    return MeasuredNetwork(**(values | changes))  # type: ignore[arg-type]


def rates(network: MeasuredNetwork, k: int = 0) -> np.ndarray:
    end, _, _ = network.download(None, IDS, np.zeros(N), 1_000_000, network.level(IDS, K + k))
    return 1_000_000 / end


def test_rates_have_the_measured_distribution(folder: str) -> None:
    seen = rates(made(folder))
    share = [(seen < 1.5e5).mean(), ((seen > 1.5e5) & (seen < 3e5)).mean(), (seen > 3e5).mean()]
    assert share == pytest.approx([0.3, 0.5, 0.2], abs=0.03)
    assert (seen.min(), seen.max()) == pytest.approx((1e5, 4e5))


def test_the_way_up_is_a_fraction_where_it_was_not_measured(folder: str) -> None:
    network = made(folder)
    level = network.level(IDS, K)
    down, _, _ = network.download(None, IDS, np.zeros(N), 1000, level)
    up, _, _ = network.upload(None, IDS, np.zeros(N), 1000, level)
    assert up == pytest.approx(2.5 * down)


@pytest.mark.parametrize(("share", "correlation"), [(0.0, 0.0), (0.3, 0.3), (1.0, 1.0)])
def test_the_spread_is_shared_between_phones_and_sessions(folder: str, share: float, correlation: float) -> None:
    network = made(folder, device_variance_share=share)
    first, second = network.level(IDS, K), network.level(IDS, K + 1)
    assert first.std() == pytest.approx(1.0, abs=0.02)
    assert np.corrcoef(first, second)[0, 1] == pytest.approx(correlation, abs=0.02)


def test_a_type_that_nobody_measured_must_be_given(folder: str) -> None:
    with pytest.raises(InputError, match="wifi"):
        made(folder, otherwise_bytes_per_s=dict.fromkeys(NETWORKS[2:], 1.0))


def test_transfers_wait_on_the_types_that_are_named(folder: str) -> None:
    network = made(folder, waits_on=["4g"])
    assert np.isinf(network.download(None, IDS[:3], np.zeros(3), 10, np.zeros(3))[0]).all()


def test_round_trips_come_before_the_first_byte(folder: str) -> None:
    rtt_s = {"wifi": 0.1, "2g": 0.1, "3g": 0.1, "4g": 0.25, "5g": 0.1}
    plain, slow = made(folder), made(folder, rtt_s=rtt_s, n_round_trips=4)
    level = plain.level(IDS[:9], K[:9])
    ends = [n.download(None, IDS[:9], np.zeros(9), 1000, level)[0] for n in (plain, slow)]
    assert ends[1] - ends[0] == pytest.approx(np.full(9, 1.0))


def test_phones_of_known_speed_keep_their_rank_and_the_rates_are_those_that_were_measured(folder: str) -> None:
    """Far below all that was measured: the fastest of them still has a fast link, on every type of network."""
    three = replace(PhoneClasses.named(["A", "B", "C"], [1.0] * 3), bytes_per_s=np.array([30.0, 10.0, 20.0]))
    network = made(folder, phones=three, device_variance_share=1.0)
    score = network.level(np.arange(3), np.zeros(3, dtype=np.int32))
    assert score == pytest.approx([0.967, -0.967, 0.0], abs=1e-3)  # Φ⁻¹ of 5/6, 1/6, 1/2
    end, _, _ = network.download(None, np.arange(3), np.zeros(3), 1_000_000, score)
    assert 1_000_000 / end == pytest.approx([4e5, 1e5, 2e5])
