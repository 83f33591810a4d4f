"""Palette of the figures, and how a drawn SVG document becomes a part of the page in light and dark."""

from __future__ import annotations

import html
import re
from typing import NamedTuple


class Shade(NamedTuple):
    """A colour on light and on dark paper."""

    light: str
    dark: str


# Every light value is distinct: it is how a drawn colour finds its name again. The hues of the data are
# those of Okabe and Ito (2008), told apart by colour-blind readers, adapted to both papers.
PALETTE = {
    "paper": Shade("#ffffff", "#15191f"),
    "ink": Shade("#1c2128", "#e8ebef"),
    "muted": Shade("#5b6470", "#a3adb9"),
    "grid": Shade("#e1e5ea", "#2e3640"),
    "blue": Shade("#0069a8", "#4fa8e8"),
    "orange": Shade("#e08a00", "#f0a534"),
    "pink": Shade("#c4689b", "#e08fbb"),
    "gray": Shade("#8f98a3", "#77818e"),
    "red": Shade("#c8500a", "#f07a3c"),
    "sky": Shade("#5ab4e6", "#a5dbfa"),
    "green": Shade("#00835f", "#2fbf94"),
    "brown": Shade("#6b4423", "#b98d66"),
}


def color(name: str) -> str:
    """The value to draw a named colour with."""
    return PALETTE[name].light


def css_variables(*, dark: bool) -> str:
    """The palette as CSS custom properties."""
    return " ".join(f"--{name}: {shade.dark if dark else shade.light};" for name, shade in PALETTE.items())


def inline(document: str, *, description: str) -> str:
    """An SVG document as an element for a page: no ids of its own, no links, no fonts, named colours, two decimals."""
    box = re.search(r'viewBox="([^"]+)"', document)
    if box is None:
        raise ValueError("SVG document has no viewBox")
    body = document[document.index("</defs>") + len("</defs>") :]
    body = re.sub(r"<!--.*?-->", "", body, flags=re.DOTALL)
    body = re.sub(r'<g id="[^"]*"', "<g", body)
    body = re.sub(r"font-family: [^;\"]*; ?| transform=\"rotate\(-0 [^\"]*\"", "", body)
    body = re.sub(r'(?<= )(?:d|x|y|width|height|transform)="[^"]*"', lambda match: _two_decimals(match[0]), body)
    body = re.sub(r">\s+<", "><", body)
    for name, shade in PALETTE.items():
        body = re.sub(shade.light, f"var(--{name})", body, flags=re.IGNORECASE)
    return f'<svg viewBox="{box[1]}" role="img" aria-label="{html.escape(description)}">{body.strip()}'


def _two_decimals(attribute: str) -> str:
    rounded = re.sub(r"-?\d+\.\d+", lambda match: f"{float(match[0]):.2f}".rstrip("0").rstrip("."), attribute)
    return " ".join(rounded.split())
