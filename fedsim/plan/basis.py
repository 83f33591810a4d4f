"""What figures of money, energy and carbon rest on, where nothing else is said: the shipped tables."""

from __future__ import annotations

from fedsim.forecast.tables import read_constants, read_grid, read_prices
from fedsim.plan.quantities import MONTH_DAYS, Basis


def shipped_basis() -> Basis:
    """Shipped prices, constants and grid; a campaign a month."""
    return Basis(read_prices(), read_constants(), read_grid(), retrain_days=MONTH_DAYS)
