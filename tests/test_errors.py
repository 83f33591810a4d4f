"""An error is one line: what, value, where, what is allowed."""

from pathlib import Path

import pytest

from fedsim.errors import FedsimError, InputError, SimulationError, WriteError, printable, shown


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


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (10**5000, "a whole number of about 5,000 digits"),
        (-(2**60), "-1152921504606846976"),
        ("x" * 10**6, "'xxxx"),
        (b"x" * 10**6, "b'xxxx"),
        ([0] * 10**6, "[0, 0, 0, 0, 0, 0, 0, 0, ...]"),
        ({1: {2: {3: {4: {5: 6}}}}}, "{1: {2: {3: {...}}}}"),
        (Path("a" * 300), "'" + "a" * 300 + "'"),
        ("a\x1b[31m\ud800\u202e", r"'a\x1b[31m\ud800\u202e'"),
        (1.5, "1.5"),
        (("a", 1), "('a', 1)"),
    ],
    ids=range(10),
)
def test_a_value_is_told_in_few_printable_characters(value: object, says: str) -> None:
    text = shown(value)
    assert text.startswith(says) and text.isprintable()
    assert len(text) <= 120 or isinstance(value, Path)
    assert str(InputError("wrong", value=value)) == f"wrong: {text}"


def test_a_value_that_never_ends_is_not_written_out() -> None:
    """Lists of one list each ten times over: 10**40 words, or one that holds itself, or one of 100,000 levels."""
    wide: list[object] = ["word"]
    for _ in range(40):
        wide = [wide] * 10
    round_about: list[object] = []
    round_about.append(round_about)
    deep: tuple[object, ...] = ()
    for _ in range(100_000):
        deep = (deep,)
    for value in (wide, round_about, deep, {"a": wide}):
        assert len(shown(value)) <= 120


def test_no_part_of_a_message_is_without_end_and_all_of_it_can_be_printed() -> None:
    error = InputError("w" * 10**6, where="p\ud800\x07" * 10**5, allowed=", ".join(["name"] * 10**5))
    assert len(str(error)) < 3100 and str(error).isprintable()
    assert str(error).startswith("www") and str(error).endswith("name)")


def test_a_fault_of_the_machine_is_bad_input_of_its_own_kind() -> None:
    assert issubclass(WriteError, InputError)
    assert printable("a é\n\ud800") == "a é\\n\\ud800"
