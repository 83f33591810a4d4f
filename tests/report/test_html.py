"""The page: complete, self-contained, well formed, the same bytes twice, and true to the run."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from fedsim.report.html import write_report
from fedsim.report.story import foundations
from fedsim.results.numbers import headline
from fedsim.results.run import Run
from tests.report.fake_run import hand_made, random_run, without_sessions, without_training

VOID = {"meta", "br", "link", "img", "hr", "input"}
TITLES = [
    "Eligible devices over a week",
    "Eligible devices by hour of day",
    "Devices in flight",
    "Outcomes of sessions",
    "Distribution of the time between steps",
    "Time between steps over time",
    "Held-out accuracy against simulated time",
    "Held-out accuracy against device-hours",
    "Bytes per hour",
    "Wasted work by reason",
    "Staleness of updates",
    "Energy by phase",
    "Battery taken by a session",
    "Battery at assignment",
]


class Page(HTMLParser):
    """Checks nesting while it reads; keeps identifiers, references, figures and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.figures: list[str] = []
        self.text: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.links += [value or "" for name, value in attrs if name.rpartition(":")[2] in ("href", "src")]
        for _, value in attrs:
            self.links += re.findall(r"url\(([^)]*)\)", value or "")
        if tag == "svg":
            self.figures.append(dict(attrs)["aria-label"] or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text.append(data)


def read(folder: Path) -> tuple[str, str]:
    """The page's source, and its words with plain blanks."""
    source = write_report(folder).read_text(encoding="utf-8")
    return source, " ".join(" ".join(Page(source).text).replace("\u00a0", " ").split())


@pytest.fixture(scope="module")
def buffered(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = random_run(tmp_path_factory.mktemp("buffered") / "run", n=20_000, days=3.0)
    return write_report(folder).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def hand(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    return read(hand_made(tmp_path_factory.mktemp("hand") / "run"))


@pytest.mark.slow
def test_every_figure_is_there(buffered: str) -> None:
    assert len(Page(buffered).figures) == len(TITLES)
    assert [title for title in TITLES if f"<h3>{title}</h3>" not in buffered] == []
    assert "Not drawn" not in buffered


@pytest.mark.slow
def test_nothing_comes_from_elsewhere(buffered: str) -> None:
    assert "http" not in buffered
    assert "<script" not in buffered
    assert "@import" not in buffered
    page = Page(buffered)
    assert page.links
    assert all(link.startswith("#") for link in page.links)
    assert {link.removeprefix("#") for link in page.links} <= set(page.ids)


@pytest.mark.slow
def test_identifiers_are_unique(buffered: str) -> None:
    ids = Page(buffered).ids
    assert len(ids) == len(set(ids))


@pytest.mark.slow
def test_colours_follow_light_and_dark(buffered: str) -> None:
    assert "prefers-color-scheme: dark" in buffered
    drawn = "".join(re.findall(r"<svg.*?</svg>", buffered, flags=re.DOTALL))
    assert set(re.findall(r"#[0-9a-f]{6}", drawn)) == set()
    assert {"var(--blue)", "var(--ink)", "var(--green)"} <= set(re.findall(r"var\(--\w+\)", drawn))


@pytest.mark.slow
def test_the_page_stays_small(buffered: str) -> None:
    assert len(buffered.encode()) < 500_000


@pytest.mark.slow
def test_same_run_same_bytes(hand: tuple[str, str], tmp_path: Path) -> None:
    assert write_report(hand_made(tmp_path / "again")).read_text(encoding="utf-8") == hand[0]


def test_what_the_page_says(hand: tuple[str, str]) -> None:
    for sentence in (
        "In 4 h of simulated time, a fleet of 1,000 devices (5.9 % of them eligible on average) carried out "
        "5 sessions; 40.0 % of them went into 2 server steps (median 60 min). Of 3 device-hours 0 % were the price of "
        "speed (late, or told that they were not needed) and 50.0 % were lost; held-out accuracy ended at 0.900 "
        "(central training: 0.950).",
        "Device time 3 h useful 50.0 %, lost 50.0 %",
        "Devices in flight 0.75 mean over time; 2 at once at most",
        "Reports per second 0.000208 mean over time; 0.0167 in the busiest minute",
        "at most 2.0 MB/s at once",
        "0.900 for 1.5 h of device time; nine tenths of the gain had cost 1.5 h.",
        "1.5 h of device time (50.0 %) reached no model; 66.7 % of it stale.",
        "Busiest hour: 12.0 kB down, 3.6 kB up.",
        "0.75 devices are in a session on average, 2 in the busiest minute.",
        "Most at 00 h (9.0 %), fewest at 03 h (4.0 %), a factor of 2.2.",
        "Traces: FLASH state traces; licence: BSD-2-Clause.",
        "Download 7.0 %, training 82.5 %, upload 10.5 % of 0.000111 kWh; 25.0 % went into sessions that did not count.",
        "Half of the sessions take less than 0.5 % of a full battery, 95 % less than 1 %.",
        "Half of the sessions began above 55 %, 33.3 % below 20 %.",
        "Battery per session 0.5 % median; 95 % below 1 %",
        "4g 2 40.0 % 9.0 kB 4.5 kB 0.07",
        "One seed (3): every number is one draw and has no interval.",
        "the tables hold the 5 sessions that the summary counts",
        "fedsim run fleet.n_devices=1000 'stop.metric=a b'",
        "traces.provenance.files.0.name a.json",
    ):
        assert sentence in hand[1]


@pytest.mark.slow
def test_who_is_let_in_is_told_beside_the_rule(tmp_path: Path) -> None:
    _, text = read(hand_made(tmp_path / "run", eligible_fraction_mean=0.2, admitted_fraction_mean=0.01))
    assert "a fleet of 1,000 devices (1.0 % of them let in on average)" in text
    assert "The rule alone leaves 20.0 %; the others lack what else is asked for" in text


@pytest.mark.slow
def test_a_run_without_training_says_so(tmp_path: Path) -> None:
    source, text = read(without_training(tmp_path / "run"))
    assert "Not drawn: the run trained no model or evaluated none, so no metric exists." in text
    assert "no model was evaluated" in text
    assert "Session energy" not in text and "Model quality not" not in text  # what is unknown takes no tile
    assert "Not drawn: no energy was booked." in text
    assert "Not drawn: batteries were not modelled" in text
    assert "Battery per session" not in text
    assert "against device-hours" not in source
    assert "parameters not measured" in text


def test_a_run_without_sessions_is_a_page_too(tmp_path: Path) -> None:
    source, text = read(without_sessions(tmp_path / "run"))
    assert "carried out no session." in text
    assert "No session took place." in text
    assert Page(source).figures == []


@pytest.mark.slow
def test_synchronous_runs_speak_of_rounds(tmp_path: Path) -> None:
    source, text = read(random_run(tmp_path / "run", n=3000, days=0.2, protocol="sync"))
    assert "Distribution of the round time" in text
    assert "abandoned rounds" in text
    assert "Staleness" not in source


def test_stragglers_are_mentioned(tmp_path: Path) -> None:
    run = Run.load(hand_made(tmp_path / "run", simulated_s=7200.0))
    assert "2 sessions ended after the run." in " ".join(foundations(run, headline(run), []))


def test_text_of_the_run_is_escaped(tmp_path: Path) -> None:
    source, _ = read(without_sessions(tmp_path / "run", rule="<b>ram_gb</b> >= 2", stop_reason="<i>tired</i>"))
    assert "<b>ram_gb" not in source
    assert "<i>tired" not in source
    assert "&lt;b&gt;ram_gb&lt;/b&gt; &gt;= 2" in source
