"""What all simulators play: devices, windows and rules; usage: inputs.py INPUTS.json.

Arms whose name ends in ``_floats`` have arbitrary speeds; in all others each phase of a session takes whole
milliseconds. An arm of APPFL names compute factors and Mbit/s, one of FedScale ms per sample and kbit/s.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

import shelf

Arm = dict[str, Any]

APPFL_MODEL_BYTES = 400_000  # 3.2 Mbit
FEDSCALE_MODEL_KBIT = 32_000.0  # of 1024 bits, as FedScale counts
TRANSFER_S = [1.0, 1.25, 1.6, 2.0, 2.5, 3.2, 4.0, 5.0, 6.25, 8.0, 10.0, 12.5, 16.0]  # one way; divides both sizes


def appfl(draw: random.Random, n: int, *, is_whole: bool = True, **rules: Any) -> Arm:
    """``n`` devices of which a training step takes a quarter of a second × their factor; four steps a session."""
    if is_whole:
        factors = [draw.randrange(1000, 20000) / 1000 for _ in range(n)]
        mbit_per_s = [3.2 / draw.choice(TRANSFER_S) for _ in range(n)]
    else:
        factors = [draw.uniform(1.0, 20.0) for _ in range(n)]
        mbit_per_s = [draw.uniform(0.2, 3.2) for _ in range(n)]
    devices = [{"factor": f, "mbit_per_s": m} for f, m in zip(factors, mbit_per_s, strict=True)]
    values = {"peer": "appfl", "devices": devices, "model_bytes": APPFL_MODEL_BYTES, "step_s": 0.25, "local_steps": 4}
    return values | rules


def fedscale(draw: random.Random, n: int, *, is_whole: bool = True, **rules: Any) -> Arm:
    """``n`` devices that train five batches of four samples, and windows of some minutes; the trace wraps."""
    if is_whole:
        ms = [float(draw.randrange(17, 200)) for _ in range(n)]
        kbit_per_s = [FEDSCALE_MODEL_KBIT / draw.choice(TRANSFER_S) for _ in range(n)]
    else:
        ms = [draw.uniform(17.0, 200.0) for _ in range(n)]
        kbit_per_s = [draw.uniform(2_000.0, 32_000.0) for _ in range(n)]
    devices = [{"ms_per_sample": m, "kbit_per_s": k} for m, k in zip(ms, kbit_per_s, strict=True)]
    values = {"peer": "fedscale", "devices": devices, "model_kbit": FEDSCALE_MODEL_KBIT}
    return values | {"batch_size": 4, "local_steps": 5, "traces": [trace(draw) for _ in range(n)]} | rules


def trace(draw: random.Random) -> Arm:
    """Windows of 100 to 400 s with pauses of 40 to 150 s; the last pause lies before the wrap."""
    active, inactive, at = [], [], max(0, draw.randrange(-60, 40))
    for _ in range(draw.randrange(3, 6)):
        active.append(at)
        inactive.append(at + draw.randrange(100, 400))
        at = inactive[-1] + draw.randrange(40, 150)
    return windows(active, inactive, finish=at)


def windows(active: list[int], inactive: list[int], *, finish: int) -> Arm:
    """A trace as FedScale keeps it."""
    length = sum(end - start for start, end in zip(active, inactive, strict=True))
    return {"duration": length, "active": active, "inactive": inactive, "finish_time": finish, "model": "any"}


def hand_made_round() -> Arm:
    """Two rounds of five devices, goal 3, in which sessions end at bounds of windows.

    Sessions take 8, 10, 10, 12.25 and 9 s. Device 1's window ends exactly at 10 s: it counts. Device 2's ended at 9 s:
    lost. Device 4's ended at 5 s, and another began at 9: it counts. So 8, 9 and 10 s close the first round, and
    device 3 is a straggler. At 10 s device 1 is still eligible, and asked again; it is lost then. The second round
    closes with the last of the three others, at 22.25 s.
    """
    train_s, transfer_s = (6.0, 6.0, 3.0, 2.25, 3.0), (1.0, 2.0, 3.5, 5.0, 3.0)
    devices = [
        {"ms_per_sample": t / 0.06, "kbit_per_s": FEDSCALE_MODEL_KBIT / s}
        for t, s in zip(train_s, transfer_s, strict=True)
    ]
    long = windows([0], [400], finish=500)
    traces = [
        long,
        windows([0], [10], finish=500),
        windows([0], [9], finish=500),
        long,
        windows([0, 9], [5, 300], finish=500),
    ]
    return {
        "peer": "fedscale",
        "kind": "rounds",
        "devices": devices,
        "model_kbit": FEDSCALE_MODEL_KBIT,
        "batch_size": 4,
        "local_steps": 5,
        "traces": traces,
        "goal": 3,
        "cohort": 5,
        "n_rounds": 2,
    }


def asked_at(some: Arm, *, is_often: bool = False) -> list[float]:
    """Every bound of a trace, a millisecond before and after it, and between, for two periods and a half.

    FedScale keeps a cursor that each question moves on by at most one window. Asked once in the pause before the wrap
    it finds the first window again; asked often it does not.
    """
    last, period = some["inactive"][-1], some["finish_time"]
    bounds = sorted(some["active"] + some["inactive"])
    steps = {b + d for b in bounds for d in (-0.001, 0.0, 0.001, 7.25)}
    if not is_often:
        steps = {step for step in steps if 0 <= step <= last + 0.001}
    return sorted(at for at in {step + wrap * period for step in steps for wrap in range(3)} if 0 <= at < 2.5 * period)


def arms() -> dict[str, Arm]:
    """All arms by name."""
    draw = random.Random(20261126)
    queries = fedscale(draw, 12, kind="windows")
    queries["asked_at"] = [asked_at(some) for some in queries["traces"]]
    often = queries | {"asked_at": [asked_at(some, is_often=True) for some in queries["traces"]]}
    to_the_end = windows([0, 300], [200, 500], finish=500)  # its cursor never comes back from the last window
    stuck = {"traces": [to_the_end], "devices": queries["devices"][:1], "asked_at": [asked_at(to_the_end)]}
    always = windows([0], [1_000_000], finish=1_000_000)
    buffered = {"kind": "async", "in_flight": 8, "seed": 5}
    rounds = {"kind": "rounds", "seed": 7, "mode": "count", "max_wait_s": None, "window_s": None}
    return {
        "appfl_fedasync": appfl(draw, 14, **buffered, buffer_size=1, n_updates=120),
        "appfl_fedbuff": appfl(draw, 14, **buffered, buffer_size=3, n_updates=150),
        "appfl_fedbuff_floats": appfl(draw, 14, is_whole=False, **buffered, buffer_size=3, n_updates=150),
        "appfl_count": appfl(draw, 14, **rounds, cohort=9, goal=6, n_rounds=25),
        "appfl_count_floats": appfl(draw, 14, is_whole=False, **rounds, cohort=9, goal=6, n_rounds=25),
        "appfl_deadline": appfl(draw, 14, **rounds | {"max_wait_s": 19.0}, cohort=9, goal=6, n_rounds=15),
        "appfl_window": appfl(draw, 14, **rounds | {"mode": "window", "window_s": 21.0}, cohort=9, goal=4, n_rounds=15),
        "fedscale_windows": queries,
        "fedscale_windows_asked_often": often,
        "fedscale_windows_to_the_end": queries | stuck,
        "fedscale_hand_made": hand_made_round(),
        "fedscale_rounds": fedscale(draw, 16, kind="rounds", goal=5, cohort=7, n_rounds=60),
        "fedscale_rounds_floats": fedscale(draw, 16, is_whole=False, kind="rounds", goal=5, cohort=7, n_rounds=60),
        "fedscale_async": fedscale(
            draw, 14, kind="async", buffer_size=4, in_flight=6, n_rounds=40, traces=[always] * 14
        ),
        "fedscale_short_rounds": fedscale(draw, 12, kind="rounds", goal=8, cohort=8, n_rounds=40),
    }


if __name__ == "__main__":
    shelf.save(Path(sys.argv[1]), arms())
