"""Countries as regions of a fleet: how far their clocks run ahead of Universal Time."""

from __future__ import annotations

from collections.abc import Mapping

from fedsim.errors import InputError

# Standard time where most of the country's people live, hours ahead of UTC (IANA time zone database). Simplification:
# one zone for a country, no daylight saving time; `fleet.regions` takes any other shares and offsets.
OFFSET_H = {
    "ARG": -3, "AUS": 10, "BGD": 6, "BRA": -3, "CAN": -5, "CHN": 8, "COL": -5, "DEU": 1, "EGY": 2, "ESP": 1, "FRA": 1,
    "GBR": 0, "IDN": 7, "IND": 5.5, "IRN": 3.5, "ITA": 1, "JPN": 9, "KEN": 3, "KOR": 9, "MEX": -6, "NGA": 1, "NLD": 1,
    "PAK": 5, "PHL": 8, "POL": 1, "RUS": 3, "SWE": 1, "THA": 7, "TUR": 3, "UKR": 2, "USA": -5, "VNM": 7, "ZAF": 2,
}  # fmt: skip
_SUM = 1e-6


def region_overrides(shares: Mapping[str, float]) -> list[str]:
    """Overrides of ``fleet.regions`` for shares of countries.

    Raises :class:`InputError` for a country without an offset, and for shares that are not one together.
    """
    for name in shares:
        if name not in OFFSET_H:
            raise InputError(
                "constraints.population.region_shares: country", value=name, allowed=", ".join(sorted(OFFSET_H))
            )
    total = sum(shares.values())
    if abs(total - 1) > _SUM:
        raise InputError("constraints.population.region_shares are not 1 together", value=f"{total:g}", allowed="1")
    regions = ", ".join(
        f"{name}: {{share: {share!r}, utc_offset_hours: {OFFSET_H[name]}, country: {name}}}"
        for name, share in shares.items()
    )
    return [f"+fleet.regions={{{regions}}}", "fleet.regions.utc.share=0"]
