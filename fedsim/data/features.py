"""The feature catalogue: where each input of a model lives, and what that puts on a phone.

A model is more than its parameters. A feature that is computed on the phone may need a vocabulary there; one that
lives in the cloud has to be shipped with every example. The catalogue says so in plain values (a YAML group), and
the functions below turn it into bytes and embedding rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fedsim.errors import InputError
from fedsim.ranges import Range

HOMES = ("device", "cloud")
VOCABULARIES = ("table", "hash")
_SIZE = {"table": "entries", "hash": "buckets"}
_ROWS, _NUMBERS = Range(1, 1_000_000_000), Range(0, 1_000_000_000)
_FEATURE_KEYS = ("home", "bytes_per_example", "assets_bytes", "freshness_s", "vocabulary")
_VOCABULARY_KEYS = ("kind", "entries", "buckets", "bytes_per_entry")


@dataclass(frozen=True)
class Vocabulary:
    """How values become ids: looked up in a ``table`` that lies beside the feature, or hashed into buckets.

    ``n_rows`` are the rows that the model's embedding needs, ``bytes_per_entry`` is 0 for a hash. Whoever wants an
    id for unknown values counts it among the entries.
    """

    kind: str
    n_rows: int
    bytes_per_entry: float

    @property
    def asset_bytes(self) -> int:
        """Size of the table."""
        return round(self.n_rows * self.bytes_per_entry)


@dataclass(frozen=True)
class Feature:
    """One input: ``home`` is device or cloud, ``assets_bytes`` what it needs on the phone beside its vocabulary.

    ``freshness_s`` is the age at which values and assets are outdated and fetched anew; None: never.
    """

    name: str
    home: str
    bytes_per_example: float
    assets_bytes: int
    freshness_s: float | None
    vocabulary: Vocabulary | None

    @property
    def on_device_bytes(self) -> int:
        """Assets and vocabulary that have to lie on the phone; the vocabulary of a cloud feature stays there."""
        if self.home == "cloud":
            return 0
        return self.assets_bytes + (0 if self.vocabulary is None else self.vocabulary.asset_bytes)


@dataclass(frozen=True)
class Catalogue:
    """The features of a task in the order of the catalogue; an empty one says that nothing is known."""

    features: tuple[Feature, ...]

    @classmethod
    def parse(cls, values: Mapping[str, Any], *, bytes_per_entry: float | None = None) -> Catalogue:
        """A catalogue from plain values: feature → home, bytes_per_example, and optionally the other keys.

        ``bytes_per_entry`` is what an entry of a vocabulary takes where the vocabulary itself does not say.

        Raises:
            InputError: naming the feature and the key.
        """
        if not isinstance(values, Mapping):
            raise InputError("features.catalogue must map names to features", value=values)
        return cls(tuple(_feature(str(name), value, bytes_per_entry) for name, value in values.items()))


def assets_bytes(catalogue: Catalogue) -> int:
    """Static assets that a phone downloads once and keeps: vocabularies and whatever else features need there."""
    return sum(feature.on_device_bytes for feature in catalogue.features)


def assets_by_age(catalogue: Catalogue) -> dict[float | None, int]:
    """Assets by the age in seconds at which a phone downloads them again; None: never."""
    sizes: dict[float | None, int] = {}
    for feature in catalogue.features:
        sizes[feature.freshness_s] = sizes.get(feature.freshness_s, 0) + feature.on_device_bytes
    return sizes


def shipped_bytes_per_example(catalogue: Catalogue) -> float:
    """Bytes of cloud features that reach the phone with every example it trains on."""
    return sum(feature.bytes_per_example for feature in catalogue.features if feature.home == "cloud")


def stored_bytes_per_example(catalogue: Catalogue) -> float:
    """Bytes of all features of an example that waits on the phone for training."""
    return sum(feature.bytes_per_example for feature in catalogue.features)


def embedding_rows(catalogue: Catalogue) -> int:
    """Rows of one embedding table that holds the ids of all vocabularies side by side."""
    return sum(feature.vocabulary.n_rows for feature in catalogue.features if feature.vocabulary is not None)


def _feature(name: str, values: Any, bytes_per_entry: float | None) -> Feature:
    where = f"features.catalogue.{name}"
    _check_keys(values, _FEATURE_KEYS, where)
    home = _one_of(values, "home", HOMES, where)
    assets = _number(values, "assets_bytes", where, default=0)
    if home == "cloud" and assets:
        raise InputError("assets_bytes of a cloud feature", value=assets, where=where, allowed="0: it keeps none here")
    freshness_s = None if values.get("freshness_s") is None else _number(values, "freshness_s", where)
    if freshness_s == 0:
        raise InputError("freshness_s must be above zero", value=0, where=where, allowed="seconds, or null for never")
    vocabulary = values.get("vocabulary")
    return Feature(
        name=name,
        home=home,
        bytes_per_example=_number(values, "bytes_per_example", where),
        assets_bytes=round(assets),
        freshness_s=freshness_s,
        vocabulary=None if vocabulary is None else _vocabulary(vocabulary, bytes_per_entry, f"{where}.vocabulary"),
    )


def _vocabulary(values: Any, bytes_per_entry: float | None, where: str) -> Vocabulary:
    """Both sizes may be given; ``kind`` chooses, so that one key is the knob."""
    _check_keys(values, _VOCABULARY_KEYS, where)
    kind = _one_of(values, "kind", VOCABULARIES, where)
    for key in ("entries", "buckets"):
        if key in values and (type(values[key]) is not int or not _ROWS.holds(values[key])):
            raise InputError(f"{key} must be a whole number", value=values[key], where=where, allowed=_ROWS)
    if _SIZE[kind] not in values:
        raise InputError(f"{_SIZE[kind]} must be given", where=where, allowed="1 or more")
    per_entry = _number(values, "bytes_per_entry", where, default=bytes_per_entry) if kind == "table" else 0.0
    return Vocabulary(kind, values[_SIZE[kind]], per_entry)


def _check_keys(values: Any, allowed: tuple[str, ...], where: str) -> None:
    if not isinstance(values, Mapping):
        raise InputError("a group of values must be given", value=values, where=where, allowed=", ".join(allowed))
    unknown = [key for key in values if key not in allowed]
    if unknown:
        raise InputError("unknown key", value=str(unknown[0]), where=where, allowed=", ".join(allowed))


def _one_of(values: Mapping[str, Any], key: str, allowed: tuple[str, ...], where: str) -> str:
    if values.get(key) not in allowed:
        raise InputError(f"{key} is unknown", value=values.get(key), where=where, allowed=", ".join(allowed))
    return str(values[key])


def _number(values: Mapping[str, Any], key: str, where: str, *, default: float | None = None) -> float:
    value = values.get(key, default)
    if value is None:
        raise InputError(f"{key} must be given", where=where, allowed="a number, zero or above")
    if type(value) not in (int, float) or not _NUMBERS.holds(value):
        raise InputError(f"{key} must be a number, zero or above", value=value, where=where, allowed=_NUMBERS)
    return float(value)
