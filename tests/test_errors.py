"""An error is one line: what, value, where, what is allowed."""

import pytest

from fedsim.errors import FedsimError, InputError, SimulationError


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ({}, "rate is wrong"),
        ({"value": -1}, "rate is wrong: -1"),
        ({"value": "x", "where": "a.yaml"}, "rate is wrong: 'x' in a.yaml"),
        ({"where": "a.yaml", "allowed": "0 or more"}, "rate is wrong in a.yaml (allowed: 0 or more)"),
        ({"value": 0, "where": "a.yaml", "allowed": 1}, "rate is wrong: 0 in a.yaml (allowed: 1)"),
    ],
)
def test_the_line_says_what_value_where_and_allowed(parts: dict[str, object], text: str) -> None:
    assert str(InputError("rate is wrong", **parts)) == text


def test_it_stays_one_line_whatever_it_quotes() -> None:
    error = InputError("cannot\nread\n  it", where="a\nb", allowed="c\td")
    assert str(error) == "cannot read it in a b (allowed: c d)"


def test_all_are_caught_as_one_kind() -> None:
    assert issubclass(InputError, FedsimError)
    assert issubclass(SimulationError, FedsimError)
    assert not issubclass(SimulationError, InputError)  # they end with different exit codes
