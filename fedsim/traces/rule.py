"""The eligibility rule language: ``charging & network == wifi & locked``, ``screen & battery >= 80``.

Grammar, loosest binding first (``|`` may be written ``∨`` or ``or``, ``&`` ``∧`` or ``and``, ``!`` ``¬`` or ``not``)::

    rule       = term { "|" term }
    term       = factor { "&" factor }
    factor     = "!" factor | "(" rule ")" | "true" | comparison
    comparison = on-off channel
               | (battery, ram_gb or os_version) ("==" | "!=" | "<" | "<=" | ">" | ">=") number
               | (network or model) (("==" | "!=") word | "in" "{" word { "," word } "}")
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn, Self

import numpy as np

from fedsim.errors import InputError
from fedsim.schema import CHANNELS, NETWORKS
from fedsim.traces.canonical import FACTS, NETWORK_CODE, Int8Array
from fedsim.traces.expression import ON_OFF, ORDER, WORD, And, Comparison, Expression, Not, Or, atoms, flat, truth

_WORDED = ("network", "model")
_EQUALITY = ("==", "!=")
_SYNONYMS = {"∧": "&", "and": "&", "∨": "|", "or": "|", "¬": "!", "not": "!"}
_NUMBER = re.compile(r"\d+(\.\d+)?")
_TOKEN = re.compile(
    rf"""(?P<quoted>"[^"]*"|'[^']*')|(?P<sign>==|!=|<=|>=|[<>&|!(){{}},∧∨¬])|(?P<word>{WORD.pattern})"""
)
_MAX_DEPTH = 100


@dataclass(frozen=True)
class Rule:
    """A parsed rule. Two rules are equal if their expressions are; ``str(rule)`` is the canonical text."""

    expression: Expression
    text: str = field(compare=False)  # as the user wrote it

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a rule.

        Raises:
            InputError: naming the offending token, its position (from 1), the rule and what is allowed there.
        """
        return cls(_Parser(text).whole(), text)

    @property
    def channels(self) -> frozenset[str]:
        """Channels the rule looks at."""
        return frozenset(atom.name for atom in atoms(self.expression) if atom.name in CHANNELS)

    @property
    def facts(self) -> frozenset[str]:
        """Static facts the rule looks at."""
        return frozenset(atom.name for atom in atoms(self.expression) if atom.name in FACTS)

    def truth(self, atom_truth: Callable[[Comparison], Int8Array], n: int) -> Int8Array:
        """FALSE, UNKNOWN or TRUE for n rows (int8[n]), given the truth of each atom on these rows."""
        return np.broadcast_to(truth(self.expression, atom_truth), n)

    def __and__(self, other: Rule) -> Rule:
        both = flat(And, [self.expression, other.expression])
        if isinstance(both, And):
            both = flat(And, list(dict.fromkeys(both.parts)))  # what both ask for is asked once
        return Rule(both, str(both))

    def __str__(self) -> str:
        return str(self.expression)


@dataclass(frozen=True)
class _Token:
    kind: str  # quoted, sign, word or end
    text: str
    position: int  # from 1

    @property
    def sign(self) -> str:
        """The operator or keyword this token stands for; empty for quoted text."""
        return "" if self.kind == "quoted" else _SYNONYMS.get(self.text, self.text)


class _Parser:
    """Recursive descent over the tokens of one rule; each method eats what it names."""

    def __init__(self, text: str) -> None:
        self._rule = text
        self._tokens = list(self._tokenise())
        self._depth = 0

    def _tokenise(self) -> Iterator[_Token]:
        at = 0
        while at < len(self._rule):
            if self._rule[at].isspace():
                at += 1
                continue
            match = _TOKEN.match(self._rule, at)
            if match is None:
                bad = _Token("bad", self._rule[at], at + 1)
                self._refuse("unexpected character", bad, "& | ! ( ) == != < <= > >= in { , }, words and numbers")
            yield _Token(str(match.lastgroup), match.group(), at + 1)
            at = match.end()
        yield _Token("end", "", at + 1)

    def _refuse(self, what: str, token: _Token, allowed: str) -> NoReturn:
        shown = repr(token.text) if token.text else "end of rule"
        raise InputError(f"{what} {shown} at position {token.position}", where=f"rule {self._rule!r}", allowed=allowed)

    @property
    def _next(self) -> _Token:
        return self._tokens[0]

    def _take(self) -> _Token:
        return self._tokens.pop(0) if len(self._tokens) > 1 else self._next

    def _has(self, sign: str) -> bool:
        """Eat the sign if it comes next."""
        is_next = self._next.sign == sign
        if is_next:
            self._take()
        return is_next

    def whole(self) -> Expression:
        """The whole rule."""
        expression = self._any()
        if self._next.kind != "end":
            self._refuse("unexpected", self._next, "& or | or end of rule")
        return expression

    def _any(self) -> Expression:
        parts = [self._all()]
        while self._has("|"):
            parts.append(self._all())
        return flat(Or, parts)

    def _all(self) -> Expression:
        parts = [self._factor()]
        while self._has("&"):
            parts.append(self._factor())
        return flat(And, parts)

    def _factor(self) -> Expression:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            self._refuse("rule is nested too deeply at", self._next, f"{_MAX_DEPTH} levels")
        expression = self._bare_factor()
        self._depth -= 1
        return expression

    def _bare_factor(self) -> Expression:
        if self._has("!"):
            return Not(self._factor())
        if self._has("("):
            inner = self._any()
            if not self._has(")"):
                self._refuse("unexpected", self._next, "& or | or )")
            return inner
        return And(()) if self._has("true") else self._comparison()

    def _comparison(self) -> Comparison:
        name = self._take()
        names = ", ".join((*CHANNELS, *FACTS))
        if name.kind != "word" or name.sign in ("&", "|", "!", "in"):
            self._refuse("unexpected", name, f"a channel or fact ({names}), true, ! or (")
        if name.text not in (*CHANNELS, *FACTS):
            self._refuse("unknown channel or fact", name, names)
        if name.text in ON_OFF:
            return self._on_off(name.text)
        return self._worded(name.text) if name.text in _WORDED else self._numeric(name.text)

    def _on_off(self, name: str) -> Comparison:
        if self._next.sign in (*_EQUALITY, *ORDER, "in"):
            self._refuse(f"on-off channel {name!r} cannot be compared:", self._next, f"{name} or !{name}")
        return Comparison(name, "==", (1.0,))

    def _numeric(self, name: str) -> Comparison:
        sign = self._take()
        if sign.sign not in (*_EQUALITY, *ORDER):
            self._refuse(f"unexpected after {name!r}:", sign, " ".join((*_EQUALITY, *ORDER)))
        number = self._take()
        highest = 100.0 if name == "battery" else np.inf
        is_number = number.kind == "word" and _NUMBER.fullmatch(number.text)
        if not is_number or float(number.text) > highest:
            allowed = f"a number, 0 … {highest:g}" if np.isfinite(highest) else "a number"
            self._refuse(f"{name!r} cannot be compared with", number, allowed)
        return Comparison(name, sign.sign, (float(number.text),))

    def _worded(self, name: str) -> Comparison:
        sign = self._take()
        if sign.sign == "in":
            return Comparison(name, "==", self._set_of_words(name))
        if sign.sign not in _EQUALITY:
            self._refuse(f"unexpected after {name!r}:", sign, "==, != or in {…}")
        return Comparison(name, sign.sign, (self._value(name),))  # type: ignore[arg-type]

    def _set_of_words(self, name: str) -> tuple[Any, ...]:
        if not self._has("{"):
            self._refuse("unexpected", self._next, "{ after in")
        values = [self._value(name)]
        while self._has(","):
            values.append(self._value(name))
        if not self._has("}"):
            self._refuse("unexpected", self._next, ", or }")
        return tuple(values)

    def _value(self, name: str) -> float | str:
        token = self._take()
        word = token.text[1:-1] if token.kind == "quoted" else token.text
        allowed = ", ".join(NETWORKS) if name == "network" else "a model name, quoted if it is not one word"
        if token.kind not in ("word", "quoted") or (name == "network" and word not in NETWORK_CODE):
            self._refuse(f"{name!r} cannot be compared with", token, allowed)
        return float(NETWORK_CODE[word]) if name == "network" else word
