"""The queue of reports: against simulated queues, in parts as in one piece, and who waits when."""

from __future__ import annotations

import numpy as np
import pytest
import simpy
from hypothesis import given
from hypothesis import strategies as st

from fedsim.errors import InputError
from fedsim.server.aggregator import Aggregator, example_weights
from fedsim.units import FloatArray, on_clock
from tests.build import aggregator

GAPS = st.lists(st.integers(0, 8), min_size=1, max_size=40)  # whole seconds, so that reports tie


def queue_of_processes(arrivals: FloatArray, service_s: float, n_workers: int) -> tuple[list[float], list[float]]:
    """Start and end of service of each report, played with one process per report."""
    env = simpy.Environment()
    workers = simpy.Resource(env, capacity=n_workers)
    starts, ends = [0.0] * len(arrivals), [0.0] * len(arrivals)

    def report(i: int) -> simpy.events.ProcessGenerator:
        yield env.timeout(arrivals[i])
        with workers.request() as request:
            yield request
            starts[i] = env.now
            yield env.timeout(service_s)
            ends[i] = env.now

    for i in range(len(arrivals)):
        env.process(report(i))
    env.run()
    return starts, ends


@given(gaps=GAPS, service_s=st.integers(1, 20), n_workers=st.integers(1, 4), n_parts=st.integers(1, 5))
def test_serves_first_come_first_served(gaps: list[int], service_s: int, n_workers: int, n_parts: int) -> None:
    arrivals = np.cumsum(gaps).astype(np.float64)
    queue = aggregator(service_s, n_workers=n_workers).start()
    served = [queue.serve(part, 0) for part in np.array_split(arrivals, n_parts)]
    starts, ends = queue_of_processes(arrivals, service_s, n_workers)
    np.testing.assert_array_equal(np.concatenate([taken for taken, _ in served]), starts)
    np.testing.assert_array_equal(np.concatenate([done for _, done in served]), ends)


def test_lindley_recursion_with_one_worker() -> None:
    """Wₙ₊₁ = max(0, Wₙ + Sₙ − Aₙ), service times those of the exponential stream."""
    arrivals = on_clock(np.cumsum(np.random.default_rng(0).exponential(1.0, 500)))
    service_s = aggregator(0.9, service="exponential").start().serve(1e6 * np.arange(1, 501), 0)[1] - 1e6 * np.arange(
        1, 501
    )
    assert service_s.mean() == pytest.approx(0.9, rel=0.15)
    wait = 0.0
    expected = []
    for i in range(500):
        wait = max(0.0, wait + service_s[i - 1] - (arrivals[i] - arrivals[i - 1])) if i else 0.0
        expected.append(arrivals[i] + wait + service_s[i])
    _, done = aggregator(0.9, service="exponential").start().serve(arrivals, 0)
    np.testing.assert_allclose(done, expected, atol=1e-6)


def test_without_cost_reports_are_ingested_as_they_arrive() -> None:
    arrivals = np.array([1.0, 1.0, 2.5])
    queue = aggregator(0.0).start()
    for instants in queue.serve(arrivals, 1_000_000):
        np.testing.assert_array_equal(instants, arrivals)


def test_service_time_is_a_fixed_part_and_a_part_per_byte() -> None:
    queue = Aggregator(seed=0, n_workers=1, service_s=2.0, bytes_per_s=50.0, service="fixed").start()
    np.testing.assert_array_equal(queue.serve(np.array([10.0]), 100)[1], [14.0])  # 2 s + 100 B ÷ 50 B/s


def test_weights() -> None:
    n_examples = np.array([3, 1])
    np.testing.assert_array_equal(example_weights(n_examples, "examples"), [3.0, 1.0])
    np.testing.assert_array_equal(example_weights(n_examples, "uniform"), [1.0, 1.0])


@pytest.mark.parametrize(
    "changes",
    [{"n_workers": 0}, {"service_s": -1.0}, {"bytes_per_s": 0.0}, {"bytes_per_s": -5.0}, {"service": "constant"}],
)
def test_bad_input(changes: dict[str, object]) -> None:
    with pytest.raises(InputError, match=next(iter(changes))):
        aggregator(**changes)  # type: ignore[arg-type]


def test_bad_weighting() -> None:
    with pytest.raises(InputError, match="allowed: examples, uniform"):
        example_weights(np.array([1]), "votes")  # type: ignore[arg-type]
