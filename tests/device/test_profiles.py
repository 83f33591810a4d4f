"""Fits of step times: exact where the law is exact, and as good as stated on phones that were held out."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsim.device.profiles import TERMS, fit_device, fit_steps, layer_terms, model_terms
from fedsim.errors import InputError
from fedsim.schema import PROFILES


def rows(op: str, sizes: list[tuple[int, int, int, int | None]]) -> pa.Table:
    named = [dict(zip(("in_size", "out_size", "batch_size", "seq_len"), size, strict=True)) for size in sizes]
    steps = [{"device": "A", "op": op, "kind": "train_step", "step_s": 1.0} | row for row in named]
    return pa.Table.from_pylist(steps, PROFILES.arrow())


@pytest.mark.parametrize(
    ("op", "size", "expected"),
    [
        ("output", (3, 5, 2, None), (1, 2 * 2 * 15, 2 * 5, 15, 0)),
        ("output", (3, 5, 2, 7), (1, 2 * 14 * 15, 14 * 5, 15, 0)),
        ("embedding", (100, 5, 2, 7), (1, 0, 14 * 5, 500, 0)),
        ("lstm", (3, 5, 2, 7), (1, 2 * 14 * 4 * 5 * 8, 14 * 5, 4 * 5 * 8, 7)),
        ("gru", (3, 5, 2, 7), (1, 2 * 14 * 3 * 5 * 8, 14 * 5, 3 * 5 * 8, 7)),
    ],
)
def test_the_work_of_a_timed_layer(op: str, size: tuple[int, int, int, int | None], expected: tuple[int, ...]) -> None:
    assert layer_terms(rows(op, [size]), op).tolist() == [list(map(float, expected))]


def test_the_work_of_a_timed_model() -> None:
    assert model_terms(rows("m", [(1, 1, 8, None)]), flops_per_example=5.0).tolist() == [[1, 40, 0, 0, 0]]


@given(st.lists(st.sampled_from([0.0, 1e-9, 1e-6, 1e-3]), min_size=5, max_size=5).filter(any))
def test_an_exact_law_is_found_again(unit_s: list[float]) -> None:
    grid = [(i, o, b, t) for i in (10, 300, 900) for o in (20, 500) for b in (1, 32) for t in (2, 5, 10)]
    terms = layer_terms(rows("lstm", grid), "lstm")
    step_s = terms @ np.array(unit_s)
    assert terms @ fit_steps(terms, step_s, what="lstm") == pytest.approx(step_s, rel=1e-6)


def test_no_coefficient_is_negative_and_small_steps_count_like_large_ones() -> None:
    terms = np.zeros((4, len(TERMS)))
    terms[:, 0], terms[:, 1] = 1, (1, 2, 1000, 2000)
    falling = fit_steps(terms[:2], np.array([2.0, 1.0]), what="x")
    assert (falling >= 0).all()
    bent = fit_steps(terms, np.array([1.0, 1.0, 2.0, 3.0]), what="x")
    assert terms[0] @ bent == pytest.approx(1.0, rel=0.02)


def test_one_size_tells_no_fixed_cost() -> None:
    with pytest.raises(InputError, match="lstm on A was timed in one size only"):
        fit_device(rows("lstm", [(3, 5, 2, 7)] * 4), "A", "lstm")
    assert fit_device(rows("lstm", [(3, 5, 2, 7)]), "B", "lstm") is None


@pytest.mark.parametrize(("op", "median_error"), [("output", 0.06), ("embedding", 0.17), ("lstm", 0.25)])
def test_held_out_sizes_of_real_phones(shared_data: Path, op: str, median_error: float) -> None:
    """Half of FLASH's timed sizes foretell the other half on all three phones (Yang et al. 2021)."""
    table = pq.read_table(shared_data / "raw" / "flash" / "on_device_layer_train_time.parquet")
    for device in ("nexus6", "redmi_note8", "sumsung_note10"):
        of_device = table.filter(pc.and_(pc.equal(table.column("device"), device), pc.equal(table.column("layer"), op)))
        terms, step_s = layer_terms(of_device, op), of_device.column("train_time_s").to_numpy()
        is_train = np.random.default_rng(0).random(len(step_s)) < 0.5
        unit_s = fit_steps(terms[is_train], step_s[is_train], what=op)
        error = np.abs(terms[~is_train] @ unit_s / step_s[~is_train] - 1)
        assert np.median(error) < median_error
