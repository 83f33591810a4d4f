"""Checkpoints of models in a run's folder: what rebuilds the module beside its tensors, and a module from both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from fedsim.config.build import check_group
from fedsim.config.roles import named
from fedsim.config.trainer import build_module
from fedsim.errors import InputError
from fedsim.files import existing, write_text

FOLDER = "model"  # in a run's folder
_HEAD = "# Rebuilds the module whose tensors lie beside: hydra.utils.instantiate(module), then load_state_dict.\n"


def require_apart(init_from: str | None, folder: Path) -> None:
    """Refuse to start a run from a file in its own folder, which ``force=true`` clears."""
    if init_from is not None and folder.resolve() in Path(init_from).resolve().parents:
        raise InputError("model.init_from lies in the run's own folder", value=init_from, allowed="a copy elsewhere")


def write_module(folder: Path, module: dict[str, Any]) -> None:
    """Write what rebuilds the module of a run."""
    text = yaml.safe_dump({"module": module}, sort_keys=False, allow_unicode=True)
    write_text(folder / FOLDER / "model.yaml", _HEAD + text)


def model_of(run_folder: Path, which: str) -> Any:
    """The ``torch.nn.Module`` of a run: its ``final`` version, its ``best`` one, or the ``central`` baseline."""
    folder = run_folder / FOLDER
    if not folder.exists():
        raise InputError("the run has no model", where=run_folder, allowed="runs that trained to an end")
    there = sorted(path.stem for path in folder.glob("*.safetensors"))
    if which not in there:
        raise InputError("no such model of the run", value=which, where=folder, allowed=", ".join(there))
    try:
        said = yaml.safe_load(existing(folder / "model.yaml", "model.yaml").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"model.yaml cannot be read ({error})", where=folder) from error
    check_group(said, "model.yaml")
    check_group(said.get("module"), "module")
    start_from = named("fedsim.training.checkpoint.start_from", "model")
    return start_from(build_module(said["module"]), folder / f"{which}.safetensors").eval()
