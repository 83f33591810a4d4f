"""The schema of the whole configuration: what it refuses before anything is built, and in what words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from fedsim.config.build import build, fits
from fedsim.config.roles import AGGREGATOR, HOLDERS, named
from fedsim.config.schema import check_configuration
from fedsim.config.trainer import build_module
from fedsim.errors import InputError
from fedsim.ranges import Count, DeviceCount, Positive, Range, Share01
from tests.smoke import composed


@lru_cache
def _shipped() -> dict[str, Any]:
    return composed([])


def shipped_with(key: str, value: object) -> dict[str, Any]:
    """The shipped configuration with one value set, or taken away (``...``)."""
    values = inner = deepcopy(_shipped())
    *groups, name = key.split(".")
    for group in groups:
        inner = inner[group]
    inner[name] = value
    if value is ...:
        del inner[name]
    return values


def refused(key: str, value: object) -> str:
    """The one line in which a value is refused."""
    with pytest.raises(InputError) as caught:
        check_configuration(shipped_with(key, value))
    message = str(caught.value)
    assert "\n" not in message and len(message) < 1000
    return message


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("gauge_interval", "gauge_interval_s"),
        ("stop.max_step", "max_steps"),
        ("device.battery.capacity", "capacity_wh"),
        ("fleet.n_device", "n_devices"),
        ("fleet.regions.utc.utc_offset", "utc_offset_hours"),
        ("model.plan_byte", "plan_bytes"),
        ("traces.mixtures", "mixture"),
        ("cost.limits.max_ram", "max_ram_fraction"),
        ("training.central.epoch", "epochs"),
        ("training.backends", "backend"),
        ("features.catalog", "catalogue"),
        ("data.n_client", "n_clients"),
        ("fleet.seed", None),
        ("model.whatever", None),
        ("x", None),
    ],
)
def test_an_unknown_key_is_refused_wherever_it_stands(key: str, meant: str | None) -> None:
    message = refused(key, 5)
    assert message.startswith(f"unknown key: '{key}' (allowed: ")
    assert message.endswith(f"; did you mean {meant}?)") or (meant is None and "did you" not in message)


def test_what_a_module_takes_may_stand_beside_for_others_to_refer_to() -> None:
    check_configuration(shipped_with("model.n_inputs", 64))


@pytest.mark.parametrize("group", ["traces", "fleet", "device", "holders", "server", "data", "model", "stop"])
@pytest.mark.parametrize("value", [5, None, "abc", [], [1]])
def test_a_group_is_a_group(group: str, value: object) -> None:
    assert refused(group, value).startswith(f"{group} must be a group of values")


@pytest.mark.parametrize("value", ["5", "null", "true"])
def test_hydras_own_words_for_a_group_that_is_none_are_a_line(value: str) -> None:
    with pytest.raises(InputError, match=r"^Config group override must be"):
        composed([f"traces={value}"])


@pytest.mark.parametrize(
    "key",
    [
        "seed", "gauge_interval_s", "stop", "stop.max_s", "traces", "traces.mixture", "fleet.rule", "fleet.regions",
        "fleet.hardware", "fleet.n_devices", "device.battery", "device.battery.capacity_wh", "server.selector",
        "server.deadline_s", "model.module", "model.plan_bytes", "training.local", "training.loss", "holders._target_",
        "evaluation.every_s", "features.catalogue", "cost.network", "device.compute.session_sigma",
    ],
)  # fmt: skip
def test_what_is_missing_is_named(key: str) -> None:
    assert refused(key, ...).startswith(f"{key} must be given")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), 1e308, -1, "abc", [], True, 10**400])
@pytest.mark.parametrize("key", ["stop.max_s", "device.network.connect_s", "device.energy.send_w", "fleet.n_devices"])
def test_numbers_are_numbers_in_their_range(key: str, value: object) -> None:
    assert refused(key, value).startswith(key)


def test_gauges_are_not_sampled_for_ever() -> None:
    assert "gauge_interval_s" in refused("gauge_interval_s", 1e-9)
    assert "gauge_interval_s is short for stop.max_s: 0.1" in refused("gauge_interval_s", 0.1)
    check_configuration(shipped_with("stop.max_s", 60) | {"gauge_interval_s": 0.1})


@pytest.mark.parametrize(
    "target", ["os.system", "subprocess.run", "builtins.eval", "shutil.rmtree", "hydra.utils.call"]
)
@pytest.mark.parametrize("key", ["holders", "server", "data", "training.local", "device.compute", "fleet.hardware"])
def test_nothing_of_pythons_own_library_is_called(key: str, target: str) -> None:
    assert refused(f"{key}._target_", target) == (
        f"{key}._target_ is not for a configuration to call: '{target}' "
        "(allowed: classes of fedsim, of torch or of your own)"
    )


@pytest.mark.parametrize("target", ["fedsim.files.Path", "fedsim.files.shutil.rmtree", "fedsim.files", "a b", "", "."])
def test_no_detour_leads_there_either(target: str) -> None:
    with pytest.raises(InputError):
        named(target, "holders")


@pytest.mark.parametrize(
    ("key", "target", "role"),
    [
        ("holders", "fedsim.server.aggregator.Aggregator", "holders"),
        ("server", "fedsim.device.energy.Energy", "coordinator"),
        ("server.aggregator", "fedsim.device.holders.RandomHolders", "aggregator"),
        ("device.network", "fedsim.device.compute.FixedCompute", "network"),
        ("data", "fedsim.errors.InputError", "data set"),
        ("training.local", "fedsim.training.trainer.NullTrainer", "local work"),
        ("training", "fedsim.config.build.build", "trainer"),
    ],
)
def test_a_class_fits_its_place(key: str, target: str, role: str) -> None:
    assert refused(f"{key}._target_", target).startswith(f"{key} is no {role}: '{target}' (allowed: a class")


class Holders:
    """Everyone is the first client."""

    def __init__(self, *, shift: float = 0.0) -> None:
        self.shift = shift

    def client_of(self, ids: object) -> object:
        return ids


def holders_of(*, shift: float) -> Holders:
    return Holders(shift=shift)


def unsaid(*, shift: float):  # type: ignore[no-untyped-def]
    return Holders(shift=shift)


def anything(**more: object) -> Holders:
    return Holders(shift=len(more))


def test_a_function_that_says_what_it_makes_may_be_named() -> None:
    here = __name__
    assert build({"_target_": f"{here}.holders_of", "shift": 2}, "holders", role=HOLDERS).shift == 2
    assert build({"_target_": f"{here}.anything", "a": 1, "b": 2}, "holders", role=HOLDERS).shift == 2
    with pytest.raises(InputError, match=r"holders is no holders: '.*unsaid'"):
        build({"_target_": f"{here}.unsaid", "shift": 2}, "holders", role=HOLDERS)
    with pytest.raises(InputError, match="holders is no aggregator"):
        build({"_target_": f"{here}.holders_of", "shift": 2}, "holders", role=AGGREGATOR)


@pytest.mark.parametrize(
    ("module", "says"),
    [
        ({"_target_": "os.system", "command": "true"}, "model.module._target_ is not for a configuration to call"),
        (
            {"_target_": "torch.nn.Sequential", "_args_": [{"_target_": "builtins.eval", "_args_": ["1"]}]},
            "builtins.eval",
        ),
        ({"_target_": "hydra.utils.call", "config": {"_target_": "os.getcwd"}}, "hydra.utils.call"),
        ({"_target_": "torch.manual_seed", "seed": 3}, "model.module is no torch module: 'torch.manual_seed'"),
        ({"_target_": "torch.nn"}, "model.module"),
        ({"_target_": 5}, "model.module"),
    ],
)
def test_modules_are_of_torch_or_ones_own(module: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        build_module(module)


def test_a_module_is_looked_at_even_if_nothing_is_trained() -> None:
    assert "os.system" in refused(
        "model.module", {"_target_": "torch.nn.Sequential", "_args_": [{"_target_": "os.system"}]}
    )


@pytest.mark.parametrize(
    ("override", "instead"),
    [
        ("device.network.down_bytes_per_s.2g=5", r"device\.network\.down_bytes_per_s=\{2g: 5\}: "),
        ("+device.energy.send_w.5g=5", r"\+device\.energy\.send_w=\{5g: 5\}: "),
        ("a.2g.b=5", r"a=\{2g: \{b: 5\}\}: "),
    ],
)
def test_a_key_that_begins_with_a_digit_is_told_its_braces(override: str, instead: str) -> None:
    with pytest.raises(InputError, match=instead):
        composed([override])


def test_the_braces_change_one_rate_and_keep_the_others() -> None:
    rates = composed(["device.network.down_bytes_per_s={2g: 5}"])["device"]["network"]["down_bytes_per_s"]
    assert (rates["2g"], rates["3g"]) == (5, 102000)


@pytest.mark.parametrize("override", ["seed=${nope}", "stop=${stop}", "~seed", "seed=${oc.env:NO_SUCH}", "seed='a"])
def test_what_hydra_cannot_resolve_is_a_line(override: str) -> None:
    with pytest.raises(InputError) as caught:
        composed([override])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["x" * 5000, "a\0b", "\ud800"])
def test_texts_fit_into_a_line(text: str) -> None:
    refused("paths.datasets", text)
    refused("training.metrics", ["x"] * 1000)
    refused("device.network.rtt_s", {1: 2})
    refused(text, 5)


@pytest.mark.parametrize(
    ("value", "hint", "is_fit"),
    [
        (5, float, True),
        (True, float, False),
        (float("nan"), float, False),
        (10**400, float, False),
        (2**63, int, False),
        (2**62, DeviceCount, True),
        (2**62 + 1, DeviceCount, False),
        (0.0, Share01, True),
        (1.5, Share01 | None, False),
        (None, Share01 | None, True),
        (0, Annotated[float, Range(0, 1, is_low_open=True)], False),
        (1, Annotated[float, Range(0, 1, is_high_open=True)], False),
        ({"a": 0.0}, Mapping[str, Positive], False),
        ([1, 0], Sequence[Count], False),
        ("x", Literal["x"], True),
        ([], Literal["x"], False),
        (5, Path | str | Callable[..., int], False),
        ({}, Holders | None, True),
    ],
)
def test_values_fit_annotations(value: object, hint: Any, is_fit: bool) -> None:
    assert fits(value, hint) is is_fit


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (Range(0, 1), "0 … 1"),
        (Range(0, 1, is_low_open=True), "0 < … ≤ 1"),
        (Range(0, 1, is_high_open=True), "0 ≤ … < 1"),
        (Range(1e-3, 604_800), "0.001 … 604800"),
    ],
)
def test_ranges_tell_their_ends(given: Range, text: str) -> None:
    assert str(given) == text


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("fleet.n_device=4", "unknown key: 'fleet.n_device' (allowed: did you mean fleet.n_devices?)"),
        ("sever=sync", "unknown key: 'sever' (allowed: did you mean server?)"),
        ("qqqqq=1", "unknown key: 'qqqqq'"),
        (
            "fleet.regions={a: {share: 1.0}}",
            "a value with new names: 'fleet.regions' (allowed: +fleet.regions={…} adds them to those there)",
        ),
    ],
)
def test_a_key_that_is_set_without_being_there(override: str, line: str) -> None:
    with pytest.raises(InputError) as refused:
        composed([override])
    assert str(refused.value) == line


def test_a_key_of_another_option_is_unknown_here() -> None:
    with pytest.raises(InputError) as refused:
        composed(["training/local=adam", "training.local.momentum=0.3"])
    assert str(refused.value) == "unknown key: 'training.local.momentum'"
