"""The page in a real browser: nothing is fetched or complained of, it fits a phone, follows the dark, prints well."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from fedsim.report.compare_page import write_comparison
from fedsim.results.compare import compare
from fedsim.results.runs import found_runs
from tests.report.fake_run import hand_made, random_run, without_training
from tests.report.test_html import write_report
from tests.results.many_runs import accuracy, written

# Windows are not narrower than 500 px; a frame is as narrow as a phone.
FRAME = """<!doctype html><title>not loaded</title><body style="margin:0">
<iframe id="frame" style="width:%dpx;height:900px;border:0"></iframe><script>
frame.onload = () => {
  const page = frame.contentDocument, css = frame.contentWindow.getComputedStyle(page.body);
  document.title = JSON.stringify({
    width: page.documentElement.scrollWidth, seen: frame.contentWindow.innerWidth, paper: css.backgroundColor,
    ink: css.color, fetched: frame.contentWindow.performance.getEntriesByType("resource").map(entry => entry.name)});
};
frame.srcdoc = %s;
</script>"""
LIGHT, DARK = "--blink-settings=preferredColorScheme=1", "--blink-settings=preferredColorScheme=0"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def chromium() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("no chromium: .ci/run installs Debian's package")
        pytest.skip("chromium is not installed")
    return found


@pytest.fixture(scope="module", params=["buffered", "sync", "untrained", "few", "compared"])
def page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param) / "run"
    if request.param == "untrained":
        return write_report(without_training(folder))
    if request.param == "compared":
        for share in (0.3, 0.7):
            for seed in (0, 1, 2):
                asked, learned = {"server.share": share}, accuracy(0.1, share, share + 0.02 * seed)
                written(folder / f"{share}-{seed}", seed=seed, asked=asked, learned=learned)
        return write_comparison(folder / "compare.html", compare(found_runs([folder])))
    if request.param == "few":
        return write_report(hand_made(folder))
    return write_report(random_run(folder, n=20_000, days=3.0, protocol=request.param))


def browse(chromium: str, page: Path, *options: str) -> subprocess.CompletedProcess[str]:
    # A profile of its own for each call: two at once do not share one.
    command = [
        chromium,
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--enable-logging=stderr",
    ]
    command += [
        "--disable-background-networking",
        f"--user-data-dir={page.parent / 'profile'}",
        *options,
        page.as_uri(),
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


def looked(chromium: str, page: Path, *options: str, width: int = 1200) -> dict[str, Any]:
    """What a script finds in the page, so many pixels wide."""
    around, text = page.with_name("around.html"), json.dumps(page.read_text(encoding="utf-8"))
    around.write_text(FRAME % (width, text.replace("</", "<\\/")), encoding="utf-8")
    shown = browse(chromium, around, "--dump-dom", *options)
    assert "CONSOLE" not in shown.stderr
    title = re.search(r"<title>(.*?)</title>", shown.stdout, re.DOTALL)
    assert title is not None
    told: dict[str, Any] = json.loads(html.unescape(title[1]))
    return told


def brightness(colour: str) -> float:
    """0 black … 255 white, of ``rgb(1, 2, 3)``."""
    return sum(map(float, re.findall(r"[\d.]+", colour)[:3])) / 3


def test_nothing_is_fetched_and_a_phone_need_not_be_scrolled_sideways(chromium: str, page: Path) -> None:
    told = looked(chromium, page, LIGHT, width=390)
    assert told["seen"] == 390
    assert told["width"] <= 390
    assert told["fetched"] == []


def test_it_is_read_by_day_and_by_night(chromium: str, page: Path) -> None:
    day, night = (looked(chromium, page, mode) for mode in (LIGHT, DARK))
    assert brightness(day["paper"]) - brightness(day["ink"]) > 150
    assert brightness(night["ink"]) - brightness(night["paper"]) > 150


def test_it_prints_on_four_pages(chromium: str, page: Path) -> None:
    pdf = page.with_name("page.pdf")
    browse(chromium, page, f"--print-to-pdf={pdf}", "--no-pdf-header-footer")
    n_pages = len(re.findall(rb"/Type\s*/Page\b(?!s)", pdf.read_bytes()))
    assert 1 <= n_pages <= 4
