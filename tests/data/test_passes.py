"""Steps and visits of local work, against going through the batches one by one."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsim.data.passes import Passes
from fedsim.device.work import Work
from fedsim.training.local import NO_EXAMPLE, LocalWork


@given(
    n=st.integers(0, 40),
    epochs=st.integers(1, 4) | st.sampled_from([0.3, 0.7, 1.5, 2.25]),
    batch_size=st.integers(1, 9),
    fixed=st.none() | st.integers(1, 17),
    max_steps=st.none() | st.integers(1, 9),
    max_examples=st.none() | st.integers(1, 30),
)
def test_as_many_as_when_they_are_counted(
    n: int, epochs: float, batch_size: int, fixed: int | None, max_steps: int | None, max_examples: int | None
) -> None:
    plan, n_used = Passes(epochs, batch_size, fixed, max_steps, max_examples), min(n, max_examples or n)
    batches = [min(batch_size, n_used - start) for start in range(0, n_used, batch_size)]
    n_steps = math.ceil(round(epochs * len(batches), 9)) if fixed is None else fixed
    taken = (batches * (n_steps + 1))[: min(n_steps, max_steps or n_steps)]
    many = np.full(3, n)
    assert plan.n_steps(many).tolist() == [len(taken)] * 3
    assert plan.n_visits(many).tolist() == [sum(taken)] * 3
    work = LocalWork(
        epochs=epochs, batch_size=batch_size, local_steps=fixed, max_steps=max_steps, max_examples=max_examples
    )
    if n:
        own = work.batches(many, np.arange(3, dtype=np.uint64))[1]
        sizes = (own != NO_EXAMPLE).sum(axis=1)
        assert sizes.tolist() == taken  # and each pass visits no example twice
        for start in range(0, len(taken), len(batches)):
            seen = own[start : start + len(batches)]
            seen = seen[seen != NO_EXAMPLE]
            assert len(set(seen.tolist())) == len(seen) and (seen < n).all()


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
    work = Work(download_bytes=0, upload_bytes=0, passes=Passes(1, 4, local_steps=5))
    local, sizes = LocalWork(epochs=1, batch_size=4, local_steps=5), np.array([3, 10, 25])
    assert work.n_steps(sizes).tolist() == local.n_steps(sizes).tolist() == [5, 5, 5]
    assert work.n_visits(sizes).tolist() == local.n_visits(sizes).tolist() == [15, 18, 20]
