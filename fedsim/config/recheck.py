"""Playing a baseline's own configuration again, with its own seeds, as many as it takes."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fedsim.config.compose import composed
from fedsim.config.play import simulate
from fedsim.errors import InputError
from fedsim.results.arms import flat_values
from fedsim.results.regress.baseline import Baseline
from fedsim.results.regress.check import MOST_SEEDS, Check, judged
from fedsim.results.regress.configuration import require_same
from fedsim.results.run import Run
from fedsim.results.runs import Runs

FIRST_SEEDS = 3
Tell = Callable[[str], None]


def defaults_of(baseline: Baseline) -> dict[str, Any]:
    """Today's values of what the baseline asked for, as dotted keys."""
    values = composed(baseline.overrides)
    return flat_values(values, seed=values["seed"])


def check_of(baseline: Baseline, runs: Runs, tell: Tell, *, may_grow: bool = False) -> Check:
    """Runs of its configuration against the baseline; those of seeds that it lacks are left out, which is told.

    Raises :class:`InputError` for runs of several configurations, of another one, and if no seed is in common.
    """
    if len(runs.arms) > 1:
        labels = "; ".join(arm.label for arm in runs.arms)
        raise InputError("runs of several configurations cannot be checked against one baseline", value=labels)
    (arm,) = runs.arms
    require_same(baseline, arm, defaults_of(baseline))
    common = [run for run in arm.runs if run.summary["seed"] in baseline.seeds]
    if not common:
        raise InputError("the baseline has no run of these seeds", value=arm.seeds, allowed=baseline.seeds)
    if len(common) < len(arm.runs):
        tell(f"the baseline has no run of seeds {sorted(set(arm.seeds) - set(baseline.seeds))}: they are left out")
    return judged(baseline, common, may_grow=may_grow)


def played_check(baseline: Baseline, folder: Path, tell: Tell) -> Check:
    """Play the first three seeds of the baseline, and more of them, up to ten, as long as it is not decided.

    The runs go to sub-folders of ``folder``. What a simulation warns of is told once.
    """
    told, runs, most = set[str](), list[Run](), min(MOST_SEEDS, len(baseline.runs))
    n = min(FIRST_SEEDS, most)
    while True:
        runs += [_played(baseline, seed, folder, told) for seed in baseline.seeds[len(runs) : n]]
        check = check_of(baseline, Runs(runs), tell, may_grow=n < most)
        if check.status in ("held", "regressed") or n == most:
            break
        n = most if check.status == "draws changed" else min(2 * n, most)
    for line in sorted(told):
        tell(line)
    return check


def _played(baseline: Baseline, seed: int, folder: Path, told: set[str]) -> Run:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run = simulate(*baseline.overrides, f"seed={seed}", folder=folder / str(seed))
    told |= {str(each.message) for each in caught}
    return run
