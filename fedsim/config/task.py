"""What the groups ``model`` and ``features`` say: the work of an example, and what a job asks of its devices."""

from __future__ import annotations

import math
import typing
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import numpy as np

from fedsim.config.build import build
from fedsim.config.measures import loss_of
from fedsim.config.roles import named
from fedsim.data import features
from fedsim.data.clients import ClientData
from fedsim.data.features import Catalogue
from fedsim.device.work import Assets, Work
from fedsim.errors import InputError
from fedsim.training.local import LocalWork
from fedsim.training.model_work import CostsAs, ExampleKind, ModelWork
from fedsim.units import DAY_S


class Model:
    """What the configured model asks of a phone: of ``model.costs_as`` where that is given, else of the module.

    The module is counted with torch, once, where something is asked for that is not declared. ``module`` builds the
    ``torch.nn.Module``.
    """

    def __init__(self, values: dict[str, Any], data: Callable[[], ClientData], module: Callable[[], Any]) -> None:
        self._values, self._data, self._module = values, data, module
        said = values["model"].get("costs_as")
        self.stand_in = None if said is None else build(said, "model.costs_as", target=CostsAs)

    def n_parameters(self) -> int:
        """Numbers (float32) that a device downloads and uploads; declared, so that no torch is needed, or counted."""
        if self.stand_in is not None:
            return int(self.stand_in.n_parameters)
        declared = self._values["model"]["n_parameters"]
        return self.count().n_numbers if declared is None else int(declared)

    def forward_flops(self) -> float:
        """FLOPs of one example, as declared or counted."""
        if self.stand_in is not None:
            return float(self.stand_in.forward_flops)
        declared = self._values["model"]["forward_flops"]
        return self.count().forward_flops if declared is None else float(declared)

    def count(self) -> ModelWork:
        """All that the laws of training time read."""
        return self._counted if self.stand_in is None else self.stand_in.work()

    @cached_property
    def _counted(self) -> ModelWork:
        work = named("fedsim.training.count.counted", "model")(
            self._module,
            seed=self._values["seed"],
            example=example_of(self._values["model"], self._data),
            batch_size=self._values["training"]["local"]["batch_size"],
            loss=loss_of(self._values["training"]["loss"]),
        )
        return typing.cast(ModelWork, work)

    def check(self) -> None:
        """Hold what is declared of the module against it, so that a run without torch keeps the same time."""
        model = self._values["model"]
        for name, least_off in (("n_parameters", 0.0), ("forward_flops", _FLOPS_TOLERANCE)):
            declared = model[name]
            if declared is None:
                continue
            counted = float(self._counted.n_numbers if name == "n_parameters" else self._counted.forward_flops)
            if abs(declared - counted) > least_off * counted:
                what = f"model.{name} does not match the module"
                raise InputError(what, value=declared, allowed=f"{counted:.0f} or null; model.costs_as for another's")


_FLOPS_TOLERANCE = 0.01
_MOST_VALUES = 100_000_000  # of an example: more do not fit into memory


FROM_DATA = "from_data"


def sized(module: Mapping[str, Any], data: Callable[[], ClientData]) -> dict[str, Any]:
    """The values of a module, those that are ``from_data`` as the data has them: ``n_values`` of its table of ids, say.

    Raises :class:`InputError` for what the data (its ``sizes``, by name) does not tell.
    """
    wanted = [name for name, value in module.items() if value == FROM_DATA]
    if not wanted:
        return dict(module)
    built = data()
    of_row = built.held_out()[0].shape[1:]
    sizes = {"n_inputs": math.prod(of_row), **getattr(built, "sizes", {})}
    unknown = [name for name in wanted if name not in sizes]
    if unknown:
        allowed = f"a number, or of these {FROM_DATA}: {', '.join(sizes) or 'none'}"
        raise InputError(f"model.module.{unknown[0]}: the data does not tell it", value=FROM_DATA, allowed=allowed)
    return {**module, **{name: sizes[name] for name in wanted}}


def example_of(model: Mapping[str, Any], data: Callable[[], ClientData]) -> ExampleKind:
    """Shape and type of an example, as the model declares them; what it leaves open is as the data has it."""
    shape, dtype = model["example_shape"], model["example_dtype"]
    if shape is not None and math.prod(shape) > _MOST_VALUES:
        raise InputError("model.example_shape is too large", value=shape, allowed=f"up to {_MOST_VALUES} values")
    if shape is not None and dtype is not None:
        return ExampleKind(tuple(shape), str(dtype))
    x = data().held_out()[0]
    if shape is None and dtype is None and x.dtype == np.float32 and len(x):  # ids may stand among the numbers
        return ExampleKind(tuple(x.shape[1:]), "float32", np.array(x[:_ROWS]))
    return ExampleKind(tuple(x.shape[1:] if shape is None else shape), str(x.dtype if dtype is None else dtype))


_ROWS = 64  # real examples, to count a model's work on them


def build_work(values: Mapping[str, Any], model: Model, catalogue: Catalogue, local: LocalWork) -> Work:
    """What a job asks of its devices: the model's bytes, the features' assets, the local work."""
    n = model.n_parameters()
    refresh_days = values["assets_refresh_days"]
    refresh_s = None if refresh_days is None else refresh_days * DAY_S
    sizes_by_age = features.assets_by_age(catalogue)
    sizes_by_age[refresh_s] = sizes_by_age.get(refresh_s, 0) + round(values["assets_bytes"])
    return Work(
        download_bytes=round(n * values["download_bytes_per_parameter"]),
        plan_bytes=round(values["plan_bytes"]),
        shipped_bytes_per_example=features.shipped_bytes_per_example(catalogue),
        assets=tuple(Assets(size, age) for age, size in sizes_by_age.items() if size),
        caches_model=values["caches_model"],
        upload_bytes=round(n * values["upload_bytes_per_parameter"]),
        passes=local.passes,
        examples_each=1 if model.stand_in is None else model.stand_in.examples_each,
    )


def feature_catalogue(
    *, catalogue: Mapping[str, Any], bytes_per_entry: float | None, embedding_rows_as: str | None
) -> tuple[Catalogue, str | None]:
    """The catalogue of the group ``features``, and the setting that follows its number of embedding rows."""
    return Catalogue.parse(catalogue, bytes_per_entry=bytes_per_entry), embedding_rows_as


def checked_catalogue(values: dict[str, Any]) -> Catalogue:
    """The catalogue, whose vocabularies must fit the model's embedding."""
    catalogue, key = build(values["features"], "features", target=feature_catalogue)
    rows = features.embedding_rows(catalogue)
    if key is not None and rows and setting(values, key) != rows:
        raise InputError(f"{key} does not hold the features' vocabularies", value=setting(values, key), allowed=rows)
    return typing.cast(Catalogue, catalogue)


def setting(values: Any, key: str) -> Any:
    """The value under a dotted key."""
    for name in key.split("."):
        if not isinstance(values, dict) or name not in values:
            raise InputError("features.embedding_rows_as names no setting of this configuration", value=key)
        values = values[name]
    return values
