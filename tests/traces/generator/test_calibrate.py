"""Synthetic phones of a calibrated fit charge as much as the phones of the set."""

from dataclasses import replace

import pytest

from fedsim.traces.generator.calibrate import DRAINS, calibrated, charging_share
from fedsim.traces.generator.parameters import SynthesisParameters
from fedsim.traces.generator.synthesis import REFERENCE, synthesize
from tests.hand import events_of, traces_of

HOUR_S, DAY_S = 3600, 86_400


@pytest.fixture(scope="module")
def parameters() -> SynthesisParameters:
    return SynthesisParameters.load(REFERENCE)


def test_the_share_leaves_out_unknown_time() -> None:
    log = events_of([(6 * HOUR_S, "charging", 1), (12 * HOUR_S, "charging", 0), (20 * HOUR_S, "charging", None)])
    assert charging_share(traces_of([log], period_s=DAY_S)) == pytest.approx(6 / 14)


@pytest.mark.slow
@pytest.mark.parametrize("factor", [0.6, 1.6])
def test_phones_that_drain_too_fast_or_too_slowly_are_brought_to_the_share_of_the_set(
    parameters: SynthesisParameters, factor: float
) -> None:
    wanted = synthesize(parameters, n_devices=300, n_days=5, seed=8)
    changed = {
        name: replace(parameters.traits[name], quantiles=tuple(v * factor for v in parameters.traits[name].quantiles))
        for name in DRAINS
    }
    wrong = replace(parameters, traits={**parameters.traits, **changed})
    before, after = (
        charging_share(synthesize(p, n_devices=300, n_days=5, seed=0)) for p in (wrong, calibrated(wrong, wanted))
    )
    assert abs(before - charging_share(wanted)) > 0.05
    assert after == pytest.approx(charging_share(wanted), abs=0.01)
    assert "scaled by" in calibrated(wrong, wanted).traits[DRAINS[0]].source
