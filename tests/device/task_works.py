"""Tasks and phones for the tests of costs, with round numbers."""

from dataclasses import replace
from typing import Any

import numpy as np

from fedsim.cost.phones import PhoneClasses
from fedsim.cost.table import TaskWork
from fedsim.data.passes import Passes
from fedsim.device.work import Assets, Work
from fedsim.training.model_work import LayerWork, ModelWork

MODEL = ModelWork(
    name="Net-10",
    n_numbers=1000,
    depth=1,
    forward_flops=1e6,
    training_flops=2.5e6,
    lookup_bytes=200.0,
    trained_bytes=4000,
    layers=(LayerWork("Linear", 1e6, 50.0, 1000, 0),),
)
N_EXAMPLES = 25  # in batches of 10: 3 steps an epoch
WORK = Work(download_bytes=10_000, upload_bytes=4_000, passes=Passes(2, 10), assets=(Assets(20_000),))
PLAIN = TaskWork(
    work=WORK,
    training_flops=2.5e6,
    memory_bytes=100_000_000,
    storage_bytes=50_000,
    example_bytes=4.0,
)


def task(**changes: Any) -> TaskWork:
    return replace(PLAIN, work=replace(WORK, **changes))


def model(**changes: Any) -> ModelWork:
    return replace(MODEL, **changes)


def phones(**columns: Any) -> PhoneClasses:
    """Three phones A, B, C of 10, 20 and 40 ms; 1, 2 and 4 GB; shares 0.5, 0.3, 0.2."""
    base = {
        "models": ["A", "B", "C"],
        "share": np.array([0.5, 0.3, 0.2]),
        "latency_ms": np.array([10.0, 20.0, 40.0]),
        "ram_gb": np.array([1.0, 2.0, 4.0]),
        "bytes_per_s": np.full(3, np.nan),
        "compute_w": np.full(3, np.nan),
        "latency_source": [None] * 3,
    }
    return PhoneClasses(**{**base, **{name: np.array(values) for name, values in columns.items()}})
