"""Numbers and settings as a reader sees them (a number and its unit never part at a line's end)."""

import pytest

from fedsim.report.words import OUTCOME_MEANINGS, duration, group, hours, large, listed, percent, setting, size
from fedsim.schema import OUTCOMES


def plain(text: str) -> str:
    return text.replace("\u00a0", " ")


@pytest.mark.parametrize(
    ("fraction", "text"),
    [(0.0, "0 %"), (0.0004, "< 0.1 %"), (0.0587, "5.9 %"), (0.5, "50.0 %"), (0.9996, "> 99.9 %"), (1.0, "100 %")],
)
def test_percent(fraction: float, text: str) -> None:
    assert plain(percent(fraction)) == text


@pytest.mark.parametrize(
    ("n", "text"),
    [
        (0, "0"),
        (0.75, "0.75"),
        (22.397, "22.4"),
        (5, "5"),
        (3762.6, "3,763"),
        (97559, "97,559"),
        (1.2e6, "1.2 million"),
    ],
)
def test_large(n: float, text: str) -> None:
    assert plain(large(n)) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "not measured"), (0.0, "0 s"), (0.0052, "5.2 ms"), (1.0, "1 s"), (173.4, "173 s"), (299.1, "4.99 min"),
        (36_000.0, "10 h"), (604_800.0, "7 days"),
    ],
)  # fmt: skip
def test_duration(seconds: float | None, text: str) -> None:
    assert plain(duration(seconds)) == text


def test_sizes_and_hours() -> None:
    assert plain(size(1_536_000)) == "1.5 MB"
    assert size(None) == "not measured"
    assert plain(hours(5400.0)) == "1.5 h"


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("deadline_s", 600, "deadline 10 min"),
        ("session_timeout_s", None, "session timeout none"),
        ("crash_fraction", 0.02, "crash 2 %"),
        ("median_inference_ms", 63, "median inference 63 ms"),
        ("fixed_s_per_step", 0.1, "fixed 0.1 s per step"),
        ("bytes_per_s", None, "bytes per s none"),
        ("send_w", 1.2, "send 1.2 W"),
        ("n_clients", 25_156, "clients 25,156"),
        ("is_replay", False, "is replay no"),
        ("metrics", ["auc", "aupr"], "metrics auc and aupr"),
        ("down_bytes_per_s", {"wifi": 674_000, "4g": 3_600_000}, "down (wifi 674.0 kB/s, 4g 3.6 MB/s)"),
    ],
)
def test_setting(key: str, value: object, text: str) -> None:
    assert plain(setting(key, value)) == text


def test_group_names_its_classes_and_leaves_seeds_out() -> None:
    values = {"_target_": "a.b.Sync", "seed": 3, "goal": 100, "queue": {"_target_": "a.Queue", "n_workers": 2}}
    assert group(values) == "Sync: goal 100; Queue: workers 2"
    assert group({}) == ""


def test_listed() -> None:
    assert [listed([]), listed(["a"]), listed(["a", "b", "c"])] == ["none", "a", "a, b and c"]


def test_every_outcome_has_a_meaning() -> None:
    assert set(OUTCOME_MEANINGS) == set(OUTCOMES)
