"""Make ``fedsim/forecast/grid.csv``, the carbon of a kilowatt-hour by country, from the wheel of a published package.

pip download ecologits==0.11.3 --no-deps -d DIR
python make_grid.py DIR/ecologits-0.11.3-py3-none-any.whl fedsim/forecast/grid.csv
"""

from __future__ import annotations

import hashlib
import json
import sys
import zipfile
from pathlib import Path

MEMBER = "ecologits/data/electricity_mixes.json"


def table(wheel: Path) -> str:
    """The file's text: where it is from, then a row for each zone of the package, g CO2e per kWh."""
    with zipfile.ZipFile(wheel) as package:
        mixes = json.loads(package.read(MEMBER))["electricity_mixes"]
    name, version = wheel.name.split("-")[:2]
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    head = [
        f"# {MEMBER} of {name} {version} (MPL-2.0), wheel sha256 {digest}",
        "# Global warming potential of a kWh of the country's mix, g CO2e; made by experiments/grid/make_grid.py",
        "country,g_co2e_per_kwh",
    ]
    rows = [f"{mix['name']},{1000 * mix['gwp']:g}" for mix in sorted(mixes, key=lambda mix: mix["name"])]
    return "\n".join([*head, *rows]) + "\n"


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(table(Path(sys.argv[1])), encoding="utf-8")
