"""Requirements as they are written: units, targets, margins; a bad one is refused in a line that says what may be."""

from __future__ import annotations

from typing import Any

import pytest

from fedsim.errors import InputError
from fedsim.plan.flags import condition
from fedsim.plan.requirement import requirements_of
from tests.plan.facts import METRICS, required


@pytest.mark.parametrize(
    ("metric", "limit", "number"),
    [
        ("days", "36 h", 1.5), ("days", 7, 7.0), ("days", "2 weeks", 14.0), ("device_hours", "2 d", 48.0),
        ("dropout_fraction", "12 %", 0.12), ("egress_bytes_per_s.p99", "3 MB/s", 3e6), ("kwh_per_model", "1 MWh", 1e3),
    ],
)  # fmt: skip
def test_a_limit_has_a_unit(metric: str, limit: Any, number: float) -> None:
    asked = required(metric=metric, at_most=limit)
    assert asked.limit == pytest.approx(number)
    assert not asked.is_floor


def test_a_margin_is_on_the_side_that_is_worse() -> None:
    high = required(metric="auc", compared_to="central", margin=0.015)
    low = required(metric="log_loss", compared_to="central", margin=0.02)
    assert (high.is_floor, high.limit) == (True, -0.015)
    assert (low.is_floor, low.limit) == (False, 0.02)
    assert high.needed == "not below central by more than 0.015"


@pytest.mark.parametrize(
    ("text", "central", "goal"), [("central - 0.05", 0.8, 0.75), (0.7, None, 0.7), ("central", 0.8, 0.8)]
)
def test_a_target_may_be_told_from_the_central_model(text: Any, central: float | None, goal: float) -> None:
    asked = required(metric="days_to.auc", target=text, at_most=2)
    assert asked.target is not None
    assert asked.target.of(central) == pytest.approx(goal)


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"metric": "dayz", "at_most": 1}, ("it.metric is unknown", "dayz", "auc")),
        ({"metric": "days"}, ("needs a limit", "at_least or at_most")),
        ({"metric": "days", "at_most": 1, "at_least": 2}, ("needs a limit", "2")),
        ({"metric": "days", "at_most": "7 kg"}, ("it.at_most", "7 kg", "NUMBER days")),
        ({"metric": "days", "at_most": "soon"}, ("it.at_most", "soon", "a number of days")),
        ({"metric": "auc", "at_least": "80 %"}, ("it.at_least", "80 %", "a number")),
        ({"metric": "days", "at_most": 1, "levle": "must"}, ("unknown key", "levle", "did you mean level?")),
        ({"metric": "days", "at_most": 1, "level": "may"}, ("it.level", "may", "must, should")),
        ({"metric": "days", "at_most": 1, "margin": 2}, ("it.margin", "compared_to: central")),
        ({"metric": "days", "compared_to": "central", "margin": 1}, ("no central value", "days", "auc, log_loss")),
        ({"metric": "auc", "compared_to": "moon", "margin": 1}, ("compared_to is unknown", "moon")),
        ({"metric": "auc", "compared_to": "central"}, ("needs a margin alone", "margin: NUMBER")),
        ({"metric": "auc", "compared_to": "central", "margin": -0.1}, ("it.margin", "-0.1", "0 …")),
        ({"metric": "days", "at_most": 1, "target": 0.5}, ("it.target", "0.5", "days_to.METRIC")),
        ({"metric": "days_to.auc", "at_most": 1}, ("it.target", "central - NUMBER")),
        ({"metric": "days_to.auc", "at_most": 1, "target": "centre"}, ("it.target", "centre")),
        ({"at_most": 1}, ("it.metric must be given",)),
        ([1], ("it must be a group of values",)),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_in_one_line(told: Any, words: tuple[str, ...]) -> None:
    with pytest.raises(InputError) as refused:
        requirements_of({"it": told}, METRICS, has_central=True)
    line = str(refused.value)
    assert "\n" not in line
    for word in words:
        assert word in line, line


def test_central_needs_a_central_model() -> None:
    for told in ({"compared_to": "central", "margin": 0.1},):
        with pytest.raises(InputError, match="a central model"):
            required(has_central=False, metric="auc", **told)
    with pytest.raises(InputError, match="a central model"):
        required(has_central=False, metric="days_to.auc", at_most=1, target="central - 0.1")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("days<=7", {"metric": "days", "at_most": 7}),
        ("auc >= 0.8", {"metric": "auc", "at_least": 0.8}),
        ("days_to.auc(0.8)<=36 h", {"metric": "days_to.auc", "target": 0.8, "at_most": "36 h"}),
        ("days_to.auc(central - 0.01)<=2", {"metric": "days_to.auc", "target": "central - 0.01", "at_most": 2}),
    ],
)  # fmt: skip
def test_a_flag_says_a_requirement(text: str, told: dict[str, Any]) -> None:
    assert condition(text) == told


@pytest.mark.parametrize("text", ["days", "days<7", "<=7", "days==7"])
def test_a_flag_without_a_condition_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="--require"):
        condition(text)
