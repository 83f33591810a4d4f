"""Prices, constants and the carbon of power grids: files of keys with their units, shipped ones or the user's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from fedsim.errors import InputError
from fedsim.files import existing

_HERE = Path(__file__).parent
PRICES, CONSTANTS, GRID = _HERE / "prices.yaml", _HERE / "constants.yaml", _HERE / "grid.csv"
WORLD = "WOR"  # the row of a grid table that stands for all countries


@dataclass(frozen=True)
class Prices:
    """A price list; ``egress_tiers`` are (from so many GB a month, price of a GB beyond), ascending."""

    currency: str
    date: str
    egress_tiers: tuple[tuple[float, float], ...]
    worker_per_h: float
    tee_surcharge_fraction: float
    storage_per_gb_month: float


@dataclass(frozen=True)
class Constants:
    """What is assumed besides what was simulated: see the file for sources and ranges."""

    check_in_retry_s: float
    ingest_report_s: float
    ingest_bytes_per_s: float
    wait_p99_s: float
    model_copies_per_worker: float
    checkpoints_kept: float
    battery_wh: float
    server_w: float
    n_server_processes: float
    pue: float
    server_country: str
    network_kwh_per_gb: float
    network_kwh_per_gb_low: float
    network_kwh_per_gb_high: float


def read_prices(path: Path = PRICES) -> Prices:
    """The price list of a file; a missing, unknown, negative or wrongly named price is an :class:`InputError`."""
    told = _keys(path, "price list", Prices)
    tiers = told["egress_tiers"]
    if not isinstance(tiers, list) or not tiers or not all(_is_tier(tier) for tier in tiers):
        allowed = "a list of {from_gb: …, per_gb: …}, from 0 up"
        raise InputError("egress_tiers of the price list", value=tiers, where=path, allowed=allowed)
    pairs = tuple((float(tier["from_gb"]), float(tier["per_gb"])) for tier in tiers)
    if pairs[0][0] != 0 or any(a[0] >= b[0] for a, b in pairwise(pairs)):
        raise InputError("egress_tiers of the price list", value=pairs, where=path, allowed="from 0 up, ascending")
    return Prices(**(_numbers(told, path, but=("currency", "date", "egress_tiers")) | {"egress_tiers": pairs}))


def _is_tier(tier: Any) -> bool:
    return (
        isinstance(tier, Mapping)
        and set(tier) == {"from_gb", "per_gb"}
        and all(
            isinstance(value, int | float) and not isinstance(value, bool) and value >= 0 for value in tier.values()
        )
    )


def read_constants(path: Path = CONSTANTS) -> Constants:
    """The constants of a file."""
    return Constants(**_numbers(_keys(path, "constants", Constants), path, but=("server_country",)))


def _keys(path: Path, what: str, kind: type) -> dict[str, Any]:
    try:
        told = yaml.safe_load(existing(path, what).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{what} cannot be read ({error})", where=path) from error
    names = [field.name for field in fields(kind) if field.default is MISSING]
    if not isinstance(told, Mapping):
        raise InputError(f"{what} is not a mapping of keys to values", where=path, allowed=", ".join(names))
    for name in told:
        if name not in names:
            near = get_close_matches(str(name), names, 1)
            raise InputError(f"unknown key of the {what}", value=name, where=path, allowed=", ".join(near or names))
    missing = [name for name in names if name not in told]
    if missing:
        raise InputError(f"{what} lacks", value=missing[0], where=path)
    return dict(told)


def _numbers(told: Mapping[str, Any], path: Path, *, but: tuple[str, ...]) -> dict[str, Any]:
    for name, value in told.items():
        if name not in but and (isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0):
            raise InputError(name, value=value, where=path, allowed="a number that is not negative")
    return {name: str(value) if name in but else float(value) for name, value in told.items()}


def read_grid(path: Path = GRID) -> dict[str, float]:
    """Grams of CO2e per kilowatt-hour by country (ISO 3166 code of three letters; ``WOR``: the world)."""
    try:
        text = existing(path, "grid table").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"grid table cannot be read ({error})", where=path) from error
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if not lines or lines[0].split(",") != ["country", "g_co2e_per_kwh"]:
        raise InputError("grid table", value=lines[:1], where=path, allowed="the header country,g_co2e_per_kwh")
    found: dict[str, float] = {}
    for line in lines[1:]:
        country, _, value = line.partition(",")
        try:
            found[country.strip()] = float(value)
        except ValueError as error:
            raise InputError("row of the grid table", value=line, where=path, allowed="COUNTRY,NUMBER") from error
    return found


def intensity_of(grid: Mapping[str, float], country: str | None) -> float:
    """Grams of CO2e per kilowatt-hour; of no country the world's. One without a value is an :class:`InputError`."""
    name = WORLD if country is None else country
    if name not in grid:
        codes = f"{', '.join(sorted(grid)[:8])}{', …' if len(grid) > 8 else ''}"
        raise InputError("the grid table has no value for this country", value=name, allowed=f"its codes: {codes}")
    return grid[name]
