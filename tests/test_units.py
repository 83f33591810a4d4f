"""Seconds to whole microseconds and back, and numbers as a reader sees them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsim.units import US_PER_S, format_bytes, format_count, format_duration, to_us


@given(us=st.integers(-225 * 10**13, 225 * 10**13))
def test_every_microsecond_of_71_years_survives_seconds(us: int) -> None:
    assert int(to_us(us / US_PER_S)) == us


def test_to_us_rounds_to_the_nearest() -> None:
    assert to_us([0.1 + 0.2, 1e-7, 9e-7, -9e-7]).tolist() == [300_000, 0, 1, -1]
    assert to_us([]).dtype == np.int64


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (1.24, "1.2 s"),
        (59.9, "59.9 s"),
        (59.97, "1 min"),
        (60, "1 min"),
        (89, "1 min"),
        (91, "2 min"),
        (3599, "1 h"),
        (3600, "1 h"),
        (3660, "1 h 1 min"),
        (86_399, "1 d"),
        (86_400, "1 d"),
        (93_784, "1 d 2 h 3 min"),
        (90_000, "1 d 1 h"),
        (864_060, "10 d 1 min"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (999.7, "1.0 kB"),
        (1000, "1.0 kB"),
        (1_536_000, "1.5 MB"),
        (999_949, "999.9 kB"),
        (999_951, "1.0 MB"),
        (2.5e9, "2.5 GB"),
        (3e12, "3.0 TB"),
        (4e15, "4.0 PB"),
        (5e18, "5000.0 PB"),
        (-1_536_000, "-1.5 MB"),
    ],
)
def test_sizes(size: float, text: str) -> None:
    assert format_bytes(size) == text


@pytest.mark.parametrize(
    ("n", "text"),
    [
        (0, "0"),
        (7, "7"),
        (0.25, "0.25"),
        (999, "999"),
        (1000, "1 k"),
        (1234, "1.23 k"),
        (999_400, "999 k"),
        (999_600, "1 M"),
        (1_234_567, "1.23 M"),
        (999_999_999, "1 G"),
        (1_000_000_000, "1 G"),
        (999.4, "999"),
        (999.6, "1 k"),
        (-1500, "-1.5 k"),
    ],
)
def test_counts(n: float, text: str) -> None:
    assert format_count(n) == text
