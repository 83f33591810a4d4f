"""A model's tensors in a safetensors file, by the names of its ``state_dict``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from fedsim.errors import InputError
from fedsim.files import existing
from fedsim.targets import whole_file


def write_checkpoint(path: Path, model: nn.Module, told: Mapping[str, Any]) -> None:
    """Write all tensors of a module; ``told`` stands beside them in the file, as JSON. Tied tensors are written twice.

    The same tensors give the same bytes: the format has no order of its metadata, so there is one entry.
    """
    tensors = {name: tensor.detach().clone().contiguous() for name, tensor in model.state_dict().items()}
    with whole_file(path) as temporary:
        temporary.write_bytes(save(tensors, metadata={"fedsim": json.dumps(told, sort_keys=True)}))


def start_from(model: nn.Module, path: Path | str) -> nn.Module:
    """The module with the tensors of a file in place of its own.

    Raises :class:`InputError` for a file that cannot be read, and for names, shapes or types that are not the module's.
    """
    path = existing(path, "checkpoint of a model")
    try:
        found = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"checkpoint of a model cannot be read ({error})", where=path) from error
    own = model.state_dict()
    for name in (*own, *found):
        if name not in found or name not in own:
            what = f"checkpoint {'lacks' if name not in found else 'has another tensor than'} those of the model"
            raise InputError(what, value=name, where=path, allowed=f"a checkpoint of {type(model).__name__}")
        if _kind(found[name]) != _kind(own[name]):
            what = f"tensor {name} of the checkpoint is not the model's"
            raise InputError(what, value=_kind(found[name]), where=path, allowed=_kind(own[name]))
        if found[name].is_floating_point() and not bool(found[name].isfinite().all()):
            raise InputError(f"tensor {name} of the checkpoint is not finite", where=path)
    model.load_state_dict(found)
    return model


def _kind(tensor: torch.Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"
