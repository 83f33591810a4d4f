"""What sub-commands of the command line share: how one is added, and the lazy door behind it."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable
from typing import Any

Action = Callable[[argparse.Namespace], None]


def door(module: str) -> Any:
    """A module that is slow to import, imported where a sub-command needs it (the documented lazy door)."""
    return importlib.import_module(module)


def add_command(commands: Any, name: str, text: str, action: Action) -> argparse.ArgumentParser:
    """A sub-command that does ``action``; ``text`` is its help, without a capital letter and a full stop."""
    text = text.replace("%", "%%")
    sub: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    sub.set_defaults(action=action)
    return sub
