"""FLASH's tables beside its traces: model shares, AI-Benchmark 2020, phone speeds, layer timings (one folder).

- ``model_catalogue_1000.csv``: the models of FLASH's 1000 phones with their counts and, where a name matched, their
  Propius phone (latency of 2023) and AI-Benchmark name (scores of 2020). It becomes the ``hardware`` table of a
  fleet: one row per model (several where its phone was ranked in several versions), weight = phones of that model.
- ``raw_ai_benchmark_list.json``, ``real2benchmark.json``: scores by phone, phone by ``Build.MODEL``. The CPU float
  score gives a latency to models that Propius lacks, by the trend over the phones that both tables name.
- ``speed_distri.json``: up and down rate of 19 phones on Wi-Fi, mean and standard deviation, KB/s of 1024 bytes
  (FLASH divides the model's bytes by 1024) → ``levels``.
- ``on_device_layer_train_time.parquet``: measured steps of single layers on three phones → ``profiles``.

Models that match nowhere (56 % of the phones) are cheap ones that no benchmark lists: each draws its latency, RAM
and OS from the matched models that are no faster than the median matched phone.
Source: Yang et al., WWW 2021 (FLASH), ``models/``; AI-Benchmark 2020 and 2023 (ai-benchmark.com).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fedsim.errors import InputError, shown
from fedsim.files import existing, read_json
from fedsim.schema import HARDWARE, LEVELS, NETWORKS, PROFILES, Column, Table
from fedsim.traces.importers.fleet_models import Scores, fleet_hardware, load_catalogue, with_names
from fedsim.traces.importers.propius import PhoneTable
from fedsim.traces.importers.source import Source, source_file
from fedsim.traces.measurements import MeasurementWriter

_SOURCE = Source(
    "flash_tables",
    "FLASH device tables (Yang et al., WWW 2021), AI-Benchmark 2020 and 2023 (ai-benchmark.com)",
    "BSD-2-Clause (FLASH), MIT (Propius, names of Google Play models), as stated by their repositories",
)
_CATALOGUE, _SPEEDS = "model_catalogue_1000.csv", "speed_distri.json"
_SCORES, _NAMES = "raw_ai_benchmark_list.json", "real2benchmark.json"
_TIMINGS = "on_device_layer_train_time.parquet"
_KB = 1024
_MOST_KB = 1e15
_SPEED_FIELDS = {
    "down_bytes_per_s": "down_u",
    "down_sd_bytes_per_s": "down_sigma",
    "up_bytes_per_s": "up_u",
    "up_sd_bytes_per_s": "up_sigma",
}
_LAYER_TIMINGS = Table(
    "layer timings",
    "FLASH's measured layers",
    (
        Column("device", pa.string(), "phone"),
        Column("layer", pa.string(), "embedding, lstm or output"),
        Column("in_size", pa.int32(), "input width"),
        Column("out_size", pa.int32(), "output width"),
        Column("batch_size", pa.int32(), "samples"),
        Column("seq_len", pa.int32(), "steps of the sequence"),
        Column("train_time_s", pa.float64(), "seconds"),
    ),
)


def import_flash_tables(src: Path, dst: Path, propius: Path | None = None, seed: int = 0) -> None:
    """Write what the folder has of hardware, levels and profiles; ``propius`` is the Propius pickle.

    Without ``propius`` latencies are those noted in the catalogue, and RAM and OS are AI-Benchmark's of 2020.

    Raises:
        InputError: a folder with none of the tables; a row that breaks its format.
    """
    folder = existing(src, "folder of FLASH's tables")
    files = [folder / name for name in (_CATALOGUE, _SCORES, _NAMES, _SPEEDS, _TIMINGS) if (folder / name).exists()]
    if not files:
        raise InputError("none of FLASH's tables found", where=folder, allowed=f"{_CATALOGUE}, {_SPEEDS}, {_TIMINGS}")
    files += [] if propius is None else [source_file(propius, "Propius pickle")]
    with MeasurementWriter(dst) as writer:
        writer.provenance = _SOURCE.provenance(files, [])  # each table adds how it was made
        if (folder / _CATALOGUE).exists():
            _write_hardware(folder, writer, propius, seed)
        if (folder / _SPEEDS).exists():
            _write_levels(folder / _SPEEDS, writer)
        if (folder / _TIMINGS).exists():
            _write_profiles(folder / _TIMINGS, writer)


def _write_hardware(folder: Path, writer: MeasurementWriter, propius: Path | None, seed: int) -> None:
    models = load_catalogue(folder / _CATALOGUE)
    if (folder / _NAMES).exists():
        models = with_names(models, read_json(folder / _NAMES, "FLASH model names"), where=folder / _NAMES)
    scores = Scores.load(folder / _SCORES) if (folder / _SCORES).exists() else None
    phones = None if propius is None else PhoneTable.load(propius)
    hardware, said = fleet_hardware(models, scores=scores, phones=phones, seed=seed)
    writer.add(HARDWARE, hardware)
    writer.provenance["hardware"] = said
    latencies = "as noted in the catalogue" if phones is None else "suspect ones replaced by their trend over CPU score"
    writer.provenance["transforms"] += [
        "hardware: weight = phones of that model, shared evenly by the versions of a phone",
        f"hardware: Propius latencies, {latencies}",
        "hardware: models that only AI-Benchmark 2020 lists: latency by the trend over its CPU float score",
        "hardware: models that match nowhere: latency, RAM and OS of a phone drawn by weight from the matched ones "
        "that are no faster than their median",
    ]


def _write_levels(path: Path, writer: MeasurementWriter) -> None:
    speeds = read_json(path, "FLASH phone speeds")
    if not isinstance(speeds, dict) or not speeds:
        raise InputError("phone speeds must be an object of phones", where=path, allowed='{"guid": {…}, …}')
    columns: dict[str, Any] = {
        name: [_speed(entry, field, f"phone {shown(phone)} of {path}") * _KB for phone, entry in speeds.items()]
        for name, field in _SPEED_FIELDS.items()
    }
    columns |= {"network": [NETWORKS.index("wifi")] * len(speeds), "device_id": list(speeds)}
    writer.add(LEVELS, pa.table(columns))
    writer.provenance["transforms"].append("levels: KB/s of 1024 bytes to bytes/s")


def _speed(entry: Any, field: str, where: str) -> float:
    value: Any = entry.get(field) if isinstance(entry, dict) else None
    if type(value) not in (int, float) or not 0 <= value <= _MOST_KB:
        allowed = f"up to {_MOST_KB:g} KB/s"
        raise InputError(f"field {field!r} must be a number, zero or above", value=value, where=where, allowed=allowed)
    return float(value)


def _write_profiles(path: Path, writer: MeasurementWriter) -> None:
    first = 0
    try:
        batches = pq.ParquetFile(path).iter_batches()
        for batch in batches:
            rows = _LAYER_TIMINGS.check(pa.Table.from_batches([batch]), where=path)
            _check_durations(rows, path, first=first)
            first += rows.num_rows
            device = pc.replace_substring(rows.column("device"), "sumsung", "samsung")
            columns = {name: rows.column(name) for name in ("in_size", "out_size", "batch_size", "seq_len")}
            columns |= {"device": device, "op": rows.column("layer"), "step_s": rows.column("train_time_s")}
            writer.add(PROFILES, pa.table(columns | {"kind": pa.array(["train_step"] * rows.num_rows)}))
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"layer timings cannot be read ({error})", where=path) from error
    writer.provenance["transforms"].append("profiles: phone 'sumsung_note10' spelt samsung_note10")


def _check_durations(rows: pa.Table, where: Path, *, first: int) -> None:
    step_s = rows.column("train_time_s").to_numpy()
    bad = np.flatnonzero(~((step_s > 0) & (step_s < np.inf)))
    if bad.size:
        what = f"train_time_s must be above zero at row {first + bad[0]}"
        raise InputError(what, value=float(step_s[bad[0]]), where=where)
