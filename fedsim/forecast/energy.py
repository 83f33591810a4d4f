"""Energy and carbon of a run by Green FL's method (Yousefpour et al. 2023): phones, network and servers.

Phones: the joules of all sessions, wasted ones too. Network: bytes both ways by a constant per gigabyte. Servers: watts
of some processes all the time, times the data centre's overhead. Carbon: by the grid of the country of each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fedsim.forecast.tables import Constants, intensity_of
from fedsim.results.run import Run
from fedsim.units import HOUR_S, J_PER_KWH, FloatArray

GB = 1e9
PARTS = ("training on phones", "download radio", "upload radio", "network down", "network up", "servers")
# What Green FL publishes of its tasks, per cent (Yousefpour et al. 2023); its down- and uploads have radio and network.
GREEN_FL = {"client compute": (46, 50), "upload": (27, 29), "download": (22, 24), "server": (1, 2)}
_OF_SHARE = {
    "client compute": ("training on phones",),
    "upload": ("upload radio", "network up"),
    "download": ("download radio", "network down"),
    "server": ("servers",),
}
_COLUMNS = ("region", "download_j", "compute_j", "upload_j", "download_bytes", "upload_bytes")


@dataclass(frozen=True)
class Footprint:
    """Kilowatt-hours and kilograms of CO2e of a whole run, by :data:`PARTS`; what the network's constant makes of it.

    ``by_country`` is kg of phones and network by the country of the phone's region (None: not said, the world's grid).
    """

    kwh: Mapping[str, float]
    kg: Mapping[str, float]
    by_country: Mapping[str, float]
    kwh_low: float
    kwh_high: float
    kg_low: float
    kg_high: float


def footprint(run: Run, *, constants: Constants, grid: Mapping[str, float]) -> Footprint | None:
    """Energy and carbon of a run; None of one that booked no joule, whose phones' energy is not known.

    Raises :class:`InputError` for a country that the grid table does not have.
    """
    countries = _countries(run)
    joules, moved = _by_region(run, len(countries))
    if not joules.any():
        return None
    n_bytes = moved.sum(axis=0)
    per_kwh = np.array([intensity_of(grid, country) for country in countries]) / 1000.0
    phones = joules / J_PER_KWH  # [part, region]
    server_kwh = constants.server_w * constants.n_server_processes * constants.pue / 1000.0
    server_kwh *= float(run.summary["simulated_s"]) / HOUR_S
    server_kg = server_kwh * intensity_of(grid, constants.server_country) / 1000.0
    network = moved / GB * constants.network_kwh_per_gb  # [direction, region]
    kwh = [*phones.sum(axis=1).tolist(), *network.sum(axis=1).tolist(), server_kwh]
    kg = [*(phones @ per_kwh).tolist(), *(network @ per_kwh).tolist(), server_kg]
    low, high = (
        n_bytes / GB * (constant - constants.network_kwh_per_gb)
        for constant in (constants.network_kwh_per_gb_low, constants.network_kwh_per_gb_high)
    )
    of_region = (phones.sum(axis=0) + network.sum(axis=0)) * per_kwh
    by_country: dict[str, float] = {}
    for country, value in zip(countries, of_region.tolist(), strict=True):
        by_country[country or "not said"] = by_country.get(country or "not said", 0.0) + value
    return Footprint(
        kwh=dict(zip(PARTS, kwh, strict=True)),
        kg=dict(zip(PARTS, kg, strict=True)),
        by_country=by_country,
        kwh_low=sum(kwh) + float(low.sum()),
        kwh_high=sum(kwh) + float(high.sum()),
        kg_low=sum(kg) + float(low @ per_kwh),
        kg_high=sum(kg) + float(high @ per_kwh),
    )


def shares(kwh: Mapping[str, float]) -> dict[str, float]:
    """Shares of the energy as Green FL divides it: the names of :data:`GREEN_FL`."""
    total = sum(kwh.values())
    return {name: sum(kwh[part] for part in parts) / total for name, parts in _OF_SHARE.items()}


def _countries(run: Run) -> list[str | None]:
    """The country of each region of the fleet, in the order of the summary; None where the configuration says none."""
    regions = run.config.get("fleet", {}).get("regions") or {}
    return [(regions.get(name) or {}).get("country") for name in run.summary.get("regions", ["utc"])]


def _by_region(run: Run, n_regions: int) -> tuple[FloatArray, FloatArray]:
    """Joules ``[training, download, upload; region]`` and bytes ``[down, up; region]`` of all sessions."""
    joules, moved = np.zeros((3, n_regions)), np.zeros((2, n_regions))
    for batch in run.session_batches(_COLUMNS):
        region = batch.column("region").to_numpy().astype(np.int64)
        for row, name in zip(joules, ("compute_j", "download_j", "upload_j"), strict=True):
            row += np.bincount(region, weights=batch.column(name).to_numpy(), minlength=n_regions)
        for row, name in zip(moved, ("download_bytes", "upload_bytes"), strict=True):
            row += np.bincount(region, weights=batch.column(name).to_numpy(), minlength=n_regions)
    return joules, moved
