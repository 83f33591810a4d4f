"""Powers of a device: by activity, by network type, and by phone."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from fedsim.cost.phones import PhoneClasses
from fedsim.device.energy import Energy
from fedsim.errors import InputError
from fedsim.fleet.fleet import Fleet
from fedsim.fleet.hardware import Hardware
from fedsim.schema import HARDWARE, NETWORKS
from tests.hand import events_of, traces_of

POWERS: dict[str, Any] = {"compute_w": 2.0, "receive_w": 0.7, "send_w": 1.1}
BY_TYPE = {"wifi": 0.5, "2g": 1.0, "3g": 2.0, "4g": 3.0, "5g": 4.0}
CODES = np.arange(len(NETWORKS), dtype=np.int8)


def test_one_power_for_all() -> None:
    energy = Energy(**POWERS)
    assert energy.compute_watts(np.arange(6)).tolist() == [2.0] * 6
    assert energy.receive_watts(CODES, CODES).tolist() == [0.7] * 6
    assert energy.send_watts(CODES, CODES).tolist() == [1.1] * 6


def test_every_network_type_may_have_its_own_power() -> None:
    """A transfer that begins on no network is booked as on Wi-Fi."""
    energy, wanted = Energy(compute_w=1.0, receive_w=BY_TYPE, send_w=0.1), [BY_TYPE.get(n, 0.5) for n in NETWORKS]
    assert energy.receive_watts(CODES, CODES).tolist() == wanted
    assert energy.send_watts(CODES, CODES).tolist() == [0.1] * 6
    assert Energy(compute_w=1.0, receive_w=0.1, send_w=BY_TYPE).send_watts(CODES, CODES).tolist() == wanted


def test_a_phone_of_known_power_takes_its_own() -> None:
    known: dict[str, Any] = {
        "weight": [1.0, 1.0, 1.0], "inference_ms_per_sample": [1.0, 1.0, 1.0], "compute_w": [4.0, None, 0.0],
    }  # fmt: skip
    table = pa.table({c.name: pa.array(known.get(c.name, [None] * 3), c.type) for c in HARDWARE.columns})
    traces = traces_of([events_of([(0, "charging", 1)])], period_s=86_400)
    hardware, ids = Hardware(Fleet(traces, n_devices=100, seed=1), table), np.arange(100)
    watts = Energy(**POWERS, phones=hardware).compute_watts(ids)
    assert watts.tolist() == np.array([4.0, 2.0, 0.0])[hardware.row_of(ids)].tolist()
    assert len(set(watts.tolist())) == 3


CLASSES = {
    "slow": {"below_ms": None, "compute_factor": 0.5, "radio_factor": 2.0},
    "fast": {"below_ms": 20.0, "compute_factor": 3.0, "radio_factor": 1.0},
    "mid": {"below_ms": 40.0, "compute_factor": 1.0, "radio_factor": 1.5},
}


def test_classes_of_phones_have_factors_on_the_powers() -> None:
    """10 ms is fast, 20 ms is mid (not below 20), 40 ms is slow; a power of one's own beats the class's."""
    phones = PhoneClasses.named(["A", "B", "C"], [10.0, 20.0, 40.0])
    energy, ids = Energy(**POWERS, phones=phones, classes=CLASSES), np.arange(3)
    wifi = np.ones(3, dtype=np.int8)
    assert energy.compute_watts(ids).tolist() == [2.0 * 3, 2.0, 2.0 * 0.5]
    assert energy.receive_watts(ids, wifi).tolist() == pytest.approx([0.7, 0.7 * 1.5, 0.7 * 2])
    assert energy.send_watts(ids, wifi).tolist() == pytest.approx([1.1, 1.1 * 1.5, 1.1 * 2])
    unknown = Energy(**POWERS, phones=replace(phones, latency_ms=np.full(3, np.nan)), classes=CLASSES)
    assert np.isnan(unknown.compute_watts(ids)).all() and np.isnan(unknown.send_watts(ids, wifi)).all()
    own = replace(phones, compute_w=np.array([9.0, np.nan, np.nan]))
    assert Energy(**POWERS, phones=own, classes=CLASSES).compute_watts(ids).tolist() == [9.0, 2.0, 1.0]


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ({"fast": CLASSES["fast"]}, "below_ms.*null for the rest"),
        ({**CLASSES, "twin": CLASSES["mid"]}, "below_ms.*different limits"),
        ({"slow": {"below_ms": None, "compute_factor": 1.0}}, r"classes\.slow.*radio_factor"),
        ({"slow": {**CLASSES["slow"], "radio_factor": -1.0}}, r"classes\.slow must not be negative"),
        ({"slow": {**CLASSES["slow"], "radio_factor": None}}, r"classes\.slow must not be negative"),
    ],
)
def test_bad_classes_are_refused(classes: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Energy(**POWERS, phones=PhoneClasses.named(["A"], [10.0]), classes=classes)
    with pytest.raises(InputError, match="need phones"):
        Energy(**POWERS, classes=CLASSES)


def test_a_phone_of_negative_power_is_refused() -> None:
    with pytest.raises(InputError, match="compute_w of a phone must not be negative: -3"):
        Energy(**POWERS, phones=replace(PhoneClasses.named(["A"], [10.0]), compute_w=np.array([-3.0])))


@pytest.mark.parametrize("name", list(POWERS))
@pytest.mark.parametrize("value", [-0.1, math.nan])
def test_a_bad_power_is_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(InputError, match=f"energy.{name}"):
        Energy(**(POWERS | {name: value}))
    if name != "compute_w":
        with pytest.raises(InputError, match=f"energy.{name}.*'3g'"):
            Energy(**(POWERS | {name: BY_TYPE | {"3g": value}}))


@pytest.mark.parametrize("watts", [{"wifi": 1.0}, BY_TYPE | {"lte": 1.0}, BY_TYPE | {"none": 0.0}])
def test_powers_by_type_must_name_every_type(watts: dict[str, float]) -> None:
    with pytest.raises(InputError, match=r"energy\.send_w must give watts per type"):
        Energy(**(POWERS | {"send_w": watts}))


def test_no_power_is_a_power() -> None:
    assert Energy(compute_w=0.0, receive_w=0.0, send_w=0.0).compute_watts(np.array([0])).tolist() == [0.0]
