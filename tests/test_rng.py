"""Draws are functions of (seed, stream, id, k): frozen values, order, laws, and the walk that is never stored."""

import hashlib
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fedsim import rng

SEEDS = st.integers(0, 2**64)
IDS = st.lists(st.integers(0, 2**62), min_size=1, max_size=40)
KEYS = st.integers(0, 2**64 - 1).map(np.uint64)
N = 200_000
MASK = 2**64 - 1


def mix(z: int) -> int:
    """SplitMix64's finaliser in plain integers."""
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def reference_bits(seed: int, name: str, i: int, k: int | None = None) -> int:
    golden = 0x9E3779B97F4A7C15
    key = int.from_bytes(hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest(), "little")
    z = mix((i * golden + key) & MASK)
    return z if k is None else mix((z + k * golden) & MASK)


def all_bits(monkeypatch: pytest.MonkeyPatch, *values: int) -> None:
    """Let every draw see these bits: the ends of the range are met once in 2**64 draws."""
    monkeypatch.setattr(rng, "bits", lambda *_: np.array(values, dtype=np.uint64))


# --------------------------------------------------------------------------------------- frozen values


def test_frozen_bits() -> None:
    assert rng.bits(0, "a", [0, 1, 2]).tolist() == [16700458886350931672, 13805407846978171068, 2937042916569826776]
    assert rng.bits(0, "a", [0, 1], [3, 3]).tolist() == [6807577694651058654, 16302674947040924014]
    assert rng.bits(12345, "network/device", [10**9]).tolist() == [9123274475114107372]


def test_frozen_draws() -> None:
    assert rng.uniform(7, "u", [0, 1]).tolist() == [0.49583721693853244, 0.7141372694368205]
    assert rng.normal(7, "z", [0, 1]).tolist() == [0.30433011054992676, -0.2643263638019562]
    assert rng.lognormal(7, "z", [0, 1], median=2.0, sigma=0.5).tolist() == [2.328704833984375, 1.7523959875106812]
    assert rng.exponential(7, "z", [0, 1]).tolist() == [1.7021318674087524, 0.03508029133081436]
    assert rng.integers(7, "i", np.arange(8), 1000).tolist() == [455, 376, 800, 646, 268, 559, 844, 823]
    assert rng.Permutation(10, np.uint64(5)).ids(0, 16).tolist() == [7, 3, 8, 6, 2, 1, 5, 0, 4, 9]
    assert rng.generator(7, "g").integers(0, 1000, 5).tolist() == [478, 510, 56, 458, 551]


@pytest.mark.slow
def test_draws_are_the_same_on_a_processor_without_fused_multiply_add() -> None:
    """The C library computes logarithms and exponentials another way there, and differs in their last bit."""
    code = "from tests.test_rng import digests; print(*digests())"
    older = {
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA,-AVX2_Usable,-FMA_Usable",
        "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL AVX512_SPR",  # numpy's own loops
    }
    root = Path(__file__).parents[1]
    out = subprocess.run(
        [sys.executable, "-c", code], cwd=root, env=os.environ | older, capture_output=True, text=True, check=True
    )
    assert out.stdout.split() == digests()


def digests() -> list[str]:
    """Hashes of many draws of each law that takes a logarithm, an exponential or a cosine."""
    ids = np.arange(300_000)
    laws = (
        rng.normal(0, "a", ids),
        rng.lognormal(0, "a", ids, median=3.0, sigma=1.2),
        rng.exponential(0, "a", ids),
    )
    return [hashlib.sha256(draws.tobytes()).hexdigest() for draws in laws]


@given(seed=SEEDS, ids=IDS, k=st.none() | st.integers(0, 2**31 - 1))
def test_bits_are_splitmix64_at_a_counter(seed: int, ids: list[int], k: int | None) -> None:
    drawn = rng.bits(seed, "name", ids, None if k is None else np.full(len(ids), k))
    assert drawn.tolist() == [reference_bits(seed, "name", i, k) for i in ids]


# ------------------------------------------------------------------------------- a function of its arguments


@given(seed=SEEDS, ids=IDS, order=st.randoms(use_true_random=False))
def test_draws_do_not_depend_on_batch_or_order(seed: int, ids: list[int], order: object) -> None:
    shuffled = list(ids)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    k = np.arange(len(ids))
    for draw in (rng.bits, rng.uniform, rng.normal):
        together = draw(seed, "s", ids, k)
        alone = [draw(seed, "s", [i], [j])[0] for i, j in zip(ids, k.tolist(), strict=True)]
        assert together.tolist() == alone
        by_id = dict(zip(ids, draw(seed, "s", ids).tolist(), strict=True))
        assert draw(seed, "s", shuffled).tolist() == [by_id[i] for i in shuffled]


def test_draws_leave_their_arguments_alone() -> None:
    ids, k = np.arange(5, dtype=np.uint64), np.arange(5, dtype=np.uint64)
    rng.normal(1, "s", ids, k)
    rng.bits(1, "s", ids, k)
    assert ids.tolist() == k.tolist() == [0, 1, 2, 3, 4]


def test_seed_stream_id_and_k_each_change_every_draw() -> None:
    ids = np.arange(1000)
    zeros = np.zeros(1000, dtype=np.int64)
    draws = [
        rng.bits(0, "a", ids),
        rng.bits(1, "a", ids),
        rng.bits(0, "b", ids),
        rng.bits(0, "a", ids, zeros),
        rng.bits(0, "a", ids, zeros + 1),
    ]
    assert len(np.unique(np.concatenate(draws))) == 5 * 1000


@pytest.mark.parametrize(
    "pair",
    [
        (("a", None), ("b", None)),
        (("a", 0), ("a", 1)),
        (("a", None), ("a", 0)),
    ],
)
def test_streams_are_uncorrelated(pair: tuple[tuple[str, int | None], ...]) -> None:
    ids = np.arange(N)
    x, y = (rng.uniform(3, name, ids, None if k is None else np.full(N, k)) for name, k in pair)
    assert abs(np.corrcoef(x, y)[0, 1]) < 4 / np.sqrt(N)


def test_neighbouring_ids_and_session_numbers_are_uncorrelated() -> None:
    by_id = rng.uniform(3, "a", np.arange(N))
    by_k = rng.uniform(3, "a", np.zeros(N, dtype=np.int64), np.arange(N))
    for u in (by_id, by_k):
        assert abs(np.corrcoef(u[:-1], u[1:])[0, 1]) < 4 / np.sqrt(N)


def test_generators_of_two_decisions_differ_and_repeat() -> None:
    first, again, other = (rng.generator(1, name).random(4).tolist() for name in ("a", "a", "b"))
    assert first == again != other
    assert rng.generator(2, "a").random(4).tolist() != first


# ------------------------------------------------------------------------------------------------- laws


def test_uniform_never_reaches_its_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    all_bits(monkeypatch, 0, MASK)
    lowest, highest = rng.uniform(0, "u", [0, 1])
    assert 0 < lowest < 2**-52
    assert 1 - 2**-52 < highest < 1


def test_uniform_is_uniform() -> None:
    u = rng.uniform(11, "u", np.arange(N))
    assert stats.kstest(u, "uniform").pvalue > 0.01
    assert u.mean() == pytest.approx(0.5, abs=4 / np.sqrt(12 * N))


def test_normal_is_standard_normal() -> None:
    z = rng.normal(11, "z", np.arange(N))
    assert z.mean() == pytest.approx(0, abs=4 / np.sqrt(N))
    assert z.var() == pytest.approx(1, abs=4 * np.sqrt(2 / N))
    assert stats.skew(z) == pytest.approx(0, abs=4 * np.sqrt(6 / N))
    assert stats.kurtosis(z) == pytest.approx(0, abs=4 * np.sqrt(24 / N))
    assert stats.kstest(z, "norm").pvalue > 0.01


def test_normal_stays_finite_at_the_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    all_bits(monkeypatch, 0, MASK)
    longest, shortest = rng.normal(0, "z", [0, 1])
    assert 6.7 < longest < 6.8
    assert abs(shortest) < 1e-4


@pytest.mark.parametrize("sigma", [0.1, 0.6, 1.5])
def test_lognormal_has_its_median_and_sigma(sigma: float) -> None:
    x = rng.lognormal(11, "x", np.arange(N), median=40.0, sigma=sigma)
    logs = np.log(x)
    assert np.median(logs) == pytest.approx(np.log(40), abs=4 * 1.2533 * sigma / np.sqrt(N))
    assert logs.std() == pytest.approx(sigma, rel=4 / np.sqrt(2 * N))


def test_lognormal_without_spread_is_its_median() -> None:
    assert rng.lognormal(0, "x", [3, 1, 4], [0, 0, 1], median=2.5, sigma=0.0).tolist() == [2.5, 2.5, 2.5]


@pytest.mark.parametrize("n", [1, 2, 3, 7, 100, 1000])
def test_integers_are_unbiased(n: int) -> None:
    counts = np.bincount(rng.integers(5, "i", np.arange(N), n), minlength=n)
    assert len(counts) == n
    if n > 1:
        assert stats.chisquare(counts).pvalue > 0.01


@given(seed=SEEDS, rows=st.lists(st.tuples(st.integers(0, 2**62), st.integers(1, 2**50)), min_size=1, max_size=30))
def test_integers_stay_below_their_own_bound(seed: int, rows: list[tuple[int, int]]) -> None:
    ids, bounds = np.array(rows).T
    drawn = rng.integers(seed, "i", ids, bounds)
    assert drawn.dtype == np.int64
    assert ((drawn >= 0) & (drawn < bounds)).all()


def test_integers_stay_below_their_bound_at_the_end_of_the_range(monkeypatch: pytest.MonkeyPatch) -> None:
    all_bits(monkeypatch, 0, MASK)
    assert rng.integers(0, "i", [0, 1], 10**12).tolist() == [0, 10**12 - 1]
    assert rng.integers(0, "i", [0, 1], 2**60).tolist()[1] < 2**60


# ---------------------------------------------------------------------------------------- permutation


@given(n=st.integers(1, 5000), key=KEYS)
def test_a_walk_meets_every_id_once(n: int, key: np.uint64) -> None:
    walk = rng.Permutation(n, key)
    assert walk.n_counters >= n
    assert np.array_equal(np.sort(walk.ids(0, walk.n_counters)), np.arange(n))


@given(n=st.integers(1, 5000), key=KEYS, cuts=st.lists(st.integers(0, 9000), max_size=6))
def test_a_walk_does_not_depend_on_its_batches(n: int, key: np.uint64, cuts: list[int]) -> None:
    walk = rng.Permutation(n, key)
    edges = [0, *sorted(cuts), 20_000]
    parts = [walk.ids(start, stop) for start, stop in pairwise(edges)]
    assert np.array_equal(np.concatenate(parts), walk.ids(0, walk.n_counters))


@settings(max_examples=20)
@given(n=st.integers(10**9, 2**61), key=KEYS)
def test_a_part_of_a_huge_walk_is_distinct_and_in_range(n: int, key: np.uint64) -> None:
    ids = rng.Permutation(n, key).ids(0, 4096)
    assert len(ids) > 1000
    assert len(np.unique(ids)) == len(ids)
    assert ids.min() >= 0
    assert ids.max() < n


@pytest.mark.parametrize("n", [3, 10, 64, 400])
def test_every_id_is_equally_likely_to_come_first(n: int) -> None:
    keys = rng.bits(9, "keys", np.arange(20 * n + 2000))
    firsts = [rng.Permutation(n, key).ids(0, 8 + 2 * n)[0] for key in keys]
    assert stats.chisquare(np.bincount(firsts, minlength=n)).pvalue > 0.001
