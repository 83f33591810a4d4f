"""Steps and visits of local work, against going through the batches one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsim.data.passes import n_steps, n_visits
from fedsim.device.work import Work
from fedsim.training.local import NO_EXAMPLE, LocalWork


@given(
    n=st.integers(0, 40), epochs=st.integers(1, 4), batch_size=st.integers(1, 9), fixed=st.none() | st.integers(1, 17)
)
def test_as_many_as_when_they_are_counted(n: int, epochs: int, batch_size: int, fixed: int | None) -> None:
    batches = [min(batch_size, n - start) for start in range(0, n, batch_size)]
    taken = batches * epochs if fixed is None else (batches * fixed)[:fixed]
    plan = {"epochs": epochs, "batch_size": batch_size, "local_steps": fixed}
    assert n_steps(n, **plan) == len(taken)
    assert n_visits(n, **plan) == sum(taken)
    many = np.full(3, n)
    assert n_steps(many, **plan).tolist() == [len(taken)] * 3
    assert n_visits(many, **plan).tolist() == [sum(taken)] * 3


@pytest.mark.parametrize("local_steps", [1, 4, 7])
def test_a_fixed_number_of_steps_goes_through_the_batches_again_and_again(local_steps: int) -> None:
    """Clients of 3, 10 and 25 examples in batches of 4: one step, three and seven make a pass."""
    work = LocalWork(epochs=1, batch_size=4, local_steps=local_steps)
    sizes, seeds = np.array([3, 10, 25]), np.array([5, 6, 7], dtype=np.uint64)
    batches = work.batches(sizes, seeds)
    assert batches.shape == (3, local_steps, 4)
    visited = (batches != NO_EXAMPLE).sum(axis=(1, 2))
    assert visited.tolist() == work.n_visits(sizes).tolist()
    assert ((batches != NO_EXAMPLE).sum(axis=2) > 0).all()
    by_epochs = LocalWork(epochs=3, batch_size=4)
    first = by_epochs.batches(sizes[2:], seeds[2:])[0, :local_steps]
    np.testing.assert_array_equal(batches[2], first)  # whose pass is the longest takes them as they come


def test_devices_work_for_as_many_steps_as_clients_take() -> None:
    work = Work(download_bytes=0, upload_bytes=0, epochs=1, batch_size=4, local_steps=5)
    local, sizes = LocalWork(epochs=1, batch_size=4, local_steps=5), np.array([3, 10, 25])
    assert work.n_steps(sizes).tolist() == local.n_steps(sizes).tolist() == [5, 5, 5]
    assert work.n_visits(sizes).tolist() == local.n_visits(sizes).tolist() == [15, 18, 20]
