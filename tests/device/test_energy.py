"""Powers of a device."""

import math

import pytest

from fedsim.device.energy import Energy
from fedsim.errors import InputError

POWERS = {"compute_w": 2.0, "receive_w": 0.7, "send_w": 1.1}


@pytest.mark.parametrize("name", list(POWERS))
@pytest.mark.parametrize("value", [-0.1, math.nan])
def test_a_bad_power_is_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(InputError, match=f"energy.{name}"):
        Energy(**(POWERS | {name: value}))


def test_no_power_is_a_power() -> None:
    assert Energy(compute_w=0.0, receive_w=0.0, send_w=0.0).compute_w == 0.0
