"""The paired and the unpaired level on made-up seeds whose truth is known."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import pytest

from fedsim.results.regress import paired, unpaired
from fedsim.results.regress.baseline import Baseline, Played
from fedsim.results.regress.finding import Finding, rejected
from fedsim.results.regress.quantities import Curve

NAME = "log_loss over versions"


def played(seed: int, value: float, *, curve: Sequence[float] = (), name: str = NAME, **more: float) -> Played:
    curves = {"log_loss": Curve(np.arange(len(curve)) * 2, np.array(curve))} if len(curve) else {}
    return Played(seed, {}, "", {name: value, **more}, curves)


def baseline(runs: Sequence[Played]) -> Baseline:
    return Baseline((), (), {}, {}, {}, tuple(runs))


def found(findings: Sequence[Finding]) -> Mapping[str, Finding]:
    return {each.quantity: each for each in findings}


# Seeds spread by 0.1 around 2.0: what does no harm is 0.01.
BEFORE = [2.0 + 0.1 * z for z in (-1.2, 0.3, 1.1, -0.4, 0.2)]
SD = float(np.std(BEFORE, ddof=1))


def changed_by(*d: float, name: str = NAME) -> Finding:
    recorded = baseline([played(seed, value, name=name) for seed, value in enumerate(BEFORE)])
    runs = [played(seed, BEFORE[seed] + each, name=name) for seed, each in enumerate(d)]
    return found(paired.findings(recorded, runs))[name]


def test_what_does_no_harm_is_a_tenth_of_the_spread() -> None:
    assert changed_by(0.0, 0.0, 0.0).margin == pytest.approx(0.1 * SD)
    assert (changed_by(0.0, 0.0, 0.0).verdict, changed_by(0.0, 0.0, 0.0).difference) == ("harmless", 0.0)


@pytest.mark.parametrize(
    ("d", "verdict"),
    [
        ((0.0210, 0.0211, 0.0212), "regressed"),
        ((-0.0210, -0.0211, -0.0212), "improved"),
        ((0.0040, 0.0041, 0.0042), "harmless"),  # real, and too small to matter
        ((0.0210, -0.0150, 0.0400), "undecided"),
        ((0.0095, 0.0102, 0.0090), "undecided"),  # across the edge of what does no harm
        ((0.5, 0.5, 0.5), "regressed"),  # the same for every seed
        ((0.5,), "undecided"),  # of one seed nothing is known but itself
        ((1e-9, -1e-9, 2e-9), "harmless"),
    ],
)
def test_a_change_is_judged_by_what_does_harm(d: tuple[float, ...], verdict: str) -> None:
    assert changed_by(*d).verdict == verdict


def test_which_way_is_worse_depends_on_the_quantity() -> None:
    up = (0.0210, 0.0211, 0.0212)
    assert changed_by(*up, name="accuracy over time").verdict == "improved"
    assert changed_by(*up, name="device-seconds").verdict == "regressed"
    assert changed_by(*up, name="surprise over versions").verdict == "changed"
    assert changed_by(*(-each for each in up), name="surprise over versions").verdict == "changed"


def test_a_quantity_that_never_varied_may_change_by_its_last_digits() -> None:
    recorded = baseline([played(seed, 650.0, name="bytes") for seed in range(4)])
    for factor, verdict in ((1 + 1e-8, "harmless"), (1 + 1e-5, "regressed")):
        runs = [played(seed, 650.0 * factor, name="bytes") for seed in range(3)]
        assert found(paired.findings(recorded, runs))["bytes"].verdict == verdict


def test_what_was_not_measured_is_left_out() -> None:
    recorded = baseline([played(seed, 2.0, joules=math.nan) for seed in range(3)])
    runs = [played(seed, 2.0, joules=math.nan) for seed in range(3)]
    assert set(found(paired.findings(recorded, runs))) == {NAME}


def test_holm_steps_down() -> None:
    """0.01 ≤ 0.05/4, 0.013 ≤ 0.05/3, 0.03 > 0.05/2: what comes after stands too."""
    assert rejected([0.03, 0.013, 0.9, 0.01], 0.05) == [False, True, False, True]
    assert rejected([], 0.05) == []
    assert rejected([0.04], 0.05) == [True]
    assert rejected([0.04, 1.0, 1.0], 0.05) == [True, False, False]  # what cannot change does not count


@pytest.mark.slow
def test_a_change_at_the_edge_of_harm_alarms_as_rarely_as_said() -> None:
    """Twelve quantities at the edge: in all 2.5 % of checks may alarm."""
    rng, n = np.random.default_rng(4), 400

    def alarms() -> bool:
        names = [f"load {n}" for n in range(12)]
        before = [{name: float(rng.normal(5.0, 0.4)) for name in names} for _ in range(8)]
        recorded = baseline([Played(seed, {}, "", values, {}) for seed, values in enumerate(before)])
        sd = {name: np.std([values[name] for values in before], ddof=1) for name in names}
        runs = [
            Played(s, {}, "", {name: before[s][name] + 0.1 * sd[name] + rng.normal(0, 0.05) for name in names}, {})
            for s in range(4)
        ]
        return any(each.verdict == "regressed" for each in paired.findings(recorded, runs))

    assert sum(alarms() for _ in range(n)) / n < 0.025 + 3 * math.sqrt(0.025 * 0.975 / n)


# ------------------------------------------------------------------------------------ other draws


def curves(n: int, *, shift: float = 0.0, seed: int = 0) -> list[Played]:
    rng, course = np.random.default_rng(seed), 2.0 * 0.9 ** np.arange(12)
    return [
        played(seed, level.mean(), curve=level.tolist())
        for seed, level in enumerate(course + shift + rng.normal(0, 0.05, (n, 1)) + rng.normal(0, 0.01, (n, 12)))
    ]


def test_many_seeds_tell_a_large_change() -> None:
    recorded = baseline(curves(20))
    same = found(unpaired.findings(recorded, curves(10, seed=1)))
    assert [each.verdict for each in same.values()] == ["undecided", "undecided"]
    worse = found(unpaired.findings(recorded, curves(10, shift=0.2, seed=1)))
    assert worse["log_loss course"].verdict == worse[NAME].verdict == "regressed"
    better = found(unpaired.findings(recorded, curves(10, shift=-0.2, seed=1)))
    assert better["log_loss course"].verdict == "improved"


def test_it_says_how_blind_it_is() -> None:
    """Two tests of 1 % in all: (z of 0.25 % = 2.807, z of 20 % = 0.842) × sd × √(1/20 + 1/10)."""
    runs = curves(20)
    sd = np.std([run.quantities[NAME] for run in runs], ddof=1)
    same = found(unpaired.findings(baseline(runs), curves(10, seed=1)))[NAME]
    assert same.margin == pytest.approx((2.8070 + 0.8416) * sd * math.sqrt(1 / 20 + 1 / 10), rel=1e-4)


def test_the_largest_distance_is_held_against_all_labellings() -> None:
    """Eight runs, six and two: all 28 labellings by a loop, against 9,999 shuffled ones; for several shifts."""
    for shift in (0.02, 0.05, 0.09, 0.14):
        _is_as_by_a_loop(curves(6), curves(2, shift=shift, seed=2))


def _is_as_by_a_loop(recorded: list[Played], runs: list[Played]) -> None:
    values = np.array([run.curves["log_loss"].values for run in (*recorded, *runs)])

    def largest(after: tuple[int, ...]) -> float:
        is_after = np.isin(np.arange(8), after)
        one, other = values[is_after], values[~is_after]
        error = np.sqrt(one.var(axis=0, ddof=1) / len(one) + other.var(axis=0, ddof=1) / len(other))
        return float((np.abs(one.mean(axis=0) - other.mean(axis=0)) / error).max())

    observed = largest((6, 7))
    exact = np.mean([largest(after) >= observed - 1e-9 for after in combinations(range(8), 2)])
    course = found(unpaired.findings(baseline(recorded), runs))["log_loss course"]
    assert course.p_value == pytest.approx(exact, abs=0.02)


def test_curves_are_compared_where_all_have_a_version() -> None:
    runs = [
        Played(0, {}, "", {}, {"log_loss": Curve(np.array([0, 4, 7]), np.array([2.0, 1.0, 9.0]))}) for _ in range(2)
    ]
    course = found(unpaired.findings(baseline(curves(3)), runs))["log_loss course"]
    assert course.after == pytest.approx(1.5)


def test_a_version_that_is_the_same_in_all_seeds_tells_nothing() -> None:
    """All runs begin with one model: a last digit there is no change of learning."""

    def begun(at: float, runs: list[Played]) -> list[Played]:
        for run in runs:
            run.curves["log_loss"].values[0] = at
        return runs

    recorded = baseline(begun(0.104677, curves(20)))
    course = found(unpaired.findings(recorded, begun(0.10467706, curves(10, seed=1))))["log_loss course"]
    assert course.p_value > 0.05


def test_one_run_tells_nothing() -> None:
    assert unpaired.findings(baseline(curves(20)), curves(1)) == []


@pytest.mark.slow
def test_other_draws_alarm_as_rarely_as_said() -> None:
    def alarms(seed: int) -> bool:
        everything = curves(30, seed=100 + seed)
        found = unpaired.findings(baseline(everything[:20]), everything[20:])
        return any(each.verdict == "regressed" for each in found)

    assert sum(alarms(seed) for seed in range(150)) <= 4  # of 1 %: more than four come once in 280 times
