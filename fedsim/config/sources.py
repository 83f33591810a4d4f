"""Which YAML files a configuration comes from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from fedsim.config.compose import hydra_to_ourselves, users_folders
from fedsim.files import shipped


def chosen_files(overrides: Sequence[str]) -> list[tuple[str, Path]]:
    """The files of the options that are chosen, each with the dotted place of its values; those above come first.

    Of files that others take as their defaults (``million`` of ``app``) the option's own name counts, and theirs too.
    """
    with hydra_to_ourselves(), initialize_config_dir(version_base="1.3", config_dir=str(shipped("configs"))):
        config = compose("config", overrides=list(overrides), return_hydra_config=True)
    choices = OmegaConf.to_container(config.hydra.runtime.choices)
    folders = [shipped("configs"), *users_folders()]
    found = [("", shipped("configs") / "config.yaml")]
    for group, option in dict(choices or {}).items():  # type: ignore[arg-type]
        if str(group).startswith("hydra") or option is None or "@" in str(group):
            continue
        prefix = "" if str(group) == "experiment" else str(group).replace("/", ".")
        found += [(prefix, file) for file in _with_bases(folders, str(group), str(option))]
    return found


def _with_bases(folders: Sequence[Path], group: str, option: str) -> list[Path]:
    """The file of an option behind those it names as its defaults in the same group."""
    file = next(
        (each / group / f"{option}.yaml" for each in folders if (each / group / f"{option}.yaml").exists()), None
    )
    if file is None:
        return []
    told = OmegaConf.to_container(OmegaConf.load(file))
    defaults = told.get("defaults", []) if isinstance(told, dict) else []
    bases = [str(each) for each in defaults if isinstance(each, str) and each != "_self_"]
    return [*(path for base in bases for path in _with_bases(folders, group, base)), file]
