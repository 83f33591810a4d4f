"""Digests see every value and nothing else."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from fedsim.results import tables
from fedsim.results.regress.hashes import fingerprint, table_digests
from fedsim.results.run import Run
from tests.report.fake_run import hand_made, random_run
from tests.results.regress.real import copied, with_column, with_rows

pytestmark = pytest.mark.slow


def bumped(values: np.ndarray) -> np.ndarray:
    """The last known value, one unit in its last place larger."""
    place = np.flatnonzero(~np.isnan(values))[-1]
    values[place] = np.nextafter(values[place], np.inf)
    return values


def test_files_and_batches_make_no_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = (Run.load(hand_made(tmp_path / str(n), n_files=n)) for n in (1, 3))
    before = table_digests(one), fingerprint(one)
    assert (table_digests(two), fingerprint(two)) == before
    monkeypatch.setattr(tables, "ROWS_PER_BATCH", 2)
    assert table_digests(Run.load(one.folder)) == before[0]


@pytest.mark.parametrize(
    ("table", "column"),
    [("sessions", "end_at"), ("sessions", "weight"), ("steps", "update_norm"), ("evals", "value"), ("evals", "at")],
)
def test_the_last_bit_of_a_value_is_seen(run: Run, folder: Path, table: str, column: str) -> None:
    changed = Run.load(with_column(copied(run, folder), table, column, bumped))
    before, after = table_digests(run), table_digests(changed)
    assert {name for name in before if before[name] != after[name]} == {table}


def test_unknown_is_not_zero_and_a_name_is_its_letters(run: Run, folder: Path) -> None:
    zeros = with_column(copied(run, folder), "sessions", "weight", np.nan_to_num)
    assert table_digests(Run.load(zeros))["sessions"] != table_digests(run)["sessions"]

    def renamed(table: pa.Table) -> pa.Table:
        names = pa.array([name.replace("log_loss", "loss") for name in table["metric"].to_pylist()])
        return table.set_column(table.schema.get_field_index("metric"), table.schema.field("metric"), names)

    assert table_digests(Run.load(with_rows(zeros, "evals", renamed)))["evals"] != table_digests(run)["evals"]


def test_draws_are_who_was_asked_when_and_what_came_of_it(run: Run, folder: Path) -> None:
    def later(values: np.ndarray) -> np.ndarray:
        values[0] += 1e-6
        return values

    copied(run, folder)
    with_column(folder, "steps", "update_norm", lambda values: values * 1.02)
    with_column(folder, "sessions", "download_bytes", lambda values: values + 1)
    with_rows(folder, "sessions", lambda table: table.take(np.arange(table.num_rows)[::-1]))
    assert fingerprint(Run.load(folder)) == fingerprint(run)
    with_column(folder, "sessions", "assigned_at", later)
    assert fingerprint(Run.load(folder)) != fingerprint(run)


def _one_more(place: int, values: np.ndarray) -> np.ndarray:
    values[place] += 1
    return values


def test_the_first_thousand_sessions_tell(tmp_path: Path) -> None:
    folder = random_run(tmp_path / "run", n=1003, days=1.0, n_files=1)
    before = fingerprint(Run.load(folder))
    for place, is_seen in ((1001, False), (999, True)):
        with_column(folder, "sessions", "device_id", partial(_one_more, place))
        assert (fingerprint(Run.load(folder)) != before) is is_seen
