"""A question as a file or as flags: what is read, and the line that refuses what cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fedsim.errors import InputError
from fedsim.plan.flags import quoted, span, split_changes
from fedsim.plan.spec import read_spec, spec_of, values_of

NONE = {"base": "training=none"}
DAYS = {"requirements": {"days": {"metric": "days", "at_most": "12 h"}}}


def test_what_is_not_told_follows_from_what_is() -> None:
    spec = spec_of(
        NONE | DAYS | {"search": {"server.report_goal": {"from": 20, "to": 24}}, "replications": {"at_most": 7}}
    )
    assert spec.find == "smallest"
    assert list(spec.variables[0].values) == [20, 21, 22, 23, 24]
    assert spec.requirements[0].limit == 0.5
    assert spec.replications.looks == (3, 5, 7)
    assert not spec.is_training
    front = spec_of({"base": [], "search": {"server.report_goal": [3, 5]}, "minimise": ["days", "auc", "log_loss"]})
    assert front.find == "front"
    assert front.is_training
    assert [each.is_lower_better for each in front.objectives] == [True, False, True]


def test_numbers_with_a_step_are_exact() -> None:
    assert list(values_of({"from": 1.0, "to": 1.3, "step": 0.1}, "x")) == [1.0, 1.1, 1.2, 1.3]
    assert list(values_of({"from": 5, "to": 12, "step": 3}, "x")) == [5, 8, 11]


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"serach": {}}, ("unknown key", "serach", "search")),
        ({"plan": {"find": "best"}}, ("plan.find", "best", "smallest, largest, front")),
        ({"plan": {"alpha": 2}}, ("plan.alpha", "2", "0.5")),
        ({"base": "a 'b"}, ("base cannot be split",)),
        ({"base": [1]}, ("base", "a list of texts")),
        ({"base": "server.reprot_goal=3"}, ("unknown key", "server.reprot_goal", "did you mean server.report_goal?")),
        ({"search": {"x": {"from": 3, "to": 2}}}, ("search.x.to", "3 (from) and more")),
        ({"search": {"x": {"from": 3}}}, ("search.x", "from and to")),
        ({"search": {"x": []}}, ("search.x", "a list of values")),
        ({"search": {"x": [1, 1]}}, ("search.x has a value twice",)),
        ({"search": {"x": {"from": 0, "to": 1, "step": 1e-9}}}, ("search.x has too many values",)),
        ({"minimise": ["dayz"], "search": {"x": [1]}}, ("minimise names no quantity", "dayz")),
        ({"minimise": ["days"]}, ("search", "KEY: values")),
        ({"search": {"x": [1, 2]}}, ("minimise", "one quantity and more")),
        (DAYS | {"plan": {"find": "smallest"}, "search": {"x": [1], "y": [2]}}, ("search", "2", "one variable")),
        ({"plan": {"find": "largest"}, "search": {"x": [1]}}, ("requirements", "one and more")),
        ({"launch": "soon"}, ("launch", "soon", "2026-03-01")),
        ({"criteria": ["charging"]}, ("criteria", "1", "two rules and more")),
        ({"work": {"updates": 5, "steps": 3}}, ("work", "one of them")),
        ({"work": {"steps": 0}}, ("work.steps", "0", "1 …")),
        ({"replications": {"first": 2}}, ("replications.first", "2", "3 …")),
        ({"replications": {"first": 6, "at_most": 5}}, ("replications.at_most", "5", "6 (first)")),
        ({"budget": {"cores": 0}}, ("budget.cores", "0")),
        ({"budget": {"minuets": 3}}, ("unknown key", "minuets", "did you mean minutes?")),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_in_one_line(told: dict[str, Any], words: tuple[str, ...]) -> None:
    with pytest.raises(InputError) as refused:
        spec_of(NONE | told)
    line = str(refused.value)
    assert "\n" not in line
    for word in words:
        assert word in line, line


def test_a_file_that_is_no_plan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="plan not found"):
        read_spec(tmp_path / "none.yaml")
    for text, words in (("- 1", "not a mapping"), ("a: [", "cannot be read")):
        (tmp_path / "bad.yaml").write_text(text)
        with pytest.raises(InputError, match=words):
            read_spec(tmp_path / "bad.yaml")


def test_flags_say_variables_and_changes() -> None:
    assert span("server.report_goal=20..2000") == ("server.report_goal", {"from": 20, "to": 2000})
    assert span("a.b=1.0..2.0:0.05") == ("a.b", {"from": 1.0, "to": 2.0, "step": 0.05})
    assert span("server=sync,buffered") == ("server", ["sync", "buffered"])
    with pytest.raises(InputError, match="a variable"):
        span("server.report_goal")
    told = "fleet.rule=charging & network in {wifi, 5g},server.over_selection=1.5,fleet.unknown=eligible"
    assert split_changes(told) == [
        'fleet.rule="charging & network in {wifi, 5g}"', "server.over_selection=1.5", "fleet.unknown=eligible",
    ]  # fmt: skip
    assert quoted("fleet.regions={a: 1}") == "fleet.regions={a: 1}"
