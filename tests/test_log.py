"""The session table as it is written: its columns, its nulls, its parts, and nothing half-written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fedsim import log
from fedsim.data.passes import Passes
from fedsim.device.session import (
    ABORTED,
    AGGREGATED,
    FAILED,
    INTERRUPTED,
    LATE,
    SESSION,
    STALE,
    TIMEOUT,
    Sessions,
)
from fedsim.device.spent import Spent
from fedsim.device.work import Work
from fedsim.log import RowLog, SessionLog, session_table
from fedsim.schema import OUTCOMES, SESSIONS, STEPS


def spent(rows: Sessions) -> Spent:
    """Everything different, so that no column can stand for another."""
    n = len(rows)
    return Spent(
        download_s=np.full(n, 1.0),
        compute_s=np.full(n, 2.0),
        upload_s=np.full(n, 3.0),
        download_bytes=np.full(n, 4),
        upload_bytes=np.full(n, 5),
        compute_j=np.full(n, 6.0),
        download_j=np.full(n, 3.0),
        upload_j=np.full(n, 4.0),
        battery_percent=np.full(n, np.nan),
    )


class Given:
    """A world that says of every batch what :func:`spent` does, of phones of no table in one place."""

    metered = ("4g",)

    @property
    def fleet(self) -> Given:
        return self

    def region_of(self, cells: np.ndarray) -> np.ndarray:
        return np.zeros(len(cells), dtype=np.int64)

    def phone_columns(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.full(len(ids), -1, dtype=np.int32), np.full(len(ids), np.nan, dtype=np.float32)

    def spent(self, rows: Sessions, work: Work) -> Spent:
        return spent(rows)


WORK = Work(download_bytes=0, upload_bytes=0, passes=Passes(1, 1))


def session_log(folder: Path | None) -> SessionLog:
    return SessionLog(folder, Given(), Work(download_bytes=0, upload_bytes=0, passes=Passes(1, 1)))  # type: ignore[arg-type]


def session(outcome: int, *, end_at: float, staleness: int = -1, weight: float = np.nan) -> Sessions:
    """A session planned to download until 10, train until 30 and upload until 40."""
    row = np.zeros(1, dtype=SESSION)
    row["download_end_at"], row["train_end_at"], row["upload_end_at"] = 10.0, 30.0, 40.0
    row["outcome"], row["end_at"], row["staleness"], row["weight"] = outcome, end_at, staleness, weight
    return row


def numbered(n: int, *, first: int = 0) -> Sessions:
    rows = np.repeat(session(LATE, end_at=40.0), n)
    rows["session_id"] = np.arange(first, first + n)
    return rows


@pytest.mark.parametrize(
    ("row", "reached"),
    [
        (session(AGGREGATED, end_at=40.0, staleness=2, weight=0.5), (10.0, 30.0, 40.0, 2, 0.5)),
        (session(LATE, end_at=40.0), (10.0, 30.0, 40.0, None, None)),
        (session(STALE, end_at=40.0, staleness=7), (10.0, 30.0, 40.0, 7, None)),
        (session(ABORTED, end_at=30.0), (10.0, 30.0, None, None, None)),
        (session(INTERRUPTED, end_at=35.0), (10.0, 30.0, None, None, None)),
        (session(INTERRUPTED, end_at=30.0), (10.0, 30.0, None, None, None)),
        (session(FAILED, end_at=29.9), (10.0, None, None, None, None)),
        (session(FAILED, end_at=3.0), (None, None, None, None, None)),
        (session(TIMEOUT, end_at=40.0), (10.0, 30.0, 40.0, None, None)),
    ],
)
def test_what_a_session_did_not_reach_is_null(row: Sessions, reached: tuple[float | None, ...]) -> None:
    names = ("download_end_at", "train_end_at", "upload_end_at", "staleness", "weight")
    table = session_table(row, spent(row), Given(), WORK)
    assert tuple(table.column(name)[0].as_py() for name in names) == reached


def test_a_device_told_not_to_upload_nothing_has_not_uploaded() -> None:
    row = session(ABORTED, end_at=30.0)
    row["upload_end_at"] = 30.0  # an upload of no bytes would have ended at once
    assert session_table(row, spent(row), Given(), WORK).column("upload_end_at")[0].as_py() is None


def test_columns_are_those_of_the_schema(tmp_path: Path) -> None:
    sessions = session_log(tmp_path)
    sessions.add(numbered(3), np.full(3, 40.0))
    sessions.close()
    table = pq.read_table(tmp_path / "part-00000.parquet")
    assert table.schema.equals(SESSIONS.arrow())
    found = {name: table.column(name)[0].as_py() for name in ("compute_s", "download_bytes", "upload_bytes")}
    assert found == {"compute_s": 2.0, "download_bytes": 4, "upload_bytes": 5}
    assert (table.column("compute_j")[0].as_py(), table.column("download_j")[0].as_py()) == (6.0, 3.0)
    not_null = [column.name for column in SESSIONS.columns if not column.nullable]
    assert all(table.column(name).null_count == 0 for name in not_null)


def test_parts_roll_over_and_keep_every_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "ROWS_PER_FLUSH", 4)
    monkeypatch.setattr(log, "ROWS_PER_FILE", 10)
    sessions = session_log(tmp_path)
    for i in range(11):
        sessions.add(numbered(3, first=3 * i), np.full(3, float(i)))
        sessions.advance()
    sessions.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"part-0000{i}.parquet" for i in range(3)]
    sizes = [pq.read_metadata(tmp_path / f"part-0000{i}.parquet").num_rows for i in range(3)]
    assert sizes == [12, 12, 9]  # whole flushes of 6 rows
    table = pa.concat_tables([pq.read_table(path) for path in sorted(tmp_path.iterdir())])
    assert table.column("session_id").to_pylist() == list(range(33))


def test_an_open_part_does_not_have_its_name_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "ROWS_PER_FLUSH", 1)
    sessions = session_log(tmp_path)
    sessions.add(numbered(3), np.full(3, 40.0))
    sessions.advance()
    assert not list(tmp_path.glob("*.parquet"))
    sessions.close()
    assert [path.name for path in tmp_path.iterdir()] == ["part-00000.parquet"]


def test_a_part_that_is_full_at_the_end_is_not_followed_by_an_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "ROWS_PER_FLUSH", 5)
    monkeypatch.setattr(log, "ROWS_PER_FILE", 5)
    sessions = session_log(tmp_path)
    sessions.add(numbered(5), np.full(5, 40.0))
    sessions.close()
    assert [path.name for path in tmp_path.iterdir()] == ["part-00000.parquet"]


def test_sessions_are_counted_with_and_without_a_folder(tmp_path: Path) -> None:
    for folder in (None, tmp_path):
        sessions = session_log(folder)
        sessions.add(numbered(3), np.full(3, 40.0))
        sessions.add(session(STALE, end_at=40.0), np.full(1, 41.0))
        sessions.close()
        counts = dict(zip(OUTCOMES, sessions.outcome_counts.tolist(), strict=True))
        assert {name: n for name, n in counts.items() if n} == {"LATE": 3, "STALE": 1}
        assert (sessions.download_bytes, sessions.upload_bytes) == (16, 20)


def test_a_small_table_has_its_schema_even_without_rows(tmp_path: Path) -> None:
    RowLog(STEPS).write(tmp_path)
    table = pq.read_table(tmp_path / "steps.parquet")
    assert table.schema.equals(STEPS.arrow())
    assert table.num_rows == 0
    assert [path.name for path in tmp_path.iterdir()] == ["steps.parquet"]


def test_a_run_without_sessions_has_a_table_without_rows(tmp_path: Path) -> None:
    sessions = SessionLog(tmp_path, Given(), Work(download_bytes=0, upload_bytes=0, passes=Passes(1, 1)))  # type: ignore[arg-type]
    sessions.close()
    table = pq.read_table(tmp_path)
    assert (table.num_rows, table.schema) == (0, SESSIONS.arrow())
