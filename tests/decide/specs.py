"""A small specification whose runs take seconds, and what tests change of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

SMALL: dict[str, Any] = {
    "decision": {
        "id": "small",
        "question": "May this be trained on phones?",
        "owner": "tests",
        "decide_by": "2027-03-01",
    },
    "reasons": [{"kind": "privacy", "text": "clicks stay on phones", "evidence": "policy-7"}],
    "constraints": {
        "population": {"n_devices": 20_000},
        "criteria": ["charging & network == wifi & locked", "charging & network == wifi"],
    },
    "models": {"candidates": [{"config": "model=clicks"}], "limits": {"max_session_s": 240}},
    "data": {
        "config": "data=clicks data.n_clients=3000 data.n_held_out_clients=150",
        "kind": "synthetic",
        "central": {"epochs": 1, "learning_rate": 0.1, "batch_size": 32},
    },
    "training": {
        "arms": {"rounds": "server=sync server.report_goal=30 server.over_selection=1.3"},
        "common": "stop.max_steps=12 stop.max_s=43200 evaluation.every_steps=4 evaluation.n_group_devices=2000",
        "replications": {"first": 3, "at_most": 3},
    },
    "requirements": {
        "eligible": {"metric": "admitted_fraction.min_hour", "at_least": "1 %"},
        "feasible": {"metric": "models.feasible_share", "at_least": 0.5},
        "quality": {"metric": "auc", "compared_to": "central", "margin": 0.4},
        "reached": {"metric": "days_to.auc", "target": 0.5, "at_most": "11 h"},
        "dropout": {"metric": "dropout_fraction", "at_most": 0.3, "level": "should"},
    },
    "sensitivity": {"slow": {"override": "device.compute.time_factor", "values": [0.5, 3]}},
    "budget": {"cores": 1, "minutes": 30},
}


def changed(**sections: Any) -> dict[str, Any]:
    """The small specification with other sections; of a group key by key, None takes a key away."""
    return merged(SMALL, sections)


def merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    found = dict(below)
    for name, value in above.items():
        if isinstance(value, dict) and isinstance(found.get(name), dict):
            found[name] = merged(found[name], value)
        elif value is None:
            found.pop(name, None)
        else:
            found[name] = value
    return found


def written(folder: Path, told: dict[str, Any], name: str = "decision.yaml") -> Path:
    """The file of a specification."""
    path = folder / name
    path.write_text(yaml.safe_dump(told, sort_keys=False))
    return path
