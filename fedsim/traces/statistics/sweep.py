"""Sweeps in eligibility rules: ``battery >= {20,40,60,80}`` stands for four rules."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import product
from operator import and_

from fedsim.errors import InputError
from fedsim.traces.rule import Rule

_QUOTED = r"""\"[^\"]*\"|'[^']*'"""
_SWEEP = re.compile(rf"(?P<quoted>{_QUOTED})|(?P<sign>[=!<>]=|[<>])\s*\{{(?P<values>(?:{_QUOTED}|[^{{}}\"'])*)\}}")
_COMMA = re.compile(rf",(?=(?:{_QUOTED}|[^\"'])*$)")  # outside quotes


@dataclass(frozen=True)
class Sweep:
    """Criteria as the user wrote them, sweeps written out.

    ``combinations`` are all criteria jointly, once for each choice of one value per sweep; empty without
    a sweep, or without a second criterion.
    """

    rules: list[Rule]
    combinations: list[Rule]


def expand(texts: Sequence[str]) -> Sweep:
    """Parse criteria that may hold sweeps: a comparison with values in braces, several of them multiply.

    Raises:
        InputError: a rule is wrong, or its sweep has no value.
    """
    criteria = [[Rule.parse(one) for one in _written_out(text)] for text in texts]
    rules = [rule for choices in criteria for rule in choices]
    is_sweep = 1 < len(criteria) < len(rules)
    return Sweep(rules, [reduce(and_, chosen) for chosen in product(*criteria)] if is_sweep else [])


def _written_out(text: str) -> list[str]:
    sweep = next((match for match in _SWEEP.finditer(text) if match["quoted"] is None), None)
    if sweep is None:
        return [text]
    before, after = text[: sweep.end("sign")], text[sweep.end() :]
    return [one for value in _values(sweep["values"], text) for one in _written_out(f"{before} {value}{after}")]


def _values(text: str, rule: str) -> list[str]:
    values = [value.strip() for value in _COMMA.split(text)]
    if not all(values):
        raise InputError("a sweep needs values between its commas", where=f"rule {rule!r}", allowed="{20, 40, 60}")
    return values
