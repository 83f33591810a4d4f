"""What the engine knows of training: promised updates go in, a new model version comes out. No torch here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from fedsim.rng import UintArray
from fedsim.units import FloatArray, IntArray


@dataclass(frozen=True)
class Updates:
    """Promised updates that the server aggregates now: columns of length n, in order of arrival.

    The new direction is Σ cᵢ Δᵢ with Δᵢ = local model − downloaded model.
    """

    client_ids: IntArray  # whose data
    versions: IntArray  # model version each one downloaded
    weights: FloatArray  # final coefficients cᵢ, already normalised by the server
    seeds: UintArray  # uint64, keys all randomness of that local work (shuffling, dropout)
    n_steps: IntArray | None = None  # local steps that each one did, the first of its plan; None: all of it
    since: FloatArray | None = None  # trained on what came after this instant …
    at: FloatArray | None = None  # … and up to this one; None: on all that the client has

    def __len__(self) -> int:
        return len(self.client_ids)

    def take(self, rows: IntArray) -> Updates:
        """The updates at these positions."""
        given: dict[str, Any] = {name: None if column is None else column[rows] for name, column in vars(self).items()}
        return Updates(**given)


class Measured(Protocol):
    """An evaluation from which metrics of some of the held-out examples can be told, too."""

    def values(self, rows: IntArray | None = None) -> dict[str, float]:
        """Each metric of all examples, or of these rows, which may be repeated; NaN where it is not defined."""


@runtime_checkable
class Saves(Protocol):
    """A trainer whose model can be kept in files."""

    def save(self, folder: Path, *, final: str = "final") -> None:
        """Write the newest version as ``<final>.safetensors``, and the best one evaluated as ``best.safetensors``."""


@dataclass(frozen=True)
class StepResult:
    """What one server step tells; None where nothing was trained.

    ``train_loss`` is the mean loss over all examples visited in local training, before each visit's
    step; ``update_norm`` is |Σ cᵢ Δᵢ|₂; ``losses`` float64[n] is each update's own mean.
    """

    train_loss: float | None
    update_norm: float | None
    losses: FloatArray | None


class Trainer(Protocol):
    """Realises promised updates, aggregates them and steps the server's optimiser.

    What the user should know before the run, a trainer may say in ``remarks``, a tuple of lines. One that can tell
    metrics by groups keeps the last evaluation as :class:`Measured` in ``measured``.
    """

    @property
    def is_training(self) -> bool:
        """Whether there is a model at all; without one results and metrics are empty."""

    @property
    def n_parameters(self) -> int:
        """Numbers (float32) that a device downloads and uploads."""

    @property
    def version(self) -> int:
        """The newest model version; 0 is the initial model."""

    def step(self, updates: Updates) -> StepResult:
        """Train what was promised, aggregate, step: the version goes up by one."""

    def evaluate(self) -> dict[str, float]:
        """Held-out metrics of the newest version; empty when nothing is trained."""


class NullTrainer:
    """``training=none``: the same schedule, no tensors. ``n_parameters`` says how large the model would be."""

    is_training = False

    def __init__(self, *, n_parameters: int) -> None:
        self.n_parameters = n_parameters
        self.version = 0

    def step(self, updates: Updates) -> StepResult:
        """Count the version up."""
        self.version += 1
        return StepResult(train_loss=None, update_norm=None, losses=None)

    def evaluate(self) -> dict[str, float]:
        """Nothing to measure."""
        return {}
