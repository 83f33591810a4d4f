"""The expression tree of an eligibility rule and its three-valued truth.

A comparison with an unknown value is unknown, and stays unknown through the expression unless the other
side decides it (Kleene's strong logic): ``unknown & false`` is false.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt

from fedsim.schema import CHANNELS, NETWORKS
from fedsim.traces.canonical import Int8Array
from fedsim.units import BoolArray

FALSE, UNKNOWN, TRUE = np.int8(0), np.int8(1), np.int8(2)  # and = min, or = max, not = 2 − x
ON_OFF = tuple(name for name in CHANNELS if name not in ("network", "battery"))
KEYWORDS = ("and", "or", "not", "in", "true")
WORD = re.compile(r"\w[\w.+-]*")
ORDER: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}

Values = npt.NDArray[Any]


def is_unknown(values: Values) -> BoolArray:
    """Where a fact or channel is unknown: None among words, NaN among numbers."""
    return np.isin(values, np.array([None])) if values.dtype == object else np.isnan(values)


@dataclass(frozen=True)
class Comparison:
    """One atom; ``values`` are numbers, network codes or model words, several of them only for ``in``."""

    name: str
    sign: str  # "==" with several values means "in"
    values: tuple[float, ...] | tuple[str, ...]

    def truth(self, values: Values) -> Int8Array:
        """Truth of the atom for known and unknown (NaN or None) values of its channel or fact."""
        if self.sign in ORDER:
            hit = ORDER[self.sign](values, self.values[0])
        else:
            hit = reduce(np.logical_or, [values == value for value in self.values])
            hit = ~hit if self.sign == "!=" else hit
        return np.where(is_unknown(values), UNKNOWN, np.where(hit, TRUE, FALSE))

    def __str__(self) -> str:
        if self.name in ON_OFF:
            return self.name
        words = [_show(self.name, value) for value in self.values]
        return f"{self.name} {self.sign} {words[0]}" if len(words) == 1 else f"{self.name} in {{{', '.join(words)}}}"


@dataclass(frozen=True)
class Not:
    """True where ``part`` is false."""

    part: Expression

    def __str__(self) -> str:
        return f"!({self.part})" if isinstance(self.part, And | Or) and self.part.parts else f"!{self.part}"


@dataclass(frozen=True)
class And:
    """True where every part is; without parts it is the constant ``true``."""

    parts: tuple[Expression, ...]

    def __str__(self) -> str:
        return " & ".join(f"({part})" if isinstance(part, Or) else str(part) for part in self.parts) or "true"


@dataclass(frozen=True)
class Or:
    """True where any part is."""

    parts: tuple[Expression, ...]

    def __str__(self) -> str:
        return " | ".join(str(part) for part in self.parts)


Expression = Comparison | Not | And | Or


def _show(name: str, value: float | str) -> str:
    if isinstance(value, str):
        is_bare = WORD.fullmatch(value) and value not in KEYWORDS
        return value if is_bare else f"'{value}'" if '"' in value else f'"{value}"'
    return NETWORKS[int(value)] if name == "network" else f"{value:g}"


def atoms(expression: Expression) -> Iterator[Comparison]:
    """Every comparison in the expression, from left to right."""
    if isinstance(expression, Comparison):
        yield expression
        return
    for part in (expression.part,) if isinstance(expression, Not) else expression.parts:
        yield from atoms(part)


def truth(expression: Expression, atom_truth: Callable[[Comparison], Int8Array]) -> Int8Array:
    """FALSE, UNKNOWN or TRUE per row, given the truth of each atom per row; a single value if there is no atom."""
    if isinstance(expression, Comparison):
        return atom_truth(expression)
    if isinstance(expression, Not):
        return np.asarray(TRUE - truth(expression.part, atom_truth))
    if not expression.parts:
        return np.asarray(TRUE)
    combine = np.minimum if isinstance(expression, And) else np.maximum
    return reduce(combine, [truth(part, atom_truth) for part in expression.parts])


def flat(kind: type[And] | type[Or], parts: list[Expression]) -> Expression:
    """One node for nested ``a & (b & c)``, so that equal rules have one canonical text."""
    inner = [p for part in parts for p in (part.parts if isinstance(part, kind) else (part,))]
    return inner[0] if len(inner) == 1 else kind(tuple(inner))
