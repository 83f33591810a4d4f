"""A specification is read whole or refused in one line that names the section."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fedsim.config.compose import composed
from fedsim.decide.campaign import basis_of, requirements
from fedsim.decide.decision import first_words
from fedsim.decide.spec import Spec, read_spec, seconds_of
from fedsim.errors import InputError
from fedsim.plan.requirement import Requirement
from tests.decide.specs import SMALL, changed, written


def asked_of(spec: Spec) -> tuple[Requirement, ...]:
    return requirements(spec, composed(first_words(spec)))


SHARED = Path("../shared/reference/decision-spec-example.yaml")


def test_words_of_a_candidate_come_in_an_order_in_which_the_criterion_wins(tmp_path: Path) -> None:
    told = changed(
        constraints={
            "population": {"n_devices": 70_000, "region_shares": {"IND": 0.7, "BRA": 0.3}},
            "rollout": {"start_share": 0.2, "end_share": 0.9, "days": 7},
            "at_most_every": "36h",
        },
        fairness={"groups": ["device_tier", "activity"]},
    )
    words = read_spec(written(tmp_path, told)).words(rule="charging", model="model=clicks", arm="rounds")
    assert words[-1] == 'fleet.rule="charging"'
    assert "fleet.n_devices=70000" in words and "fleet.regions.utc.share=0" in words
    assert any("IND: {share: 0.7, utc_offset_hours: 5.5, country: IND}" in word for word in words)
    assert "server.selector.min_between_sessions_s=129600" in words
    assert "evaluation.groups=[tier,activity]" in words and "training.central.epochs=1" in words
    assert words.index("data=clicks") < words.index("server=sync") < words.index("stop.max_steps=12")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"wishes": {}}, "unknown section: 'wishes'"),
        ({"models": None}, "section models must be given"),
        ({"decision": {"id": "a/b"}}, "decision.id: 'a/b'"),
        ({"constraints": {"at_most_every": "24"}}, "constraints.at_most_every: a duration with its unit: '24'"),
        ({"constraints": {"at_most_every": 24}}, "constraints.at_most_every has the wrong type: 24"),
        ({"constraints": {"criteria": []}}, "criteria are none"),
        ({"constraints": {"population": {"region_shares": {"XXX": 1.0}}}}, "country: 'XXX'"),
        ({"constraints": {"population": {"region_shares": {"IND": 0.7, "BRA": 0.2}}}}, "not 1 together: '0.9'"),
        ({"models": {"candidates": [{"model": "x"}]}}, "models.candidates.0"),
        ({"data": {"kind": "real"}}, "data.kind is unknown: 'real'"),
        ({"data": {"central": {"epoch": 3}}}, "unknown key: 'data.central.epoch'"),
        ({"training": {"replications": {"first": 5, "at_most": 4}}}, "training.replications.at_most: 4"),
        ({"training": {"common_random_numbers": False}}, "training.common_random_numbers: False"),
        ({"forecast": {"retrain": "every 30"}}, "forecast.retrain: a duration with its unit"),
        ({"fairness": {"groups": ["age"]}}, "fairness.groups: 'age'"),
        ({"confidence": 95}, "confidence: 95"),
        ({"decision": {"decide_by": "soon"}}, "decision.decide_by: 'soon'"),
        (
            {"constraints": {"criteria": ["chargin & screen"]}},
            "constraints.criteria: unknown channel or fact 'chargin'",
        ),
        ({"constraints": {"requires": "ram_gb >= 2"}}, "constraints.requires needs phones"),
        ({"requirements": {3: {"metric": "days", "at_most": 2}}}, "a name that is no text: 3"),
        ({"sensitivity": {"a": {"values": [1]}}}, "sensitivity.a"),
        ({"sensitivity": {"a": {"key": "device.crash_fraction", "values": [1]}}}, "sensitivity.a.key"),
        ({"budget": {"minutes": 0}}, "budget.minutes: 0"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        spec = read_spec(written(tmp_path, changed(**change)))
        _ = spec.fleet_words
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"metric": "speed", "at_most": 1}, "requirements.x.metric is unknown: 'speed'"),
        ({"metric": "dropout_fraction"}, "requirements.x needs a limit: 0"),
        ({"metric": "dropout_fraction", "at_most": 1, "at_least": 0}, "requirements.x needs a limit: 2"),
        ({"metric": "dropout_fraction", "at_most": "3 h"}, "requirements.x.at_most is in another unit: '3 h'"),
        ({"metric": "usd_per_year", "at_most": "500"}, "requirements.x.at_most is in another unit: '500'"),
        ({"metric": "auc", "compared_to": "central"}, "requirements.x compares, and needs a margin alone"),
        ({"metric": "auc", "compared_to": "best", "margin": 0.1}, "requirements.x.compared_to is unknown: 'best'"),
        ({"metric": "usd_per_year", "compared_to": "central", "margin": 1}, "has no central value"),
        ({"metric": "days_to.auc", "at_most": 3}, "requirements.x.target"),
        ({"metric": "days_to.auc", "at_most": 3, "target": "central 0.1"}, "requirements.x.target: 'central 0.1'"),
        ({"metric": "auc", "at_least": 0.7, "margin": 0.1}, "requirements.x.margin needs compared_to"),
        ({"metric": "auc", "at_least": 0.7, "level": "may"}, "requirements.x.level is unknown: 'may'"),
    ],
)
def test_a_requirement_that_cannot_be_is_told_in_one_line(tmp_path: Path, asked: dict[str, Any], said: str) -> None:
    told = {**SMALL, "requirements": {"x": asked}}
    with pytest.raises(InputError) as caught:
        asked_of(read_spec(written(tmp_path, told)))
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_limits_take_units(tmp_path: Path) -> None:
    told = {
        **SMALL,
        "requirements": {
            "days": {"metric": "days_to.auc", "target": "central - 0.015", "at_most": "36 h"},
            "load": {"metric": "ingress_bytes_per_s.peak_minute", "at_most": "250 MB/s"},
            "share": {"metric": "admitted_fraction.mean", "at_least": "2 %"},
        },
    }
    days, load, share = asked_of(read_spec(written(tmp_path, told)))
    assert (days.limit, load.limit, share.limit) == (1.5, 250e6, 0.02)
    assert days.needed == "at most 1.5\u00a0days, to auc central − 0.015"


def test_a_specification_extends_another(tmp_path: Path) -> None:
    written(tmp_path, SMALL)
    above = {
        "extends": "decision.yaml",
        "decision": {"id": "strict"},
        "requirements": {"eligible": {"at_least": "5 %"}, "dropout": None},
    }
    spec = read_spec(written(tmp_path, above, "strict.yaml"))
    asked = {each.name: each for each in asked_of(spec)}
    assert spec.decision.id == "strict" and spec.decision.owner == "tests"
    assert asked["eligible"].limit == 0.05 and "dropout" not in asked and "quality" in asked


def test_a_circle_of_specifications_is_refused(tmp_path: Path) -> None:
    written(tmp_path, {"extends": "b.yaml"}, "a.yaml")
    written(tmp_path, {"extends": "a.yaml"}, "b.yaml")
    with pytest.raises(InputError, match="round to itself"):
        read_spec(tmp_path / "a.yaml")


def test_workers_that_are_limited_are_asked_about(tmp_path: Path) -> None:
    told = changed(forecast={"aggregator": {"max_workers": 3, "service_s": 0.2}, "energy": {"server_w": 70}})
    spec = read_spec(written(tmp_path, told))
    found = {each.name: each for each in asked_of(spec)}
    assert found["workers"].limit == 3 and found["workers"].level == "should"
    constants = basis_of(spec).constants
    assert (constants.ingest_report_s, constants.server_w) == (0.2, 70)


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30 min", 1800), ("24h", 86_400), ("7d", 604_800)])
def test_durations(text: str, seconds: float) -> None:
    assert seconds_of(text, "x") == seconds


@pytest.mark.skipif(not SHARED.exists(), reason="the example of the reference is not at hand")
def test_the_example_of_the_reference_is_read() -> None:
    spec = read_spec(SHARED)
    assert spec.looks == (3, 5, 10) and len(spec.model_words) == 2 and len(spec.sensitivity or ()) == 6


@pytest.mark.parametrize("energy", [{"server_country": 3}, {"pew": 1}])
def test_constants_that_are_none_are_refused(tmp_path: Path, energy: dict[str, Any]) -> None:
    spec = read_spec(written(tmp_path, changed(forecast={"energy": energy})))
    with pytest.raises(InputError, match="forecast"):
        basis_of(spec)


def test_requirements_are_a_group(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="requirements must be a group"):
        read_spec(written(tmp_path, {**SMALL, "requirements": [1]}))
