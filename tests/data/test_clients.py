import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsim.data.clients import ArrayClients, PooledClients, client_of, positions_in_runs
from fedsim.data.partition import ends
from fedsim.errors import InputError


def three_clients() -> ArrayClients:
    """Client 0 holds examples 4 and 0, client 1 holds 2, client 2 holds 1, 3 and 5; x = 10 × example."""
    x = 10.0 * np.arange(6, dtype=np.float32)[:, None]
    order, offsets = np.array([4, 0, 2, 1, 3, 5]), np.array([0, 2, 3, 6])
    return ArrayClients(x, np.arange(6), order=order, offsets=offsets, held_out=(x[:1], np.array([7])))


def test_clients_are_fetched_in_the_order_asked() -> None:
    examples = three_clients().fetch(np.array([2, 0, 2]))
    assert examples.y.tolist() == [1, 3, 5, 4, 0, 1, 3, 5]
    assert examples.x[:, 0].tolist() == [10, 30, 50, 40, 0, 10, 30, 50]
    assert examples.offsets.tolist() == [0, 3, 5, 8]
    assert examples.n_examples.tolist() == [3, 2, 3]


def test_client_sizes_are_known_without_fetching() -> None:
    assert three_clients().n_examples(np.array([1, 2, 0])).tolist() == [1, 3, 2]


@pytest.mark.parametrize("wrong", [3, -1])
def test_unknown_client_is_refused(wrong: int) -> None:
    with pytest.raises(InputError, match=r"no such client: (3|-1) \(allowed: 0 to 2\)"):
        three_clients().fetch(np.array([0, wrong]))


def test_hash_of_the_data_sees_every_array() -> None:
    x, y = np.zeros((2, 3)), np.array([0, 1])
    order, offsets = np.array([0, 1]), np.array([0, 1, 2])
    hashes = {
        ArrayClients(x, y, order=order, offsets=offsets, held_out=(x, y)).sha256(),
        ArrayClients(x + 1, y, order=order, offsets=offsets, held_out=(x, y)).sha256(),
        ArrayClients(x, 1 - y, order=order, offsets=offsets, held_out=(x, y)).sha256(),
        ArrayClients(x, y, order=order, offsets=np.array([0, 0, 2]), held_out=(x, y)).sha256(),
        ArrayClients(x, y, order=order, offsets=offsets, held_out=(x, 1 - y)).sha256(),
    }
    assert len(hashes) == 5


def test_pool_is_one_client_with_every_example_once() -> None:
    pool = PooledClients(three_clients())
    assert pool.n_clients == 1
    assert sorted(pool.fetch(np.array([0])).y) == list(range(6))
    assert pool.held_out()[1].tolist() == [7]


def test_pool_of_a_billion_clients_is_refused() -> None:
    class Crowd(ArrayClients):
        n_clients = 10**9  # type: ignore[assignment]

    crowd = Crowd(np.zeros(1), np.zeros(1), order=np.array([0]), offsets=np.array([0, 1]), held_out=(0, 0))
    with pytest.raises(InputError, match="too many clients to pool: 1000000000"):
        PooledClients(crowd)


def test_client_of_a_device_depends_on_the_device_alone() -> None:
    devices = np.array([5, 10**9, 3, 5])
    clients = client_of(devices, n_clients=100, seed=1)
    assert clients[0] == clients[3]
    assert clients.tolist() == [int(client_of(np.array([d]), n_clients=100, seed=1)[0]) for d in devices]


def test_devices_spread_evenly_over_clients_and_differently_for_another_seed() -> None:
    clients = client_of(np.arange(100_000), n_clients=10, seed=1)
    assert np.abs(np.bincount(clients, minlength=10) / 100_000 - 0.1).max() < 0.005
    assert (clients == client_of(np.arange(100_000), n_clients=10, seed=2)).mean() < 0.11


@given(st.lists(st.integers(0, 5)))
def test_runs_are_counted_as_by_hand(lengths: list[int]) -> None:
    expected = [position for length in lengths for position in range(length)]
    assert positions_in_runs(np.array(lengths, dtype=np.int64)).tolist() == expected
    assert ends(np.array(lengths, dtype=np.int64)).tolist() == [sum(lengths[:i]) for i in range(len(lengths) + 1)]
