import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsim.errors import InputError
from fedsim.training.algorithm.sgd import LocalSgd


def seeds(n: int, first: int = 0) -> np.ndarray:
    return np.arange(first, first + n, dtype=np.uint64)


def test_steps_are_epochs_times_batches() -> None:
    local = LocalSgd(learning_rate=0.1, epochs=3, batch_size=4)
    assert local.n_steps(np.array([1, 4, 5, 8, 9])).tolist() == [3, 3, 6, 6, 9]


@given(
    sizes=st.lists(st.integers(1, 17), min_size=1, max_size=6),
    epochs=st.integers(1, 3),
    batch_size=st.integers(1, 9),
)
def test_every_epoch_visits_every_example_once_in_full_batches(sizes: list[int], epochs: int, batch_size: int) -> None:
    local = LocalSgd(learning_rate=0.1, epochs=epochs, batch_size=batch_size)
    n_examples = np.array(sizes)
    plan = local.batches(n_examples, seeds(len(sizes)))
    assert plan.shape == (len(sizes), local.n_steps(n_examples).max(), batch_size)
    for client, size in zip(plan, sizes, strict=True):
        for epoch in np.split(client, epochs):
            flat = epoch.reshape(-1)
            assert sorted(flat[:size]) == list(range(size))
            assert (flat[size:] == -1).all()


def test_batches_of_a_client_do_not_depend_on_its_company() -> None:
    local = LocalSgd(learning_rate=0.1, epochs=2, batch_size=4)
    together = local.batches(np.array([6, 30, 6]), seeds(3))
    alone = local.batches(np.array([6]), seeds(1))[0]
    batches = [batch for batch in together[0] if (batch >= 0).any()]
    assert np.array_equal(batches, alone)


def test_order_depends_on_seed_and_epoch() -> None:
    local = LocalSgd(learning_rate=0.1, epochs=2, batch_size=50)
    plan = local.batches(np.array([50, 50]), seeds(2))
    orders = {tuple(epoch) for client in plan for epoch in client}
    assert len(orders) == 4


def test_shuffle_has_no_favourite_place() -> None:
    plan = LocalSgd(learning_rate=0.1, epochs=1, batch_size=5).batches(np.full(20_000, 5), seeds(20_000))
    share = np.stack([np.bincount(place, minlength=5) for place in plan[:, 0].T]) / 20_000
    assert np.abs(share - 0.2).max() < 0.015


@pytest.mark.parametrize("name", ["learning_rate", "epochs", "batch_size"])
def test_numbers_must_be_positive(name: str) -> None:
    with pytest.raises(InputError, match=f"{name} of the local work: 0"):
        LocalSgd(**{"learning_rate": 0.1, "epochs": 1, "batch_size": 1} | {name: 0})  # type: ignore[arg-type]


@pytest.mark.parametrize("local_steps", [None, 1, 2, 3, 7])
@pytest.mark.parametrize("batch_size", [1, 2, 3, 5])
def test_a_batch_of_one_is_foretold(batch_size: int, local_steps: int | None) -> None:
    work = LocalSgd(learning_rate=0.1, epochs=2, batch_size=batch_size, local_steps=local_steps)
    n_examples = np.arange(1, 14)
    planned = (work.batches(n_examples, n_examples.astype(np.uint64)) >= 0).sum(axis=2)
    assert work.has_batch_of_one(n_examples).tolist() == (planned == 1).any(axis=1).tolist()
    assert not work.has_batch_of_one(np.zeros(1, dtype=np.int64)).any()


@pytest.mark.parametrize("plan", [{"epochs": 2}, {"epochs": 1.5}, {"epochs": 1, "local_steps": 7}])
def test_a_cut_client_does_the_first_steps_of_its_plan(plan: dict[str, float]) -> None:
    """In company and alone, and however many steps the others do."""
    local = LocalSgd(learning_rate=0.1, batch_size=4, **plan)  # type: ignore[arg-type]
    n_examples = np.array([9, 30, 4])
    whole = local.n_steps(n_examples)
    for n_steps in (np.array([1, 5, 2]), np.array([4, 1, 1]), whole):
        together = local.batches(n_examples, seeds(3), n_steps)
        for i, n in enumerate(n_steps):
            own = local.batches(n_examples[i : i + 1], seeds(1, first=i))[0]
            done = [batch.tolist() for batch in together[i] if (batch >= 0).any()]
            assert done == own[:n].tolist()
        visits = (together >= 0).sum(axis=(1, 2))
        assert local.n_visits(n_examples, n_steps).tolist() == visits.tolist()


def test_whole_work_is_laid_out_as_if_nothing_was_said_of_steps() -> None:
    local, n_examples = LocalSgd(learning_rate=0.1, epochs=2, batch_size=4), np.array([9, 30, 4])
    said = local.batches(n_examples, seeds(3), local.n_steps(n_examples))
    assert np.array_equal(said, local.batches(n_examples, seeds(3)))
