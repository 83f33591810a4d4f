"""Estimating the generator's parameters: hand-made logs by hand, and a synthetic population recovered."""

from dataclasses import replace

import numpy as np
import pytest

from fedsim.errors import InputError
from fedsim.traces.generator.fit import fit
from fedsim.traces.generator.parameters import LAWS, TRAITS, SynthesisParameters
from fedsim.traces.generator.segments import Segments
from fedsim.traces.generator.synthesis import REFERENCE, synthesize
from tests.hand import events_of, traces_of

DAY_S = 86_400


def test_segments_of_a_hand_made_phone() -> None:
    """A trace that begins at 10:30; cut at full hours and at changes; unknown until the first event."""
    log = events_of(
        [
            (0, "network", "4g"),
            (0, "screen", 0),
            (0, "battery", 80),
            (600, "charging", 1),
            (600, "network", "wifi"),
            (900, "locked", 1),
            (900, "network", None),
        ]
    )
    segments = Segments.of(traces_of([log], period_s=DAY_S, start_s=10.5 * 3600))
    first = slice(0, 4)
    assert segments.seconds[first].tolist() == [600, 300, 900, 3600]
    assert segments.hour[first].tolist() == [10, 10, 10, 11]
    charging, wifi, cellular, screen = segments.process[first].T.tolist()
    assert charging == [2, 1, 1, 1]
    assert wifi == [0, 1, 0, 0]
    assert cellular == [1, 2, 0, 0]  # not seen on wifi; an unknown network counts as none
    assert screen == [0, 0, 0, 0]
    assert segments.band[first].tolist() == [3, 3, 3, 3]
    assert segments.seconds.sum() == DAY_S
    assert segments.continues.sum() == len(segments.phone) - 1


def test_segments_need_a_local_clock() -> None:
    log = events_of([(0, name, 0) for name in ("network", "charging", "screen", "locked", "battery")])
    with pytest.raises(InputError, match="hour of day is unknown"):
        Segments.of(traces_of([log], period_s=DAY_S, is_local=False))


def test_a_process_that_never_changes_cannot_be_fitted() -> None:
    log = events_of([(0, name, 0) for name in ("network", "charging", "screen", "locked", "battery")])
    with pytest.raises(InputError, match="ever leaves the state: 'charging off'"):
        fit(traces_of([log], period_s=DAY_S), template=SynthesisParameters.load(REFERENCE), source="hand-made")


def test_a_trait_that_nothing_tells_cannot_be_fitted() -> None:
    """The keyguard never opens, so nobody is seen to leave the screen with it open."""
    changes = {"network": ("none", "4g", "none", "wifi"), "charging": (0, 1), "screen": (0, 1), "battery": (50, 40)}
    rows = [(at_s, n, v[i % len(v)]) for n, v in changes.items() for i, at_s in enumerate(range(0, DAY_S, 500))]
    log = events_of(sorted([*rows, (0, "locked", 1)], key=lambda row: row[0]))
    with pytest.raises(InputError, match="nothing in the trace set tells the trait: 'lock_fraction'"):
        fit(traces_of([log], period_s=DAY_S), template=SynthesisParameters.load(REFERENCE), source="hand-made")


def test_a_stay_whose_beginning_was_not_seen_does_not_count() -> None:
    """On the charger for ten hours when the log begins, then on and off every 1000 s: every stay seen is alike."""
    others = [
        (at_s + late_s, name, values[index % len(values)])
        for name, late_s, values in (
            ("network", 0, ("none", "4g", "none", "wifi")),
            ("screen", 0, (0, 1)),
            ("locked", 20, (1, 0)),
            ("battery", 0, (50, 50, 40, 40, 60, 60)),
        )
        for index, at_s in enumerate(range(0, DAY_S - 500, 500))
    ]
    plugs = [
        (0, "charging", 1),
        *((at_s, "charging", index % 2) for index, at_s in enumerate(range(36_000, DAY_S, 1000))),
    ]
    log = events_of(sorted((*others, *plugs), key=lambda row: row[0]))
    hours = [3600.0 * hour for hour in range(24)]
    traces = traces_of([log] * 24, period_s=DAY_S, start_s=hours)
    stays = fit(traces, template=SynthesisParameters.load(REFERENCE), source="hand-made").laws["charging on"]
    assert stays.relative_duration_quantiles[-1] < 2 * stays.relative_duration_quantiles[0]


@pytest.fixture(scope="module")
def truth() -> SynthesisParameters:
    return SynthesisParameters.load(REFERENCE)


@pytest.fixture(scope="module")
def estimate(truth: SynthesisParameters) -> SynthesisParameters:
    """From 60 phones over 4 days; the template knows nothing of traits, laws and their sources."""
    traces = synthesize(truth, n_devices=60, n_days=4, seed=11)
    blank = replace(truth.laws["screen on"], hour_factors=(1.0,) * 24, level_factors=(1.0,) * 5, source="blank")
    laws = {n: replace(blank, context_factors=dict.fromkeys(truth.laws[n].context_factors, (1.0, 1.0))) for n in LAWS}
    traits = {name: replace(truth.traits[name], quantiles=(0.5,) * 11) for name in TRAITS}
    return fit(traces, template=replace(truth, traits=traits, laws=laws), source="synthetic")


def test_the_fit_can_be_used_and_says_what_it_was_made_of(estimate: SynthesisParameters) -> None:
    assert {part.source for part in (*estimate.traits.values(), *estimate.laws.values())} == {"synthetic"}
    assert estimate.sources["trait_correlation"] == "synthetic"
    assert synthesize(estimate, n_devices=2, n_days=1, seed=0).n == 2


@pytest.mark.parametrize(
    "trait, tolerance",
    [
        ("screen_sessions_per_day", 0.3),
        ("unlock_fraction", 0.15),
        ("idle_discharge_percent_per_h", 0.3),
        ("active_discharge_percent_per_h", 0.2),
        ("charge_percent_per_h", 0.2),
    ],
)
def test_medians_of_traits_are_recovered(
    truth: SynthesisParameters, estimate: SynthesisParameters, trait: str, tolerance: float
) -> None:
    middle = len(truth.traits[trait].quantiles) // 2
    true, found = (p.traits[trait].quantiles[middle] for p in (truth, estimate))
    assert found == pytest.approx(true, rel=tolerance)


def test_hours_are_recovered(truth: SynthesisParameters, estimate: SynthesisParameters) -> None:
    true, found = (np.log(p.laws["screen off"].hour_factors) for p in (truth, estimate))
    assert np.corrcoef(true, found)[0, 1] > 0.9


@pytest.mark.parametrize("law", ["screen off", "screen on", "wifi on"])
def test_stays_are_recovered(truth: SynthesisParameters, estimate: SynthesisParameters, law: str) -> None:
    true, found = (np.log(p.laws[law].relative_duration_quantiles) for p in (truth, estimate))
    assert np.abs(found - true)[3:14].max() < np.log(2.5)


@pytest.mark.parametrize(
    "law, other",
    [("screen off", "charging"), ("charging off", "screen"), ("charging on", "screen")],
)
def test_contexts_are_recovered(
    truth: SynthesisParameters, estimate: SynthesisParameters, law: str, other: str
) -> None:
    """How much faster the change comes while the other process is on."""
    (true_off, true_on), (off, on) = (p.laws[law].context_factors[other] for p in (truth, estimate))
    assert on / off == pytest.approx(true_on / true_off, rel=0.5)
    assert (on > off) == (true_on > true_off)


def test_empty_phones_are_found_to_seek_the_charger(estimate: SynthesisParameters) -> None:
    factors = estimate.laws["charging off"].level_factors
    assert factors[0] > 3 * max(factors[2:])
