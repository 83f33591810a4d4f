"""``fedsim forecast``: what servers, network and phones must carry."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from fedsim.errors import InputError
from fedsim.files import write_json
from fedsim.forecast.forecast import forecast
from fedsim.forecast.tables import CONSTANTS, GRID, PRICES, read_constants, read_grid, read_prices
from fedsim.report.forecast_page import write_forecast
from fedsim.report.forecast_text import markdown
from fedsim.results.runs import found_runs


def main(
    folders: Sequence[Path],
    *,
    population: int | None,
    prices_file: Path | None,
    grid_file: Path | None,
    constants_file: Path | None,
    out: Path,
) -> None:
    """Print the tables and write ``forecast.json`` and ``forecast.html`` into ``out``."""
    if population is not None and population < 1:
        raise InputError("--population", value=population, allowed="1 and more")
    prices, constants = read_prices(prices_file or PRICES), read_constants(constants_file or CONSTANTS)
    grid = read_grid(grid_file or GRID)
    runs = found_runs(folders, may_be_incomplete=False)
    if len(runs.arms) > 1:
        labels = "; ".join(arm.label for arm in runs.arms)
        raise InputError("a forecast is of one configuration, these runs are of several", value=labels)
    found = forecast(runs.arms[0], prices=prices, constants=constants, grid=grid, population=population)
    for line in (*runs.left_out, *found.remarks):
        print(f"fedsim: {line}", file=sys.stderr)
    out.mkdir(parents=True, exist_ok=True)
    print(markdown(found))
    write_json(out / "forecast.json", found.told())
    page = write_forecast(out / "forecast.html", found, prices=prices, constants=constants)
    print(f"\n{page}")
