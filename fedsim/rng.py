"""Randomness as a function: a draw depends on ``(seed, stream name, id, k)`` and on nothing else.

The bits are SplitMix64 (Steele, Lea, Flood 2014; finaliser "Mix13" by Stafford) read at the counter
``id``, started at a key hashed from the seed and the stream's name. Draws are therefore the same in
any order, on any number of workers, and whoever else draws; on any processor too (:func:`portable`).
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from fedsim.units import FloatArray, IntArray

UintArray = npt.NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_A = np.uint64(0xBF58476D1CE4E5B9)
_MIX_B = np.uint64(0x94D049BB133111EB)
_S12, _S27, _S30, _S31, _S32 = (np.uint64(s) for s in (12, 27, 30, 31, 32))
_LOW32 = np.uint64(0xFFFFFFFF)
_ULP32, _ULP52 = 2.0**-32, 2.0**-52


@lru_cache(maxsize=1024)
def stream_key(seed: int, name: str) -> np.uint64:
    """The 64-bit key of a named stream."""
    digest = hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest()
    return np.uint64(int.from_bytes(digest, "little"))


def _mix(z: UintArray) -> UintArray:
    """SplitMix64's finaliser, in place."""
    z ^= z >> _S30
    z *= _MIX_A
    z ^= z >> _S27
    z *= _MIX_B
    z ^= z >> _S31
    return z


def bits(seed: int, name: str, ids: npt.ArrayLike, k: npt.ArrayLike | None = None) -> UintArray:
    """64 random bits for each id (``uint64[n]``); ``k`` numbers repeated draws of one id."""
    z = np.asarray(ids).astype(np.uint64).reshape(-1)
    z *= _GOLDEN
    z += stream_key(seed, name)
    z = _mix(z)
    if k is not None:
        z += np.asarray(k).astype(np.uint64) * _GOLDEN
        z = _mix(z)
    return z


def uniform(seed: int, name: str, ids: npt.ArrayLike, k: npt.ArrayLike | None = None) -> FloatArray:
    """Uniform on the open interval (0, 1), ``float64[n]``."""
    u = (bits(seed, name, ids, k) >> _S12).astype(np.float64)  # with the half 53 bits, so that none rounds to 1
    u += 0.5
    u *= _ULP52
    return u


def portable(values: FloatArray) -> FloatArray:
    """Values rounded to the 24 bits of a float32, still ``float64``.

    Processors disagree in the last of 53 bits of a logarithm, an exponential or a matrix product. Rounded, they
    agree but for about one value in 10⁸, so that the same seed makes the same bytes wherever it is played.
    """
    rounded: FloatArray = values.astype(np.float32).astype(np.float64)
    return rounded


def integers(seed: int, name: str, ids: npt.ArrayLike, n: npt.ArrayLike) -> IntArray:
    """Uniform on 0 … n-1, ``int64[n]``; ``n`` may differ per id. Bias below n / 2**52."""
    draw = uniform(seed, name, ids) * np.asarray(n)
    below: IntArray = np.minimum(draw.astype(np.int64), np.asarray(n, dtype=np.int64) - 1)
    return below


def normal(seed: int, name: str, ids: npt.ArrayLike, k: npt.ArrayLike | None = None) -> FloatArray:
    """Standard normal by Box and Muller (1958) from the two halves of one draw, ``float64[n]``.

    Simplification: 32 bits a half, so |z| stays below 6.8.
    """
    z = bits(seed, name, ids, k)
    radius = (z >> _S32).astype(np.float64)
    radius += 0.5
    radius *= _ULP32
    np.log(radius, out=radius)
    radius *= -2.0
    np.sqrt(radius, out=radius)
    angle = (z & _LOW32).astype(np.float64)
    angle *= 2.0 * np.pi * _ULP32
    radius *= np.cos(angle, out=angle)
    return portable(radius)


def lognormal(
    seed: int,
    name: str,
    ids: npt.ArrayLike,
    k: npt.ArrayLike | None = None,
    *,
    median: float,
    sigma: float,
) -> FloatArray:
    """Lognormal given by its median and the sigma of its logarithm, ``float64[n]``."""
    if sigma == 0.0:
        return np.full(np.asarray(ids).reshape(-1).shape, median)
    z = normal(seed, name, ids, k)
    z *= sigma
    z = portable(np.exp(z, out=z))
    z *= median
    return z


def exponential(seed: int, name: str, ids: npt.ArrayLike) -> FloatArray:
    """Exponential with mean 1, ``float64[n]``."""
    return portable(-np.log(uniform(seed, name, ids)))


def generator(seed: int, name: str) -> np.random.Generator:
    """A sequential generator of its own for one of the server's decisions."""
    return np.random.Generator(np.random.Philox(key=int(stream_key(seed, name))))


class Permutation:
    """A keyed bijection of 0 … n-1 that is walked in order and never stored.

    It mixes the smallest power of two that holds n by invertible steps (add, multiply by an odd
    number, xor-shift), and skips what falls outside: a walk over all counters meets each id once.
    """

    ROUNDS = 3

    def __init__(self, n: int, key: np.uint64) -> None:
        self.n = n
        self.n_bits = max(2, (n - 1).bit_length())
        self.n_counters = 1 << self.n_bits
        self._mask = np.uint64(self.n_counters - 1)
        self._shift = np.uint64((self.n_bits + 1) // 2)
        words = _mix(np.arange(1, 2 * self.ROUNDS + 1, dtype=np.uint64) * _GOLDEN + key)
        self._add = words[0::2]
        self._multiply = words[1::2] | np.uint64(1)

    def ids(self, start: int, stop: int) -> IntArray:
        """The ids met at counters ``start … stop-1``, in walking order."""
        z = np.arange(start, min(stop, self.n_counters), dtype=np.uint64)
        for add, multiply in zip(self._add, self._multiply, strict=True):
            z += add
            z *= multiply
            z &= self._mask
            z ^= z >> self._shift
        ids = z.view(np.int64)
        return ids if self.n == self.n_counters else ids[ids < self.n]
