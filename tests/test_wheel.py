"""The wheel carries configs, reference traces and its types: installed elsewhere, it runs from an empty folder."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_wheel_runs_from_an_empty_folder(tmp_path: Path) -> None:
    wheels, site, empty = tmp_path / "wheels", tmp_path / "site", tmp_path / "empty"
    empty.mkdir()
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(wheels), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = wheels.glob("fedsim_fleet-*.whl")
    assert "fedsim/py.typed" in zipfile.ZipFile(wheel).namelist()
    subprocess.run([*pip, "install", "--no-deps", "--target", str(site), str(wheel)], check=True, capture_output=True)
    environment = {**os.environ, "PYTHONPATH": str(site)}
    code = (
        "import sys, fedsim; from fedsim.cli.main import main; "
        f"assert fedsim.__file__.startswith({str(site)!r}), fedsim.__file__; "
        "sys.exit(main(['run', 'stop.max_steps=2', 'hydra.run.dir=out']))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=empty, env=environment, check=True, capture_output=True)
    assert (empty / "out" / "summary.json").exists()
    assert (empty / "out" / "report.html").exists()
