"""``fedsim baseline record`` and ``fedsim check``: the gate that a change has to pass."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from fedsim.config.recheck import check_of, played_check
from fedsim.errors import RegressedError, UndecidedError
from fedsim.files import write_json, write_text
from fedsim.report.gate_page import write_check
from fedsim.results.measures import Target, common_target
from fedsim.results.regress.baseline import Baseline, read, recorded, write
from fedsim.results.regress.check import MOST_SEEDS, Check
from fedsim.results.regress.junit import junit
from fedsim.results.runs import found_runs
from fedsim.targets import require_file


def record(folders: Sequence[Path], *, out: Path, targets: Sequence[str]) -> None:
    """Write the baseline of these runs."""
    require_file(out)
    asked = [Target.parse(text) for text in targets]
    runs = found_runs(folders, may_be_incomplete=False)
    _tell_all(runs.left_out)
    baseline = recorded(runs.arms, asked or common_target(runs))
    write(out, baseline)
    n = len(baseline.runs)
    if n < MOST_SEEDS:
        _tell(f"what does no harm is measured by the spread of seeds: of {n}, where {MOST_SEEDS} and more are better")
    print(f"{out}: {len(baseline.runs[0].quantities)} quantities of {n} seed{'' if n == 1 else 's'}")


def main(
    file: Path,
    folders: Sequence[Path],
    *,
    is_strict: bool,
    junit_file: Path | None,
    json_file: Path | None,
    html_file: Path | None,
) -> None:
    """Print the verdict and write the files that are asked for.

    Raises :class:`RegressedError`, and under ``is_strict`` :class:`UndecidedError`, when all of them are written.
    """
    for each in (junit_file, json_file, html_file):
        if each is not None:
            require_file(each)
    baseline = read(file)
    check = checked(baseline, folders)
    if junit_file is not None:
        write_text(junit_file, junit(check, name=file.name))
    if json_file is not None:
        write_json(json_file, check.told() | {"baseline": file.name})
    if html_file is not None:
        write_check(html_file, baseline, check, name=file.name)
    if check.status == "regressed":
        raise RegressedError(check.line)
    if check.status != "held" and is_strict:
        raise UndecidedError(check.line)
    print(check.line)


def check_file(file: Path) -> Check:
    """The configuration of a baseline's file played again, held against it."""
    return checked(read(file))


def checked(baseline: Baseline, folders: Sequence[Path] = ()) -> Check:
    """These runs, or without any the baseline's own configuration played again, held against the baseline."""
    if folders:
        runs = found_runs(folders, may_be_incomplete=False)
        _tell_all(runs.left_out)
        return check_of(baseline, runs, _tell)
    with tempfile.TemporaryDirectory(prefix="fedsim-check-") as place:
        return played_check(baseline, Path(place), _tell)


def _tell_all(lines: Sequence[str]) -> None:
    for line in lines:
        _tell(line)


def _tell(line: str) -> None:
    print(f"fedsim: {line}", file=sys.stderr)
