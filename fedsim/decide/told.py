"""``verdict.json``: what a machine reads of a decision. Numbers have six digits, so that two machines write alike."""

from __future__ import annotations

import math
from datetime import date, timedelta
from typing import Any

from fedsim.decide.campaign import Tried
from fedsim.decide.decision import Decision
from fedsim.decide.sensitivity import Effect
from fedsim.plan.judge import Judged
from fedsim.provenance import commit

SCHEMA = "fedsim.verdict/1"
_AREAS = ("privacy", "security", "infrastructure", "client performance")


def told(decision: Decision) -> dict[str, Any]:
    """The verdict as JSON; null is what is not known, or not finite."""
    ruling, spec = decision.ruling, decision.spec
    if ruling is None:
        raise ValueError("a verdict is told of a ruling")
    found = decision.sensitivity
    best = ruling.proposal.candidate
    verdict: dict[str, Any] = rounded(
        {
            "schema": SCHEMA,
            "id": spec.decision.id,
            "verdict": ruling.verdict,
            "sentence": ruling.sentence,
            "valid_until": valid_until(decision),
            "spec_sha256": spec.sha256,
            "commit": commit(),
            "confidence": spec.confidence,
            "n_runs": sum(len(each.facts) for each in decision.tried),
            "budget": {"minutes": spec.budget.minutes, "complete": not (found is None or found.not_run)},
            "proposal": {
                "criterion": best.rule, "model": best.model, "arm": best.arm, "overrides": list(best.words),
            },
            "requirements": [_requirement(each, decision) for each in ruling.proposal.judged],
            "conditions": [_condition(each) for each in ruling.conditions],
            "levers": [_lever(each) for each in (found.levers if found is not None else ())],
            "candidates": [_candidate(each) for each in decision.tried],
            "assumed": [{"key": a.key, "value": a.value, "source": a.source} for a in decision.assumed],
            "not_run": [*decision.not_evaluated, *(found.not_run if found is not None else ())],
            "sign_offs": [{"area": area, "by": None} for area in _AREAS],
        }
    )  # fmt: skip
    return verdict


def valid_until(decision: Decision) -> str | None:
    """So many days after the date of the decision."""
    by = decision.spec.decision.decide_by
    if by is None:
        return None
    return (date.fromisoformat(str(by)) + timedelta(days=decision.spec.decision.valid_days)).isoformat()


def _requirement(judged: Judged, decision: Decision) -> dict[str, Any]:
    asked = judged.requirement
    runs = [] if decision.ruling is None else [each["run"] for each in decision.ruling.proposal.facts if each]
    return {
        "name": asked.name, "metric": asked.metric, "level": asked.level, "limit": asked.limit,
        "direction": "at_least" if asked.is_floor else "at_most", "compared_to": asked.compared_to,
        "target": None if asked.target is None else str(asked.target), "estimate": judged.estimate,
        "interval": None if judged.is_fixed else [judged.low, judged.high], "n": judged.n, "state": judged.state,
        "room_half_widths": None if math.isinf(judged.room) else judged.room, "binding": judged.is_binding,
        "stage": asked.about.stage, "note": judged.note, "unit": asked.about.unit,
        "runs": [] if judged.is_fixed or not judged.n else runs,
    }  # fmt: skip


def _condition(effect: Effect) -> dict[str, Any]:
    return {
        "assumption": effect.name, "key": effect.key, "base": effect.base, "value": effect.value,
        "switching_value": effect.switching, "requirement": effect.after.requirement.name, "turns": effect.turns,
    }  # fmt: skip


def _lever(effect: Effect) -> dict[str, Any]:
    return {
        "change": f"{effect.key}={effect.value}", "requirement": effect.after.requirement.name,
        "effect": effect.after.estimate - effect.before.estimate,
        "reaches_limit": effect.after.requirement.is_met(effect.after.estimate), "state": effect.after.state,
    }  # fmt: skip


def _candidate(tried: Tried) -> dict[str, Any]:
    each = tried.candidate
    return {
        "criterion": each.rule, "model": each.model, "arm": each.arm, "n_seeds": len(tried.facts),
        "not_run": tried.failure, "states": {j.requirement.name: j.state for j in tried.judged},
    }  # fmt: skip


def rounded(value: Any) -> Any:
    """The value with numbers of six significant digits; what is not finite becomes null."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value
