import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsim.data.partition import dirichlet, iid, natural
from fedsim.errors import InputError


def test_natural_clients_are_numbered_by_their_id_and_keep_their_order() -> None:
    order, offsets = natural(np.array([30, 10, 30, 20, 10]))
    assert order.tolist() == [1, 4, 3, 0, 2]
    assert offsets.tolist() == [0, 2, 3, 5]


@given(st.integers(1, 50), st.integers(0, 100))
def test_iid_deals_every_example_once_and_evenly(n_clients: int, extra: int) -> None:
    order, offsets = iid(n_clients + extra, n_clients=n_clients, seed=3)
    assert sorted(order) == list(range(n_clients + extra))
    sizes = np.diff(offsets)
    assert sizes.max() - sizes.min() <= 1


def test_iid_shuffles_by_seed() -> None:
    assert iid(100, n_clients=5, seed=1)[0].tolist() != iid(100, n_clients=5, seed=2)[0].tolist()
    assert iid(100, n_clients=5, seed=1)[0].tolist() == iid(100, n_clients=5, seed=1)[0].tolist()


@given(
    labels=st.lists(st.integers(0, 4), min_size=1, max_size=80),
    alpha=st.sampled_from([1e-6, 1e-3, 0.1, 1.0, 100.0]),
    min_examples=st.integers(0, 3),
    share=st.floats(0.01, 1.0),
    seed=st.integers(0, 5),
)
def test_dirichlet_gives_every_example_once_and_enough_to_everyone(
    labels: list[int], alpha: float, min_examples: int, share: float, seed: int
) -> None:
    n_clients = max(1, int(share * len(labels) / max(min_examples, 1)))
    if n_clients * min_examples > len(labels):
        return
    order, offsets = dirichlet(np.array(labels), n_clients=n_clients, alpha=alpha, min_examples=min_examples, seed=seed)
    assert sorted(order) == list(range(len(labels)))
    assert len(offsets) == n_clients + 1
    assert np.diff(offsets).min() >= min_examples


def largest_share_of_a_class(alpha: float) -> float:
    """How much of a class its largest holder has, averaged over the classes."""
    labels = np.repeat(np.arange(10), 500)
    order, offsets = dirichlet(labels, n_clients=20, alpha=alpha, min_examples=0, seed=0)
    client = np.repeat(np.arange(20), np.diff(offsets))
    table = np.zeros((20, 10))
    np.add.at(table, (client, labels[order]), 1)
    return float((table.max(axis=0) / 500).mean())


def test_small_alpha_gives_classes_to_few_and_large_alpha_is_nearly_iid() -> None:
    assert largest_share_of_a_class(0.01) > 0.8
    assert 0.1 < largest_share_of_a_class(1.0) < 0.4
    assert largest_share_of_a_class(1000.0) < 0.08  # 1/20, with the noise of 500 draws


def test_dirichlet_shares_have_the_variance_of_the_law() -> None:
    alpha, n = 0.5, 4
    labels = np.repeat(np.arange(400), 200)
    order, offsets = dirichlet(labels, n_clients=n, alpha=alpha, min_examples=0, seed=0)
    share = np.bincount(labels[order[: offsets[1]]], minlength=400) / 200
    law = (1 / n) * (1 - 1 / n) / (n * alpha + 1)
    draws = law + ((1 / n) * (1 - 1 / n) - law) / 200
    assert share.mean() == pytest.approx(1 / n, abs=0.04)
    assert share.var() == pytest.approx(draws, rel=0.15)


def test_too_many_clients_or_no_skew_parameter_is_refused() -> None:
    with pytest.raises(InputError, match=r"n_clients of the partition: 4 \(allowed: 1 to 3 for 7"):
        dirichlet(np.zeros(7, dtype=np.int64), n_clients=4, alpha=1.0, min_examples=2, seed=0)
    with pytest.raises(InputError, match="n_clients of the partition: 0"):
        iid(7, n_clients=0, seed=0)
    for alpha in (0.0, -1.0, float("nan")):
        with pytest.raises(InputError, match="alpha of the Dirichlet partition"):
            dirichlet(np.zeros(7, dtype=np.int64), n_clients=2, alpha=alpha, min_examples=1, seed=0)
