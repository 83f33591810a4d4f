"""One requirement: a quantity, a direction, a limit; read from a specification, and what seeds say of it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fedsim.config.build import build
from fedsim.config.lines import shown
from fedsim.errors import InputError
from fedsim.plan.quantities import DAYS_TO, Quantity, is_lower_better, quantity
from fedsim.plan.words import amount_of
from fedsim.ranges import Range

Level = Literal["must", "should"]
CENTRAL = "central"
_ANY = Annotated[float, Range(-1e15, 1e15)]
# What a limit may be written in, by the unit of its quantity, and how many of that unit one is.
_UNITS: dict[str, dict[str, float]] = {
    "days": {"d": 1, "day": 1, "days": 1, "h": 1 / 24, "weeks": 7, "week": 7},
    "h": {"h": 1, "d": 24, "days": 24},
    "fraction": {"%": 0.01},
    "%": {"%": 1},
    "bytes": {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9},
    "bytes/s": {"B/s": 1, "kB/s": 1e3, "MB/s": 1e6, "GB/s": 1e9},
    "1/s": {"1/s": 1},
    "USD": {"USD": 1, "$": 1},
    "kWh": {"kWh": 1, "MWh": 1e3},
    "kg": {"kg": 1, "t": 1e3},
    "count": {},
    "number": {},
}


@dataclass(frozen=True)
class Target:
    """The value of a metric at which it counts as reached: a number, or so much above or below the central model."""

    value: float
    is_from_central: bool

    def of(self, central: float | None) -> float:
        """The value, NaN where it is told from a central model that there is not."""
        if not self.is_from_central:
            return self.value
        return math.nan if central is None else central + self.value

    def __str__(self) -> str:
        if not self.is_from_central:
            return f"{self.value:g}"
        return f"central {'+' if self.value >= 0 else '−'} {abs(self.value):g}"


@dataclass(frozen=True)
class Requirement:
    """What is asked of a quantity.

    With ``compared_to`` the quantity is the difference, seed by seed, from the central model's (``central``) or from
    another quantity of the run, and ``limit`` the margin with its sign: not worse by more than that.
    """

    name: str
    metric: str
    about: Quantity
    is_floor: bool  # at least the limit; else at most
    limit: float
    level: Level
    why: str
    compared_to: str | None = None
    target: Target | None = None

    @property
    def is_duration_to(self) -> bool:
        """Whether it is the time until a metric reaches its target, which a run may not see."""
        return self.metric.startswith(DAYS_TO)

    @property
    def measured(self) -> str:
        """The metric behind ``days_to.METRIC``."""
        return self.metric.removeprefix(DAYS_TO)

    def is_met(self, value: float) -> bool:
        """Whether a value is on the good side of the limit."""
        return value >= self.limit if self.is_floor else value <= self.limit

    @property
    def needed(self) -> str:
        """``at most 14 days``, ``auc not below central by more than 0.015``."""
        limit = amount_of(abs(self.limit) if self.compared_to else self.limit, self.about.unit)
        if self.compared_to is not None:
            side = "below" if self.is_floor else "above"
            return f"not {side} {self.compared_to.replace('_', ' ')} by more than {limit}"
        to = f", to {self.measured} {self.target}" if self.target is not None else ""
        return f"{'at least' if self.is_floor else 'at most'} {limit}{to}"


@dataclass(frozen=True)
class _Written:
    """A requirement as it stands in the file."""

    metric: str
    level: Level = "must"
    at_least: float | str | None = None
    at_most: float | str | None = None
    compared_to: str | None = None
    margin: Annotated[float, Range(0, 1e15)] | None = None
    target: float | str | None = None
    why: str = ""


def requirements_of(
    told: Mapping[str, Any], metrics: tuple[str, ...], *, has_central: bool, where: str = "requirements"
) -> tuple[Requirement, ...]:
    """The requirements of a group of a specification, where runs evaluate these metrics."""
    if not told:
        raise InputError(f"{where} are none", allowed="NAME: {metric: …, at_most: …}")
    return tuple(_of(name, value, metrics, has_central, f"{where}.{name}") for name, value in told.items())


def _of(name: str, value: Any, metrics: tuple[str, ...], has_central: bool, where: str) -> Requirement:
    written: _Written = build(value, where, target=_Written)
    about = quantity(written.metric, metrics)
    if about is None:
        known = f"those of --metrics; METRIC of {', '.join(metrics) or 'none: nothing is trained'}"
        raise InputError(f"{where}.metric is unknown", value=written.metric, allowed=known)
    if written.compared_to is not None:
        return _compared(name, written, about, metrics, has_central, where)
    if written.margin is not None:
        raise InputError(f"{where}.margin needs compared_to", value=written.margin, allowed="compared_to: central")
    limits = [each for each in (written.at_least, written.at_most) if each is not None]
    if len(limits) != 1:
        raise InputError(f"{where} needs a limit", value=len(limits), allowed="at_least or at_most, one of them")
    is_floor = written.at_least is not None
    key = f"{where}.{'at_least' if is_floor else 'at_most'}"
    return Requirement(
        name, written.metric, about, is_floor, amount_in(about.unit, limits[0], key), written.level, written.why,
        target=_target(written, has_central, where),
    )  # fmt: skip


def _compared(
    name: str, written: _Written, about: Quantity, metrics: tuple[str, ...], has_central: bool, where: str
) -> Requirement:
    other = str(written.compared_to)
    if other == CENTRAL and written.metric not in metrics:
        raise InputError(f"{where}.metric has no central value", value=written.metric, allowed=", ".join(metrics))
    if other == CENTRAL and not has_central:
        raise InputError(f"{where}.compared_to", value=CENTRAL, allowed="a central model: data.central with epochs")
    if other != CENTRAL and quantity(other, metrics) is None:
        raise InputError(f"{where}.compared_to is unknown", value=other, allowed=", ".join((CENTRAL, *metrics)))
    if written.margin is None or written.at_least is not None or written.at_most is not None:
        raise InputError(f"{where} compares, and needs a margin alone", value=written.margin, allowed="margin: NUMBER")
    is_floor = not is_lower_better(written.metric.partition(".")[0])
    limit = -written.margin if is_floor else written.margin
    return Requirement(name, written.metric, about, is_floor, limit, written.level, written.why, compared_to=other)


def _target(written: _Written, has_central: bool, where: str) -> Target | None:
    if not written.metric.startswith(DAYS_TO):
        if written.target is not None:
            raise InputError(f"{where}.target", value=written.target, allowed=f"with metric {DAYS_TO}METRIC alone")
        return None
    text = str(written.target).strip()
    found = re.fullmatch(rf"({CENTRAL})?\s*(?:([+-])\s*)?(\d[\d_]*(?:\.\d*)?|\.\d+)?", text)
    if written.target is None or not found or not (found[1] or found[3]) or (found[1] and found[3] and not found[2]):
        raise InputError(f"{where}.target", value=written.target, allowed="a number, or central - NUMBER")
    if found[1] and not has_central:
        raise InputError(f"{where}.target", value=text, allowed="a central model: data.central with epochs")
    number = float(found[3] or 0) * (-1 if found[2] == "-" else 1)
    return Target(number, found[1] is not None)


def amount_in(unit: str, value: float | str, where: str) -> float:
    """A limit in a unit, from a number of that unit or a text with a unit of its kind (``36 h``, ``1 %``)."""
    if isinstance(value, int | float):
        return float(value)
    found = re.fullmatch(r"(-?\d[\d_]*(?:\.\d+)?)\s*(\S+)", value.strip())
    known = _UNITS[unit]
    if not found or found[2] not in known:
        allowed = " or ".join(
            [f"a number of {unit}" if unit != "number" else "a number", *(f"NUMBER {u}" for u in known)]
        )
        raise InputError(f"{where} is in another unit", value=shown(value), allowed=allowed)
    return float(found[1].replace("_", "")) * known[found[2]]


def names(requirements: Sequence[Requirement], level: Level) -> list[str]:
    """Names of those of a level."""
    return [each.name for each in requirements if each.level == level]
