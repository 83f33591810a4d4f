"""What every refusal has in common: exit code 2, one short line, and nothing left beside what was there."""

import os
from pathlib import Path

import pytest

from fedsim.cli.main import main


def names(folder: Path) -> list[str]:
    """Everything in the folder, hidden files as well."""
    return sorted(os.listdir(folder))


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """The line with which ``fedsim`` refuses the words; the current folder stays as it was."""
    before = names(Path())
    capsys.readouterr()
    code = main([str(word) for word in words])
    line = capsys.readouterr().err
    assert code == 2, (words, code)
    assert line.startswith("fedsim: ") and line.count("\n") == 1, line
    assert len(line) < 3000 and line[:-1].isprintable(), line
    assert names(Path()) == before, names(Path())
    return line
