"""The trace pages: self-contained, in both colours, with numbers beside every figure, the same bytes each time."""

import copy
import html
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedsim.report.criteria_page import write_criteria_page
from fedsim.report.svg import PALETTE
from fedsim.report.trace_page import write_trace_page

QUANTILES = dict(zip(("p5", "p25", "p50", "p75", "p95"), (1.0, 20.0, 300.0, 4000.0, 50_000.0), strict=True))
SHARES = dict(zip(QUANTILES, (0.0, 0.1, 0.25, 0.5, 0.9), strict=True))
HOURS = [0.1 + 0.01 * hour for hour in range(24)]
SAID = {
    "source": "Phones <script>alert(1)</script>",
    "licence": "CC0",
    "files": [{"name": "log.csv", "sha256": "0123456789abcdef"}],
    "transforms": ["debounced available"],
}


def portrait(**changed: Any) -> dict[str, Any]:
    """The numbers of a set with everything recorded."""
    seconds = np.geomspace(1, 50_000, 20)
    networks = {name: [0.0] * 24 for name in ("none", "2g", "3g", "5g")}
    return {
        "overview": {
            "n_devices": 12, "device_days": 34.0, "n_local_clocks": 12, "n_sentinels": 3, "n_hardware_classes": 0,
            "n_events": {"available": 0, "network": 5, "charging": 7, "screen": 0, "locked": 0, "battery": 9},
            "time_shares": {
                "network": {"none": 0.0, "wifi": 0.6, "2g": 0.0, "3g": 0.0, "4g": 0.3, "5g": 0.0, "unknown": 0.1},
                "charging": {"off": 0.8, "on": 0.2, "unknown": 0.0},
            },
            "battery_percent": {name: 10.0 * n for n, name in enumerate(QUANTILES, start=1)},
            "battery_percent_per_h": {"charging": 21.5, "discharging": None},
            "facts": {name: {"n_known": 1, "n_distinct": 1} for name in ("model", "ram_gb", "os_version")},
            "provenance": SAID,
        },
        "rule": "charging & battery >= 80",
        "unknown_counts_as": "ineligible",
        "mean_share": 0.123,
        "by_hour": HOURS,
        "week": {
            "has_weekdays": True,
            "share": [[None] * 12 + HOURS[12:], HOURS, *[[0.0] * 24] * 4, [None] * 24],
            "device_days": [3.0, 5.0, 5.0, 5.0, 5.0, 5.0, 0.0],
        },
        "sessions": {
            "n": 99, "per_device_day": 2.91, "quantiles_s": QUANTILES,
            "curve": {
                "seconds": seconds.tolist(),
                "sessions": np.linspace(1, 0.01, 20).tolist(),
                "time": np.linspace(1, 0.1, 20).tolist(),
            },
            "marks": {"seconds": [60.0, 600.0, 3600.0], "sessions": [0.6, 0.387, 0.1], "time": [0.99, 0.968, 0.7]},
        },
        "devices": {
            "n": 12, "n_never": 5, "quantiles": SHARES,
            "curve": {"devices": [0.0, 0.5, 1.0], "share": [0.9, 0.25, 0.0]},
        },
        "battery": {
            "paths": [{"device_id": "a-very-long-device-id", "hours": [1.0, 1.5, 2.0], "percent": [50.0, None, 49.0]}],
            "band": [[0.0, 20.0, 50.0, 80.0, 100.0]] * 23 + [None],
        },
        "network_by_hour": networks | {"wifi": [0.6] * 24, "4g": [0.3] * 24, "unknown": [0.1] * 24},
    } | changed  # fmt: skip


def row(rule: str, share: float, **changed: Any) -> dict[str, Any]:
    left = {"devices": 2 * share, "sessions": 1.5 * share, "device_hours": share}
    by_hour = {"devices": HOURS, "sessions": None, "device_hours": [None, *HOURS[1:]]}
    return {
        "rule": rule, "left": left | {"by_hour": by_hour}, "sessions_per_device_day": 1.23, "session_s": QUANTILES,
    } | changed  # fmt: skip


def criteria(**changed: Any) -> dict[str, Any]:
    left = {"devices": 0.4, "sessions": 0.3, "device_hours": 0.0004}
    return {
        "unknown_counts_as": "ineligible", "n_devices": 12, "device_days": 34.0, "base": None,
        "base_counts": {"devices": 12, "sessions": 34, "device_hours": 816.0, "by_hour": None},
        "rules": [row("charging", 0.2), row("network == wifi & (screen | battery >= 80)", 0.4)],
        "joint": row("charging & network == wifi & (screen | battery >= 80)", 0.1, session_s=None),
        "combinations": [],
        "funnel": [
            {"rule": "charging", "left": left, "kept": left},
            {"rule": "locked", "left": left, "kept": dict.fromkeys(left)},
        ],
    } | changed  # fmt: skip


class Elements(HTMLParser):
    """Names and attributes of all elements; refuses what is left open."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in ("meta",):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def trace_page(tmp_path: Path, **changed: Any) -> str:
    return write_trace_page(tmp_path / "show.html", portrait(**changed)).read_text()


def criteria_page(tmp_path: Path, **changed: Any) -> str:
    return write_criteria_page(tmp_path / "criteria.html", criteria(**changed), SAID).read_text()


@pytest.mark.parametrize(("write", "n_figures"), [(trace_page, 6), (criteria_page, 3)])
def test_a_page_stands_alone_and_knows_both_papers(tmp_path: Path, write: Any, n_figures: int) -> None:
    page = write(tmp_path)
    elements = Elements(page)
    assert len(elements.named("svg")) == n_figures
    assert all(figure["aria-label"] for figure in elements.named("svg"))
    assert not {"script", "link", "img", "iframe"} & {name for name, _ in elements.found}
    assert not re.search(r"https?://|url\((?!#)|\bsrc=", page)
    assert "&lt;script&gt;" in page
    assert "prefers-color-scheme: dark" in page
    assert all(shade.dark in page for shade in PALETTE.values())
    drawn = "".join(re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL))
    assert "var(--green)" in drawn
    assert not re.findall(r"#[0-9a-fA-F]{6}", drawn)
    assert "nan" not in drawn
    assert [path.name for path in tmp_path.iterdir()] == [f"{'show' if write is trace_page else 'criteria'}.html"]


@pytest.mark.parametrize("write", [trace_page, criteria_page])
def test_the_same_numbers_give_the_same_bytes(tmp_path: Path, write: Any) -> None:
    assert write(tmp_path) == write(tmp_path)


def words_of(page: str) -> str:
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", page)))


def test_the_numbers_stand_beside_the_figures(tmp_path: Path) -> None:
    words = words_of(trace_page(tmp_path))
    for said in (
        "Devices meet “charging & battery >= 80” 12.3 % of the time; 58.3 % of them do so at all.",
        "Monday 27.5 % 22.0 % at 12 h 33.0 % at 23 h 3.0",
        "Sunday not measured 0.0",
        "Over all days most at 23 h (33.0 %), fewest at 00 h (10.0 %)",
        "99 sessions. 38.7 % of them last ten minutes or more and hold 96.8 % of the eligible time.",
        "10 min or more 38.7 % 96.8 %",
        "median 5 min",
        "5 of 12 devices are never eligible.",
        "mean slope charging +21.5 %/h",
        "00 h 0 % 50 % 100 %",
        "wifi 60.0 % 60.0 % 60.0 % 60.0 % 60.0 %",
        "off 80.0 %, on 20.0 %",
        "wifi 60.0 %, 4g 30.0 %, unknown 10.0 %",
        "log.csv (sha256 0123456789ab…)",
        "done debounced available",
    ):
        assert said in words, said
    assert "discharging" not in words
    assert "5g" not in words_of(trace_page(tmp_path).split("Network by hour of day")[1].split("What is recorded")[0])
    assert "device a-very-long-d…" in words


def test_what_cannot_be_drawn_is_said(tmp_path: Path) -> None:
    bare = portrait()["battery"] | {"band": None, "paths": []}
    page = trace_page(tmp_path, week=None, by_hour=None, network_by_hour=None, sessions=None, battery=bare)
    assert len(Elements(page).named("svg")) == 1
    assert page.count("the set has relative clocks") == 3
    assert "no device ever meets the rule" in page
    assert "no device&#39;s level is known most of the time" in page
    overview = copy.deepcopy(portrait()["overview"])
    overview["n_events"]["network"] = 0
    page = trace_page(tmp_path, overview=overview, battery=None, network_by_hour=None)
    assert "the set records no battery" in page
    assert "the set records no network" in page


def test_an_undated_week_counts_its_days(tmp_path: Path) -> None:
    page = trace_page(tmp_path, week=portrait()["week"] | {"has_weekdays": False})
    assert "day 7" in page
    assert "Monday" not in page
    assert "the eighth falls on the first" in page


def test_the_criteria_page_says_what_each_rule_leaves(tmp_path: Path) -> None:
    words = words_of(criteria_page(tmp_path))
    joint = "charging & network == wifi & (screen | battery >= 80)"
    for said in (
        f"“{joint}” leaves 20.0 % of the devices, 15.0 % of the sessions and 10.0 % of the device-hours.",
        "charging 40.0 % 30.0 % 20.0 % 1.23 5 min 13.9 h",
        "rule 2: network == wifi & (screen | battery >= 80) 80.0 % 60.0 % 40.0 %",
        f"all together: {joint} 20.0 % 15.0 % 10.0 % 1.23 none none",
        "“charging” costs most: it keeps < 0.1 % of the device-hours.",
        "+ locked 40.0 % 30.0 % < 0.1 % not measured not measured not measured",
        "charging 20.0 % 11.0 % at 01 h 33.0 % at 23 h 3.0",
        "34 100 %: 24 hours of a device each",
    ):
        assert said in words, said


def test_combinations_stand_in_for_all_together(tmp_path: Path) -> None:
    words = words_of(criteria_page(tmp_path, base="screen", combinations=[row("a & b", 0.3), row("a & c", 0.4)]))
    assert "combination 2: a & c 80.0 %" in words
    assert "all together" not in words
    assert "sessions of “screen”" in words


def test_one_rule_on_a_relative_clock(tmp_path: Path) -> None:
    alone = row("charging", 0.2)
    alone["left"]["by_hour"] = None
    page = criteria_page(tmp_path, rules=[alone], joint=None, funnel=criteria()["funnel"][:1])
    assert len(Elements(page).named("svg")) == 1
    assert "One after the other" not in page
    assert "the set has relative clocks" in page
