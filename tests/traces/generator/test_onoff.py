"""Phones that come and go: by hand, against a walk second by second, and recovered from what they left."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsim.errors import InputError
from fedsim.traces.canonical import TraceSet
from fedsim.traces.criteria import Windows, compile_rule
from fedsim.traces.generator.generators import fit_generator, fit_on_off, generate, load_generator
from fedsim.traces.generator.goodness import goodness
from fedsim.traces.generator.onoff import OnOffParameters, _later, synthesize_on_off
from fedsim.traces.generator.parameters import DURATION_PROBABILITIES, SynthesisParameters
from fedsim.traces.generator.synthesis import REFERENCE
from fedsim.traces.generator.walk import segment_means
from fedsim.traces.rule import Rule
from fedsim.traces.statistics.stats import mean_share, share_by_hour, share_per_device
from fedsim.traces.validation import validate
from tests.hand import events_of, traces_of

HOUR_S, DAY_S, DAY_MS = 3600, 86_400, 86_400_000
RULE = Rule.parse("available")


def even(n: int = 16) -> tuple[float, ...]:
    """Stays spread evenly around a mean of 1."""
    stay = 0.1 + 1.8 * np.array(DURATION_PROBABILITIES)
    stay /= np.sum(segment_means(stay) * np.diff(DURATION_PROBABILITIES))
    return tuple(stay.tolist())


PLAIN = OnOffParameters(
    fraction_quantiles=(0.3,) * 11,
    sessions_per_day_quantiles=(8.0,) * 11,
    trait_correlation=0.0,
    relative_duration_quantiles=(even(), even()),
    hour_factors=((1.0,) * 24, (1.0,) * 24),
    is_local=True,
    source="hand-made",
)


def windows(traces: TraceSet) -> Windows:
    return compile_rule(traces, RULE, unknown="ineligible")


def test_traits_set_the_share_and_the_rate() -> None:
    traces = synthesize_on_off(PLAIN, n_devices=300, n_days=5, seed=1)
    validate(traces, where="synthetic")
    found = windows(traces)
    assert mean_share(found) == pytest.approx(0.3, abs=0.01)
    inside = found.start_ms > 0
    assert inside.sum() / (300 * 5) == pytest.approx(8.0, rel=0.03)
    assert found.end_ms.max() <= 5 * DAY_MS


def test_hours_at_which_phones_leave_soon_have_few_of_them() -> None:
    leave_by_day = tuple(6.0 if 8 <= hour < 20 else 0.5 for hour in range(24))
    traces = synthesize_on_off(
        replace(PLAIN, hour_factors=((1.0,) * 24, leave_by_day)), n_devices=300, n_days=5, seed=1
    )
    share = share_by_hour(windows(traces))
    assert share[10:20].max() < 0.5 * share[:6].min()


def test_a_phone_is_the_same_in_a_larger_and_a_longer_set() -> None:
    many = synthesize_on_off(PLAIN, n_devices=6, n_days=4, seed=3)
    few = synthesize_on_off(PLAIN, n_devices=2, n_days=4, seed=3)
    for name in ("at_ms", "value"):
        assert getattr(few.events, name).tolist() == getattr(many.events, name)[: many.offsets[2]].tolist()
    short = windows(synthesize_on_off(PLAIN, n_devices=6, n_days=1, seed=3))
    longer = windows(many)
    is_first_day = longer.end_ms < DAY_MS
    assert set(longer.start_ms[is_first_day].tolist()) <= set(short.start_ms.tolist())


def test_phones_that_never_and_always_are_there() -> None:
    never, always = (
        synthesize_on_off(replace(PLAIN, fraction_quantiles=(share,) * 11), n_devices=5, n_days=2, seed=1)
        for share in (0.0, 1.0)
    )
    assert share_per_device(windows(never)).tolist() == [0.0] * 5
    assert share_per_device(windows(always)).tolist() == [1.0] * 5


@given(
    st.lists(st.floats(0.1, 8.0), min_size=24, max_size=24),
    st.floats(-10 * DAY_S, 10 * DAY_S),
    st.floats(0.0, 3e5),
)
def test_operational_time_is_that_of_a_walk_hour_by_hour(factors: list[float], at_s: float, stay_s: float) -> None:
    now, left = at_s, stay_s
    while True:
        hour = np.floor(now / HOUR_S)
        factor = factors[int(hour) % 24]
        here_s = ((hour + 1) * HOUR_S - now) * factor
        if left <= here_s:
            break
        left, now = left - here_s, (hour + 1) * HOUR_S
    clock_s = np.append(0.0, np.cumsum(factors)) * HOUR_S
    assert _later(np.array([at_s]), np.array([stay_s]), clock_s)[0] == pytest.approx(now + left / factor, abs=1e-3)


@pytest.mark.slow
def test_a_population_is_recovered() -> None:
    """Fractions and rates that differ from phone to phone, hours that matter: the fit's own phones look alike."""
    truth = replace(
        PLAIN,
        fraction_quantiles=tuple(np.linspace(0.05, 0.7, 11).tolist()),
        sessions_per_day_quantiles=tuple(np.linspace(2.0, 12.0, 11).tolist()),
        hour_factors=(tuple(2.0 if hour < 6 else 0.7 for hour in range(24)), (1.0,) * 24),
    )
    real = synthesize_on_off(truth, n_devices=1500, n_days=7, seed=5)
    found = fit_on_off(real, source="test")
    made = generate(found, n_devices=1500, n_days=7, seed=6)
    distance = goodness(made, real, RULE)
    assert distance.mean_share == pytest.approx(0.0, abs=0.03)
    # changes are counted as if stays had no memory, which these have: the first hours after a jump are off by a tenth
    assert distance.hour_of_day is not None and distance.hour_of_day < 0.07
    assert distance.session_ks < 0.06
    assert distance.device_ks < 0.15
    assert np.corrcoef(found.hour_factors[0], truth.hour_factors[0])[0, 1] > 0.95


def test_a_relative_clock_knows_no_hours() -> None:
    real = synthesize_on_off(replace(PLAIN, is_local=False), n_devices=50, n_days=4, seed=5)
    found = fit_on_off(real, source="test")
    assert not found.is_local
    assert set(found.hour_factors[0] + found.hour_factors[1]) == {1.0}
    made = generate(found, n_devices=50, n_days=4, seed=6)
    assert not made.is_local.any()
    assert goodness(made, real, RULE).hour_of_day is None


def test_channels_choose_the_generator(tmp_path: Path) -> None:
    found = fit_generator(synthesize_on_off(PLAIN, n_devices=30, n_days=2, seed=1), source="test")
    found.save(tmp_path / "p.json")
    assert load_generator(tmp_path / "p.json") == found
    assert isinstance(load_generator(REFERENCE), SynthesisParameters)
    screens = traces_of([events_of([(0, "screen", 1)])], period_s=DAY_S)
    with pytest.raises(InputError, match=r"fit no generator: 'screen' \(allowed: all of .*battery.*; or available"):
        fit_generator(screens, source="test")


def test_a_set_that_never_changes_cannot_be_fitted() -> None:
    always = traces_of([events_of([(0, "available", 1)])], period_s=DAY_S)
    with pytest.raises(InputError, match="ever leaves the state: 'available off'"):
        fit_on_off(always, source="test")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"fraction_quantiles": [2.0] * 11}, "fraction_quantiles: 2.0"),
        ({"fraction_quantiles": [0.5]}, "fraction_quantiles has 1 values"),
        ({"trait_correlation": 1.5}, "trait_correlation: 1.5"),
        ({"hour_factors": [[1.0] * 24]}, "malformed"),
        ({"more": 1}, "malformed"),
        ({"hour_factors": None}, "malformed"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    (tmp_path / "p.json").write_text(json.dumps(PLAIN.as_json() | change))
    with pytest.raises(InputError, match=f"{says}.* in .*p.json|malformed"):
        load_generator(tmp_path / "p.json")


@pytest.mark.parametrize("numbers", [{"n_devices": 0, "n_days": 1}, {"n_devices": 1, "n_days": 0}])
def test_an_empty_set_is_refused(numbers: dict[str, int]) -> None:
    with pytest.raises(InputError, match="at least 1"):
        synthesize_on_off(PLAIN, **numbers, seed=0)
