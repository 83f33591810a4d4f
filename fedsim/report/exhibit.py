"""Pages about traces: figures with their numbers beside them, in one self-contained HTML file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from fedsim.files import write_text
from fedsim.report.svg import css_variables


class Exhibit(NamedTuple):
    """A figure and its numbers; without ``svg`` the caption says why nothing is drawn."""

    title: str
    caption: str
    svg: str | None = None
    header: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    is_wide: bool = False  # the numbers stand below the figure


class Page(NamedTuple):
    """What a page says: title, one sentence, key numbers, figures, and what all of it rests on."""

    kind: str
    title: str
    lead: str
    tiles: Sequence[tuple[str, str, str]]  # label, value, remark
    sections: Sequence[tuple[str, Sequence[Exhibit]]]
    facts: Sequence[tuple[str, str]]  # what the numbers rest on
    banner: tuple[str, str] | None = None  # good, open or bad, and the words in its colour above the title


def write_page(path: Path, page: Page) -> Path:
    """Write the page, whole or not at all. It needs no other file; the same content gives the same bytes."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    colors = {"light": css_variables(dark=False), "dark": css_variables(dark=True)}
    write_text(path, environment.get_template("trace_template.html").render(page._asdict() | colors))
    return path
