"""Texts as ids: how they are cut into tokens, and how tokens become numbers."""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Literal

from fedsim.errors import InputError

Coding = Literal["vocabulary", "frequent", "hash"]
PADDING, UNKNOWN, START = 0, 1, 2
N_SPECIAL = 3  # ids before those of tokens
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)?|[^\w\s]")
_GRAMS = (3, 4, 5)  # letters of the pieces of a word


def words(text: str) -> list[str]:
    """Lower-case words and single signs."""
    return _WORD.findall(text.lower())


def pieces(text: str) -> list[str]:
    """Words, pairs of neighbours, and pieces of 3 to 5 letters of each word with its bounds, as fastText has them."""
    found = words(text)
    pairs = [f"{a} {b}" for a, b in pairwise(found)]
    bounded = [f"<{word}>" for word in found]
    grams = [word[i : i + n] for word in bounded for n in _GRAMS for i in range(len(word) - n + 1)]
    return [*found, *pairs, *grams]


TOKENS: Mapping[str, Callable[[str], Sequence[str]]] = {"words": words, "characters": list, "pieces": pieces}


class Vocabulary:
    """Numbers 0 … n-1 for tokens or values: all that were seen, the most frequent, or hashed without looking.

    ``coding`` vocabulary: every value seen in training, refused where there are more than ``size`` (None: any number).
    frequent: the ``size`` most frequent. hash: ``size`` buckets (CRC-32). :meth:`of` gives -1 for what is not there.
    """

    def __init__(self, coding: Coding, size: int | None, *, what: str) -> None:
        if size is None and coding != "vocabulary":
            raise InputError(f"size of {what}", value=size, allowed=f"a number with coding: {coding}")
        self._coding, self._size, self._what = coding, size, what
        self._counts: Counter[str] = Counter()
        self._number: dict[str, int] = {}

    @property
    def is_learned(self) -> bool:
        """Whether values have to be seen first."""
        return self._coding != "hash"

    def see(self, counts: Mapping[str, int]) -> None:
        """Count values of training rows."""
        self._counts.update(counts)

    def freeze(self) -> None:
        """Number what was seen by falling frequency, equals in their order."""
        if self._coding == "vocabulary" and self._size is not None and len(self._counts) > self._size:
            allowed = f"{self._size}; or a larger size, coding: frequent, coding: hash"
            raise InputError(f"{self._what} has more values than its size", value=len(self._counts), allowed=allowed)
        ordered = sorted(self._counts, key=lambda value: (-self._counts[value], value))
        self._number = {value: number for number, value in enumerate(ordered[: self._size])}
        self._counts.clear()

    @property
    def n(self) -> int:
        """How many numbers there are."""
        return len(self._number) if self.is_learned else int(self._size or 0)

    def of(self, values: Iterable[str]) -> list[int]:
        """The number of each value, -1 of one that has none."""
        if self.is_learned:
            return [self._number.get(value, -1) for value in values]
        size = self.n
        return [zlib.crc32(value.encode("utf-8", "surrogatepass")) % size for value in values]
