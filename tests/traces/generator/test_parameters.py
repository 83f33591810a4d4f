"""The parameters' file: read back as written, and every wrong value named."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedsim.errors import InputError
from fedsim.traces.generator.parameters import LAWS, TRAITS, SynthesisParameters
from fedsim.traces.generator.synthesis import REFERENCE

Edit = Callable[[dict[str, Any]], object]


def contents() -> dict[str, Any]:
    value: dict[str, Any] = json.loads(REFERENCE.read_text(encoding="utf-8"))
    return value


def test_the_reference_file_reads_back_as_it_is_written(tmp_path: Path) -> None:
    parameters = SynthesisParameters.load(REFERENCE)
    parameters.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == REFERENCE.read_bytes()
    assert SynthesisParameters.load(tmp_path / "again.json") == parameters


def test_every_value_says_where_it_comes_from() -> None:
    parameters = SynthesisParameters.load(REFERENCE)
    described = [*parameters.traits.values(), *parameters.laws.values(), *parameters.hardware]
    assert all(part.source for part in described)
    own = set(parameters.sources)
    bare = set(contents()) - {"traits", "laws", "hardware", "sources"}
    assert own == bare
    assert len(described) == len(TRAITS) + len(LAWS) + len(parameters.hardware)


WRONG: dict[str, tuple[Edit, str]] = {
    "a trait is missing": (lambda v: v["traits"].pop("screen_fraction"), "traits has a missing or unknown name"),
    "an unknown law": (lambda v: v["laws"].update({"screen dim": v["laws"]["screen on"]}), "'screen dim'"),
    "an unknown radio": (lambda v: v["cellular_fractions"].update({"6g": 0.0}), "'6g'"),
    "a section is missing": (lambda v: v.pop("laws"), "lack: 'laws'"),
    "a field of a law is missing": (lambda v: v["laws"]["screen on"].pop("hour_factors"), "lack: 'hour_factors'"),
    "a fraction above 1": (
        lambda v: v["traits"]["wifi_fraction"]["quantiles"].__setitem__(10, 1.5),
        "traits.wifi_fraction.quantiles: 1.5",
    ),
    "a falling quantile": (
        lambda v: v["traits"]["charge_percent_per_h"]["quantiles"].__setitem__(0, 99.0),
        "traits.charge_percent_per_h.quantiles must not fall",
    ),
    "a falling stay": (
        lambda v: v["laws"]["wifi on"]["relative_duration_quantiles"].__setitem__(0, 50.0),
        "laws.wifi on.relative_duration_quantiles must not fall",
    ),
    "a stay of nothing": (
        lambda v: v["laws"]["wifi on"]["relative_duration_quantiles"].__setitem__(0, 0.0),
        "laws.wifi on.relative_duration_quantiles: 0.0",
    ),
    "a day of 23 hours": (lambda v: v["laws"]["screen on"]["hour_factors"].pop(), "has 23 values (allowed: 24)"),
    "a negative factor": (
        lambda v: v["laws"]["screen on"]["context_factors"]["charging"].__setitem__(1, -1.0),
        "laws.screen on.context_factors.charging: -1.0",
    ),
    "its own context": (
        lambda v: v["laws"]["screen on"]["context_factors"].update({"screen": [1.0, 1.0]}),
        "laws.screen on.context_factors",
    ),
    "radios that add up to more": (lambda v: v["cellular_fractions"].update({"4g": 1.0}), "must add up to 1"),
    "hardware that adds up to less": (
        lambda v: v["hardware"].pop(),
        "hardware.population_fraction must add up to 1",
    ),
    "a negative delay": (lambda v: v.update({"unlock_delay_s": -1.0}), "unlock_delay_s: -1.0"),
    "no battery step": (lambda v: v.update({"battery_step_percent": 0.0}), "battery_step_percent: 0.0"),
    "text for a number": (lambda v: v.update({"unlock_delay_s": "ten"}), "malformed"),
    "not a number": (lambda v: v.update({"unlock_delay_s": float("nan")}), "NaN is no JSON"),
    "a lopsided correlation": (
        lambda v: v["trait_correlation"][0].__setitem__(1, 0.9),
        "trait_correlation must be symmetric",
    ),
    "a small correlation": (lambda v: v["trait_correlation"].pop(), "trait_correlation has the wrong shape"),
    "an impossible correlation": (lambda v: _correlate(v, 0.99), "trait_correlation must be positive definite"),
}


def _correlate(value: dict[str, Any], size: float) -> None:
    """The first trait goes with the second and the third, which exclude each other."""
    for i, j, sign in ((0, 1, 1), (0, 2, 1), (1, 2, -1)):
        value["trait_correlation"][i][j] = value["trait_correlation"][j][i] = sign * size


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_file_is_one_line_that_names_file_and_field(case: str, tmp_path: Path) -> None:
    edit, message = WRONG[case]
    value = contents()
    edit(value)
    path = tmp_path / "wrong.json"
    path.write_text(json.dumps(value), encoding="utf-8")
    with pytest.raises(InputError) as caught:
        SynthesisParameters.load(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
