"""A fleet's hardware from its model shares: models joined by name to two benchmarks, the rest drawn."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv

from fedsim import rng
from fedsim.errors import InputError
from fedsim.files import read_json
from fedsim.schema import HARDWARE, Column, Table
from fedsim.traces.importers.propius import PhoneTable
from fedsim.traces.importers.trend import Trend
from fedsim.traces.measurements import weighted_quantiles

Row = dict[str, Any]
"""Fields of :data:`fedsim.schema.HARDWARE`; what is absent is unknown."""

_MOST = 1e30  # of a score, a latency or a memory
_YEARS = range(1990, 2100)
_TEXT = pa.string()
_CATALOGUE = Table(
    "model catalogue",
    "phones per model",
    (
        Column("model", _TEXT, "Build.MODEL"),
        Column("n_of_1000", pa.int32(), "phones of that model"),
        Column("marketing_name", _TEXT, "name it is sold under", True),
        Column("propius_device", _TEXT, "phone of the Propius table", True),
        Column("propius_speed_ms", pa.float64(), "its latency", True),
        Column("ai2020_name_match", _TEXT, "phone of AI-Benchmark 2020, matched by market name", True),
        Column("flash_benchmark_name", _TEXT, "phone of AI-Benchmark 2020, as FLASH matched it", True),
    ),
)
_DRAWN = ("inference_ms_per_sample", "ram_gb", "os_version")


def load_catalogue(path: Path) -> list[Row]:
    """The models of a fleet with the names by which benchmarks know them; empty cells are None.

    Raises:
        InputError: a column that is missing or has the wrong type, a model without phones.
    """
    try:
        table = pyarrow.csv.read_csv(path, convert_options=pyarrow.csv.ConvertOptions(strings_can_be_null=True))
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"model catalogue cannot be read ({error})", where=path) from error
    models: list[Row] = _CATALOGUE.check(table, where=path).to_pylist()
    empty = [model["model"] for model in models if model["n_of_1000"] < 1]
    if empty or not models:
        raise InputError("a model without phones: n_of_1000", value=empty[:1], where=path, allowed="1 or more")
    for row, model in enumerate(models):
        latency_ms = model["propius_speed_ms"]
        if latency_ms is not None and not 0 < latency_ms <= _MOST:
            what = f"propius_speed_ms out of range at row {row}"
            raise InputError(what, value=latency_ms, where=path, allowed=f"above 0, up to {_MOST:g}")
    return models


def with_names(models: Iterable[Row], names: Any, *, where: Path) -> list[Row]:
    """The models with their AI-Benchmark phone looked up in FLASH's own table, ``{Build.MODEL: name or "unknown"}``."""
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise InputError("model names must be an object of texts", where=where, allowed='{"Build.MODEL": "name", …}')
    known = {model: name for model, name in names.items() if name != "unknown"}
    return [model | {"flash_benchmark_name": known.get(model["model"])} for model in models]


@dataclass(frozen=True)
class Scores:
    """AI-Benchmark 2020: facts of each phone, and its CPU float score (mean over the entries of a name)."""

    facts: Mapping[str, Row]
    cpu_score: Mapping[str, float]

    @classmethod
    def load(cls, path: Path) -> Scores:
        """Read the ranking, in which numbers stand as texts."""
        entries = read_json(path, "AI-Benchmark ranking")
        if not isinstance(entries, list) or not entries:
            raise InputError("the ranking must be a list of phones", where=path, allowed="[{…}, …]")
        facts: dict[str, Row] = {}
        scores: dict[str, list[float]] = {}
        for number, entry in enumerate(entries):
            name, score, known = _score_entry(entry, f"entry {number} of {path}")
            facts.setdefault(name, known)
            scores.setdefault(name, []).append(score)
        return cls(facts, {name: fmean(found) for name, found in scores.items()})


def _score_entry(entry: Any, where: str) -> tuple[str, float, Row]:
    try:
        facts: Row = {
            "soc": str(entry["CPU"]),
            "year": int(entry["Year"]),
            "ram_gb": float(entry["RAM"].removesuffix("GB")),
            "os_version": float(entry["Android"]),
        }
        name, score = str(entry["Model"]), float(entry["CPU_F_AI_Score"])
        for number in (score, facts["ram_gb"], facts["os_version"]):
            if not 0 < number <= _MOST:
                raise ValueError(f"a number out of range, {number}")
        if facts["year"] not in _YEARS:
            raise ValueError(f"a year out of range, {facts['year']}")
        return name, score, facts
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        allowed = "Model, CPU, Year, RAM '4GB', Android, CPU_F_AI_Score"
        raise InputError(f"bad phone ({type(error).__name__}: {error})", where=where, allowed=allowed) from error


def fleet_hardware(
    models: Sequence[Row], *, scores: Scores | None, phones: PhoneTable | None, seed: int
) -> tuple[pa.Table, dict[str, Any]]:
    """The ``hardware`` table of the fleet, and how many of its phones were matched by what.

    Raises:
        InputError: no model matches, so there is nothing to draw from.
    """
    by_name = {} if phones is None else _by_name(phones)
    trend = None if scores is None else _score_trend(models, scores, by_name)
    matched = [_matched(model, by_name, scores, trend) for model in models]
    rows = [_row(model, match, len(found)) for model, found in zip(models, matched, strict=True) for match in found]
    if not rows:
        raise InputError("no model of the catalogue matches a benchmark", value=models[0]["model"])
    unmatched = [model for model, found in zip(models, matched, strict=True) if not found]
    rows += _draw(unmatched, rows, seed)
    said = {"n_models": len(models), "n_phones_by_latency_source": _phones_by_source(rows), "seed": seed}
    if trend is not None:
        said["trend"] = f"{trend.factor:.4g} ms * score ** {trend.exponent:.4g}, spread {trend.spread:.3g}"
    return pa.Table.from_pylist(rows, HARDWARE.arrow()), said


def _phones_by_source(rows: Iterable[Row]) -> dict[str, float]:
    counts: dict[str, float] = {}
    for row in rows:
        counts[row["latency_source"]] = counts.get(row["latency_source"], 0.0) + row["weight"]
    return {source: round(count, 6) for source, count in counts.items()}


def _by_name(phones: PhoneTable) -> dict[str, list[Row]]:
    """What Propius knows of each name; a phone ranked in several versions has several rows."""
    found: dict[str, list[Row]] = {}
    for row in phones.hardware("trend").to_pylist():
        known = ("inference_ms_per_sample", "ram_gb", "os_version", "cpu_score", "latency_source")
        found.setdefault(row["model"], []).append({name: row[name] for name in known})
    return found


def _score_trend(models: Sequence[Row], scores: Scores, by_name: Mapping[str, list[Row]]) -> Trend | None:
    """Latency over score where a phone has both: all names of Propius if it is there, else the catalogue's pairs."""
    latency_ms = {name: fmean(row["inference_ms_per_sample"] for row in rows) for name, rows in by_name.items()}
    if not latency_ms:
        noted = ((_score_name(model), model["propius_speed_ms"]) for model in models)
        latency_ms = {name: ms for name, ms in noted if name is not None and ms is not None}
    shared = sorted(set(latency_ms) & set(scores.cpu_score))
    x, y = [scores.cpu_score[name] for name in shared], [latency_ms[name] for name in shared]
    return Trend.of(x, y) if len(set(x)) > 1 else None


def _score_name(model: Row) -> str | None:
    name: str | None = model["ai2020_name_match"] or model["flash_benchmark_name"]
    return name


def _matched(model: Row, by_name: Mapping[str, list[Row]], scores: Scores | None, trend: Trend | None) -> list[Row]:
    """The versions of the model's phone that a benchmark knows; Propius first, then the score, then none."""
    name = _score_name(model)
    facts: Row = {} if scores is None or name is None else dict(scores.facts.get(name, {}))
    if model["propius_device"] in by_name:
        return [facts | row for row in by_name[model["propius_device"]]]
    if model["propius_speed_ms"] is not None:
        return [facts | {"inference_ms_per_sample": model["propius_speed_ms"], "latency_source": "measured"}]
    if not facts or scores is None or trend is None or name is None:
        return []
    latency_ms = float(trend.at(scores.cpu_score[name]))
    return [facts | {"inference_ms_per_sample": latency_ms, "latency_source": "score"}]


def _row(model: Row, facts: Row, n_versions: int) -> Row:
    named = {"model": model["model"], "market_name": model["marketing_name"]}
    return facts | named | {"weight": model["n_of_1000"] / n_versions}


def _draw(models: Sequence[Row], matched: Sequence[Row], seed: int) -> list[Row]:
    """Rows of the models that match nowhere, drawn by weight from the matched ones at or above the median latency."""
    latency_ms = np.array([row["inference_ms_per_sample"] for row in matched])
    weight = np.array([row["weight"] for row in matched])
    weight[latency_ms < weighted_quantiles(latency_ms, weight, q=[0.5])[0]] = 0.0
    until = np.cumsum(weight)
    draws = rng.uniform(seed, "flash_tables/unmatched", np.arange(len(models))) * until[-1]
    donors = [matched[k] for k in np.searchsorted(until, draws, side="right")]
    drawn = ({name: donor.get(name) for name in _DRAWN} | {"latency_source": "drawn"} for donor in donors)
    return [_row(model, facts, 1) for model, facts in zip(models, drawn, strict=True)]
