"""The tables of a run, written while it goes on: whole files, rows in a fixed order."""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from fedsim.device.session import ABORTED, AGGREGATED, Sessions, joined
from fedsim.device.spent import Spent
from fedsim.device.work import Work
from fedsim.device.world import World
from fedsim.files import write_table
from fedsim.moved import names_of
from fedsim.schema import NETWORKS, OUTCOMES, SESSIONS, Table
from fedsim.units import US_PER_S, FloatArray, IntArray, to_us

globals()["__getattr__"] = names_of(__name__)  # set so that type checkers do not take any name for granted

ROWS_PER_FLUSH = 1 << 16
ROWS_PER_FILE = 1 << 21
_UJ_PER_J = 1_000_000
_OPEN_PART = ".part.tmp"  # a part gets its name when it is whole


class RowLog:
    """A small table collected row by row and written at the end."""

    def __init__(self, schema: Table) -> None:
        self.schema = schema
        self.rows: list[dict[str, Any]] = []

    def add(self, **row: Any) -> None:
        """Append one row; its keys are the schema's columns."""
        self.rows.append(row)

    def write(self, folder: Path) -> None:
        """Write ``<name>.parquet``."""
        write_table(
            folder / f"{self.schema.name}.parquet", pa.Table.from_pylist(self.rows, self.schema.arrow()), self.schema
        )


class SessionLog:
    """The session table: rows in the order in which they were decided, completed with what they spent.

    :meth:`advance` says that no row will come that was decided before the last one of them; up to there they are added
    in any order, those decided at one instant in theirs. They are written in blocks of a fixed number of rows, so the
    files do not depend on how often that is said. A portion is written aside, while the run goes on.
    """

    def __init__(self, folder: Path | None, world: World, work: Work) -> None:
        self._folder, self._world, self._work = folder, world, work
        self._pending: list[tuple[Sessions, FloatArray]] = []
        self._n_pending, self._n_in_file, self._n_files = 0, 0, 0
        self._writer: pq.ParquetWriter | None = None
        self._aside = ThreadPoolExecutor(1, "sessions")  # writes one portion while the run goes on to the next
        self._written: Future[None] | None = None
        self.outcome_counts = np.zeros(len(OUTCOMES), dtype=np.int64)
        self.download_bytes = self.upload_bytes = self.metered_bytes = 0
        self._is_metered = np.isin(NETWORKS, world.metered)
        # By outcome, in whole microseconds and microjoules: sums that do not depend on how often rows are written.
        self._device_us, self._uj = np.zeros((2, len(OUTCOMES)), dtype=np.int64)

    def add(self, rows: Sessions, decided_at: FloatArray) -> None:
        """Add sessions whose outcome was decided at these instants."""
        self._pending.append(_in_order(rows, decided_at))
        self._n_pending += len(rows)

    def advance(self) -> None:
        """All that was decided up to now has been added: write it, but for a block that is not full."""
        if self._n_pending >= ROWS_PER_FLUSH:
            rows, decided_at = self._all_in_order()
            n = len(rows) // ROWS_PER_FLUSH * ROWS_PER_FLUSH
            # In this order: a run that is stopped between the two lines loses rows, but has none twice.
            self._pending, self._n_pending = [(rows[n:], decided_at[n:])], len(rows) - n
            self._write_aside(rows[:n])

    def _all_in_order(self) -> tuple[Sessions, FloatArray]:
        rows = joined([rows for rows, _ in self._pending])
        return _in_order(rows, np.concatenate([np.zeros(0), *(at for _, at in self._pending)]))

    def _write_aside(self, rows: Sessions) -> None:
        """Write these rows as soon as those before are written; no more than one portion waits."""
        self._wait()
        self._written = self._aside.submit(self._write_blocks, rows)

    def _wait(self) -> None:
        """What was to be written is; raises what went wrong with it."""
        if self._written is not None:
            self._written.result()

    def _write_blocks(self, rows: Sessions) -> None:
        for start in range(0, len(rows), ROWS_PER_FLUSH):
            self._write_block(rows[start : start + ROWS_PER_FLUSH])

    def _write_block(self, rows: Sessions) -> None:
        spent = self._world.spent(rows, self._work)
        joules = spent.download_j + spent.compute_j + spent.upload_j
        self.outcome_counts += np.bincount(rows["outcome"], minlength=len(OUTCOMES))
        np.add.at(self._device_us, rows["outcome"], to_us(rows["end_at"]) - to_us(rows["assigned_at"]))
        np.add.at(self._uj, rows["outcome"], np.rint(joules * _UJ_PER_J).astype(np.int64))
        self.download_bytes += int(spent.download_bytes.sum())
        self.upload_bytes += int(spent.upload_bytes.sum())
        self.metered_bytes += int(spent.download_bytes[self._is_metered[rows["network"]]].sum())
        self.metered_bytes += int(spent.upload_bytes[self._is_metered[rows["upload_network"]]].sum())
        if self._folder is not None:
            self._write(self._folder, session_table(rows, spent, self._world, self._work))

    @property
    def device_s(self) -> FloatArray:
        """Seconds in sessions by outcome."""
        return self._device_us / US_PER_S

    @property
    def joules(self) -> FloatArray:
        """Energy of sessions by outcome."""
        return self._uj / _UJ_PER_J

    def _write(self, folder: Path, table: pa.Table) -> None:
        if self._writer is None:
            folder.mkdir(parents=True, exist_ok=True)
            self._writer = pq.ParquetWriter(
                folder / _OPEN_PART, SESSIONS.arrow(), compression="zstd", compression_level=1, use_dictionary=False
            )
        self._writer.write_table(table)
        self._n_in_file += table.num_rows
        if self._n_in_file >= ROWS_PER_FILE:
            self._close_file(folder)

    def _close_file(self, folder: Path) -> None:
        if self._writer is not None:
            self._writer.close()
            os.replace(folder / _OPEN_PART, folder / f"part-{self._n_files:05d}.parquet")
            self._writer, self._n_in_file = None, 0
            self._n_files += 1

    def stop(self) -> None:
        """Nothing is written any more, whatever is not: for a run that ends, well or not."""
        self._aside.shutdown()

    def close(self) -> None:
        """Write the rest."""
        self._wait()
        rows = self._all_in_order()[0]
        self._write_blocks(rows)
        self._pending, self._n_pending = [], 0
        if not self.outcome_counts.any():
            self._write_block(rows)  # a table without rows is a table
        if self._folder is not None:
            self._close_file(self._folder)


def _in_order(rows: Sessions, decided_at: FloatArray) -> tuple[Sessions, FloatArray]:
    """By the instant of decision; those of one instant stay in their order."""
    if (decided_at[1:] >= decided_at[:-1]).all():
        return rows, decided_at
    order = np.argsort(decided_at, kind="stable")
    return rows.take(order), decided_at[order]


def session_table(rows: Sessions, spent: Spent, world: World, work: Work) -> pa.Table:
    """Ended sessions as the documented table; instants a session did not reach are null."""
    did_not_upload = (rows["train_end_at"] > rows["end_at"]) | (rows["outcome"] == ABORTED)
    did_not_arrive = (rows["upload_end_at"] > rows["end_at"]) | (rows["outcome"] == ABORTED)
    row, latency_ms = world.phone_columns(rows["device_id"])
    received = np.divide(
        spent.download_bytes, rows["download_bytes"], out=np.zeros(len(rows)), where=rows["download_bytes"] > 0
    )

    def of_kind(planned: npt.ArrayLike) -> IntArray:
        """Bytes of a kind that were received."""
        moved: IntArray = np.rint(planned * received).astype(np.int64)
        return moved

    def reached(name: str) -> pa.Array:
        return pa.array(rows[name], mask=rows[name] > rows["end_at"])

    def happened(name: str) -> pa.Array:
        return pa.array(rows[name], mask=np.isinf(rows[name]))

    columns = {
        "download_end_at": reached("download_end_at"),
        "train_end_at": reached("train_end_at"),
        "upload_end_at": pa.array(rows["upload_end_at"], mask=did_not_arrive),
        "ingest_start_at": happened("ingest_start_at"),
        "ingested_at": happened("ingested_at"),
        "trained_fraction": pa.array(rows["trained_fraction"], mask=rows["train_end_at"] > rows["end_at"]),
        "staleness": pa.array(rows["staleness"], mask=rows["staleness"] < 0),
        "weight": pa.array(rows["weight"], mask=rows["outcome"] != AGGREGATED),
        "upload_network": pa.array(rows["upload_network"], mask=did_not_upload),
        "region": world.fleet.region_of(rows["cell"]).astype(np.int8),
        "phone_row": pa.array(row, mask=row < 0),
        "inference_ms": pa.array(latency_ms, mask=np.isnan(latency_ms)),
        "download_wait_s": pa.array(rows["download_wait_s"], mask=rows["download_end_at"] > rows["end_at"]),
        "upload_wait_s": pa.array(rows["upload_wait_s"], mask=did_not_arrive),
        "assets_bytes": of_kind(rows["assets_bytes"]),
        "shipped_bytes": of_kind(work.shipped_sizes(rows["n_examples"])),
        "plan_bytes": of_kind(np.full(len(rows), work.plan_bytes)),
        "compute_s": spent.compute_s,
        "download_bytes": spent.download_bytes,
        "upload_bytes": spent.upload_bytes,
        "download_j": spent.download_j,
        "compute_j": spent.compute_j,
        "upload_j": spent.upload_j,
        "battery_start_percent": pa.array(rows["battery_percent"], mask=np.isnan(rows["battery_percent"])),
        "battery_used_percent": pa.array(spent.battery_percent, mask=np.isnan(spent.battery_percent)),
    }
    arrays = [columns[c.name] if c.name in columns else np.ascontiguousarray(rows[c.name]) for c in SESSIONS.columns]
    return pa.table([pa.array(a) for a in arrays], schema=SESSIONS.arrow())
