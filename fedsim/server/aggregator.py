"""The aggregator: a queue of reports before *c* workers, and the weights of updates in a step."""

from __future__ import annotations

import heapq
from typing import Annotated, Literal

import numpy as np

from fedsim import rng
from fedsim.device.session import Sessions
from fedsim.errors import InputError
from fedsim.ranges import DurationS, Range, Rate, Seed
from fedsim.units import US_PER_S, FloatArray, IntArray, to_us

Service = Literal["fixed", "exponential"]
Weighting = Literal["examples", "uniform"]


class Aggregator:
    """First come, first served over ``n_workers``.

    Serving one report takes ``service_s + upload_bytes ÷ bytes_per_s`` (``bytes_per_s`` None: no cost per byte), as it
    is or as the mean of an exponential law.
    """

    def __init__(
        self,
        *,
        seed: Seed,
        n_workers: Annotated[int, Range(1, 1_000_000)],
        service_s: DurationS,
        bytes_per_s: Rate | None,
        service: Service,
    ) -> None:
        if n_workers < 1:
            raise InputError("server.aggregator.n_workers must be at least 1", value=n_workers)
        if service_s < 0 or (bytes_per_s is not None and bytes_per_s <= 0):
            raise InputError(
                "server.aggregator.service_s and bytes_per_s must be positive", value=(service_s, bytes_per_s)
            )
        if service not in ("fixed", "exponential"):
            raise InputError("server.aggregator.service is unknown", value=service, allowed="fixed, exponential")
        self.seed, self.n_workers, self.service = seed, n_workers, service
        self.service_s, self.bytes_per_s = service_s, bytes_per_s

    def start(self) -> Queue:
        """The queue at the start of a run: empty, all workers free."""
        return Queue(self)

    def service_times_s(self, numbers: IntArray, upload_bytes: int) -> FloatArray:
        """Seconds that serving takes for the reports of these numbers, ``float64[n]``."""
        mean_s = self.service_s + (upload_bytes / self.bytes_per_s if self.bytes_per_s else 0.0)
        if self.service == "fixed" or mean_s == 0.0:
            return np.full(len(numbers), mean_s)
        return mean_s * rng.exponential(self.seed, "aggregator/service", numbers)


class Queue:
    """The reports of one run before the workers of its aggregator."""

    def __init__(self, aggregator: Aggregator) -> None:
        self._aggregator = aggregator
        self._free_at_us = [0] * aggregator.n_workers
        self._n_served = 0

    def serve(self, arrivals: FloatArray, upload_bytes: int) -> tuple[FloatArray, FloatArray]:
        """Instants at which workers take reports and have ingested them; ``arrivals`` ascend, in and across calls."""
        numbers = np.arange(self._n_served, self._n_served + len(arrivals))
        self._n_served += len(arrivals)
        service_s = self._aggregator.service_times_s(numbers, upload_bytes)
        if not service_s.any():
            return arrivals, arrivals
        served = [
            self._serve_one(at, s) for at, s in zip(to_us(arrivals).tolist(), to_us(service_s).tolist(), strict=True)
        ]
        starts, done = np.array(served, dtype=np.int64).T / US_PER_S
        return starts, done

    def _serve_one(self, arrival_us: int, service_us: int) -> tuple[int, int]:
        # The earliest free worker takes the report (Kiefer and Wolfowitz 1955).
        start_us = max(arrival_us, self._free_at_us[0])
        heapq.heapreplace(self._free_at_us, start_us + service_us)
        return start_us, start_us + service_us


def visited_examples(rows: Sessions) -> FloatArray:
    """Examples of each report times the share of its planned local work that was done, in visits of examples.

    All of its examples where the work was not cut; of two phones with as many, one that did 3 of 10 equal steps counts
    3 ÷ 10 of the other. FedProx (Li et al. 2020) averages partial work as if it were whole, as ``uniform`` does.
    FedNova (Wang et al. 2020) divides each update by its steps besides, which is not done here.
    """
    examples: FloatArray = rows["n_examples"] * rows["trained_fraction"]
    return examples


def example_weights(n_examples: IntArray | FloatArray, weighting: Weighting) -> FloatArray:
    """Weight of each update before normalisation: its (visited) examples, or 1."""
    if weighting not in ("examples", "uniform"):
        raise InputError("server.weighting is unknown", value=weighting, allowed="examples, uniform")
    return n_examples.astype(np.float64) if weighting == "examples" else np.ones(len(n_examples))
