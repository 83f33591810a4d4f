"""Parameters of the trace generator: what they are, where each comes from, and their JSON file.

Four on/off processes make a phone's day: it is on a *charger*, in reach of *wifi* that it uses, using
*cellular* data where it has no wifi, and its *screen* is on. Each is a semi-Markov process; a `Law` says
how long one of its two states lasts. A `Trait` says how a property differs from phone to phone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np

from fedsim.errors import InputError
from fedsim.files import read_json, write_json
from fedsim.units import FloatArray

PROCESSES = ("charging", "wifi", "cellular", "screen")
LAWS = tuple(f"{process} {state}" for process in PROCESSES for state in ("off", "on"))
TRAITS = (
    "charge_margin",  # what the charger could give / what the phone uses, both %: sets the fraction of time charging
    "charging_sessions_per_day",
    *(f"{process}_{what}" for process in PROCESSES[1:] for what in ("fraction", "sessions_per_day")),
    "lock_fraction",  # probability that the keyguard closes when the screen goes off
    "unlock_fraction",  # probability that it opens once the screen is on
    "idle_discharge_percent_per_h",  # screen off
    "active_discharge_percent_per_h",  # screen on
    "charge_percent_per_h",
)
CELLULAR = ("2g", "3g", "4g")
LEVEL_EDGES = (0.0, 15.0, 30.0, 50.0, 80.0, 100.0)  # battery bands of a law's `level_factors`
TRAIT_PROBABILITIES = (0.01, 0.05, 0.15, 0.25, 0.35, 0.5, 0.65, 0.75, 0.85, 0.95, 0.99)
TRAIT_Z = tuple(NormalDist().inv_cdf(p) for p in TRAIT_PROBABILITIES)
DURATION_PROBABILITIES = (0.0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999, 1.0)

_HIGHEST = {"_margin": 100.0, "_fraction": 1.0, "_per_day": 10_000.0, "_percent_per_h": 1000.0}


@dataclass(frozen=True)
class Trait:
    """A property of a phone: its quantiles over phones at `TRAIT_PROBABILITIES`, in the unit of its name."""

    quantiles: tuple[float, ...]
    source: str


@dataclass(frozen=True)
class Law:
    """How long one state of one process lasts, and what makes it end sooner.

    The stay is drawn in *operational* time, which runs faster than the wall clock by the product of the
    factors that hold at the moment. Its quantiles at `DURATION_PROBABILITIES` are relative to the phone's
    own mean stay, which follows from the phone's fraction and sessions per day.
    """

    relative_duration_quantiles: tuple[float, ...]
    hour_factors: tuple[float, ...]  # by hour of local day, 24
    context_factors: Mapping[str, tuple[float, float]]  # other process -> factor while it is off, on
    level_factors: tuple[float, ...]  # by battery band, 5
    source: str


@dataclass(frozen=True)
class HardwareClass:
    """A share of the phones with the same facts."""

    model: str
    population_fraction: float
    ram_gb: float
    os_version: float
    source: str


@dataclass(frozen=True)
class SynthesisParameters:
    """Everything `fedsim.traces.generator.synthesis.synthesize` needs to know about a population of phones."""

    traits: Mapping[str, Trait]
    trait_correlation: tuple[tuple[float, ...], ...]  # of the traits' normal scores, in the order of `TRAITS`
    laws: Mapping[str, Law]
    cellular_fractions: Mapping[str, float]  # share of cellular sessions by radio type
    top_charge_factor: float  # charging speed in the top band, relative to below
    unlock_delay_s: float  # from screen on to unlocked
    wake_lock_fraction: float  # probability that a phone left unlocked is found locked when its screen comes on ...
    wake_lock_after_s: float  # ... after at least this long off
    battery_step_percent: float  # a battery event is written each time a multiple is crossed
    hardware: tuple[HardwareClass, ...]
    sources: Mapping[str, str]  # of the values that are not in a `Trait`, `Law` or `HardwareClass`

    def __post_init__(self) -> None:
        _check(self)

    @classmethod
    def load(cls, path: Path | str) -> SynthesisParameters:
        """Read a file that `save` wrote; errors name the file and the field."""
        value = read_json(path, "synthesis parameters")
        try:
            return cls(
                traits={name: Trait(tuple(t["quantiles"]), t["source"]) for name, t in value["traits"].items()},
                trait_correlation=tuple(tuple(row) for row in value["trait_correlation"]),
                laws={name: _law(law) for name, law in value["laws"].items()},
                cellular_fractions=value["cellular_fractions"],
                top_charge_factor=value["top_charge_factor"],
                unlock_delay_s=value["unlock_delay_s"],
                wake_lock_fraction=value["wake_lock_fraction"],
                wake_lock_after_s=value["wake_lock_after_s"],
                battery_step_percent=value["battery_step_percent"],
                hardware=tuple(HardwareClass(**row) for row in value["hardware"]),
                sources=value["sources"],
            )
        except KeyError as error:
            raise InputError("synthesis parameters lack", value=error.args[0], where=path) from error
        except (TypeError, AttributeError, ValueError) as error:
            raise InputError(f"synthesis parameters are malformed ({error})", where=path) from error
        except InputError as error:
            raise InputError(str(error), where=path) from error

    def save(self, path: Path | str) -> None:
        """Write the parameters as JSON with sorted keys."""
        write_json(Path(path), self.as_json())

    def as_json(self) -> dict[str, Any]:
        """The parameters as plain JSON values."""
        return asdict(self)


def _law(value: Mapping[str, Any]) -> Law:
    return Law(
        relative_duration_quantiles=tuple(value["relative_duration_quantiles"]),
        hour_factors=tuple(value["hour_factors"]),
        context_factors={name: tuple(pair) for name, pair in value["context_factors"].items()},
        level_factors=tuple(value["level_factors"]),
        source=value["source"],
    )


def _check(parameters: SynthesisParameters) -> None:
    _check_names("traits", parameters.traits, TRAITS)
    _check_names("laws", parameters.laws, LAWS)
    _check_names("cellular_fractions", parameters.cellular_fractions, CELLULAR)
    for name, trait in parameters.traits.items():
        highest = next(value for suffix, value in _HIGHEST.items() if name.endswith(suffix))
        _check_numbers(f"traits.{name}.quantiles", trait.quantiles, n=len(TRAIT_PROBABILITIES), highest=highest)
        _check_rising(f"traits.{name}.quantiles", trait.quantiles)
    for name, law in parameters.laws.items():
        _check_law(f"laws.{name}", name, law)
    _check_numbers("top_charge_factor", (parameters.top_charge_factor,), n=1, lowest=0.01, highest=1.0)
    _check_numbers("unlock_delay_s", (parameters.unlock_delay_s,), n=1)
    _check_numbers("wake_lock_fraction", (parameters.wake_lock_fraction,), n=1, highest=1.0)
    _check_numbers("wake_lock_after_s", (parameters.wake_lock_after_s,), n=1)
    _check_numbers("battery_step_percent", (parameters.battery_step_percent,), n=1, lowest=0.01, highest=100.0)
    _check_sum("cellular_fractions", tuple(parameters.cellular_fractions.values()))
    _check_sum("hardware.population_fraction", tuple(h.population_fraction for h in parameters.hardware))
    _check_correlation(np.array(parameters.trait_correlation, dtype=np.float64))


def _check_law(where: str, name: str, law: Law) -> None:
    durations = law.relative_duration_quantiles
    _check_numbers(f"{where}.relative_duration_quantiles", durations, n=len(DURATION_PROBABILITIES), lowest=1e-9)
    _check_rising(f"{where}.relative_duration_quantiles", durations)
    _check_numbers(f"{where}.hour_factors", law.hour_factors, n=24, lowest=1e-3)
    _check_numbers(f"{where}.level_factors", law.level_factors, n=len(LEVEL_EDGES) - 1, lowest=1e-3)
    others = tuple(process for process in PROCESSES if not name.startswith(process))
    _check_names(f"{where}.context_factors", law.context_factors, others)
    for other, pair in law.context_factors.items():
        _check_numbers(f"{where}.context_factors.{other}", pair, n=2, lowest=1e-3)


def _check_names(where: str, given: Mapping[str, Any], wanted: tuple[str, ...]) -> None:
    if set(given) != set(wanted):
        odd = sorted(set(given) ^ set(wanted))
        raise InputError(f"{where} has a missing or unknown name", value=odd[0], allowed=", ".join(wanted))


def _check_numbers(where: str, values: tuple[float, ...], *, n: int, lowest: float = 0.0, highest: float = 1e9) -> None:
    if len(values) != n:
        raise InputError(f"{where} has {len(values)} values", allowed=n)
    for value in values:
        if not lowest <= value <= highest:
            raise InputError(where, value=value, allowed=f"{lowest:g} … {highest:g}")


def _check_rising(where: str, values: tuple[float, ...]) -> None:
    if any(after < before for before, after in pairwise(values)):
        raise InputError(f"{where} must not fall", value=values)


def _check_sum(where: str, values: tuple[float, ...]) -> None:
    _check_numbers(where, values, n=len(values), highest=1.0)
    if abs(sum(values) - 1.0) > 1e-6:
        raise InputError(f"{where} must add up to 1", value=sum(values))


def _check_correlation(matrix: FloatArray) -> None:
    n = len(TRAITS)
    if matrix.shape != (n, n):
        raise InputError("trait_correlation has the wrong shape", value=matrix.shape, allowed=(n, n))
    if not (np.allclose(matrix, matrix.T) and np.allclose(np.diag(matrix), 1.0)):
        raise InputError("trait_correlation must be symmetric with ones on its diagonal")
    if np.linalg.eigvalsh(matrix)[0] < 0:
        raise InputError("trait_correlation must be positive definite", value=float(np.linalg.eigvalsh(matrix)[0]))
