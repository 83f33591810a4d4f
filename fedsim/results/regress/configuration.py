"""Whether runs are of the configuration that a baseline was recorded of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fedsim.errors import InputError
from fedsim.results.arms import FOLLOWS, Arm
from fedsim.results.regress.baseline import Baseline, config_of, content_of

_MISSING = object()
_MOST_TOLD = 5  # differences


def require_same(baseline: Baseline, arm: Arm, defaults: Mapping[str, Any]) -> None:
    """Refuse runs of another configuration, or on other traces or data.

    ``defaults`` are today's values of what the baseline asked for: a key that the baseline does not know is no
    difference where it stands at its default, nor is one that is known no more.

    Raises:
        InputError: naming what differs, with both values.
    """
    differing = differences(baseline.config, _seen_from(baseline, arm), defaults)
    content = content_of(arm)
    differing += [
        f"{name.removesuffix('_sha256')}: other content"
        for name, value in baseline.content.items()
        if value is not None and content.get(name) not in (value, None)
    ]
    if differing:
        told = "; ".join(differing[:_MOST_TOLD])
        more = f"; and {len(differing) - _MOST_TOLD} more" if len(differing) > _MOST_TOLD else ""
        raise InputError(
            f"another configuration than the baseline's ({told}{more})", allowed="record a baseline of this one"
        )


def _seen_from(baseline: Baseline, arm: Arm) -> dict[str, Any]:
    """The arm's values; of one run alone a part's seed that equals the run's may be the baseline's by itself."""
    seed = arm.seeds[0]
    return {
        key: seed if value == FOLLOWS and len(arm.seeds) == 1 and baseline.config.get(key) == seed else value
        for key, value in config_of(arm).items()
    }


def differences(then: Mapping[str, Any], now: Mapping[str, Any], defaults: Mapping[str, Any]) -> list[str]:
    """``key: value then, value now`` for each that differs."""
    found = []
    for key in sorted({*then, *now}):
        before, after = then.get(key, _MISSING), now.get(key, _MISSING)
        if _same(before, after):
            continue
        if before is _MISSING and key in defaults and _same(defaults[key], after):
            continue
        if after is _MISSING and key not in defaults:
            continue
        found.append(f"{key}: {_shown(before)} in the baseline, {_shown(after)} now")
    return found


def _same(one: Any, other: Any) -> bool:
    """Equal as a file would hold them."""
    return one is other or (_MISSING not in (one, other) and _plain(one) == _plain(other))


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))


def _shown(value: Any) -> str:
    return "not there" if value is _MISSING else json.dumps(value, default=str)
