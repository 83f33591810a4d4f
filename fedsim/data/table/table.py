"""``data=table``: any table of rows with a column that says whose they are, as the data of clients."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt

from fedsim.data.arrival import Arrival, first_after
from fedsim.data.clients import CsrClients, Examples, digest_of
from fedsim.data.table.encoder import Encoder, ListOf
from fedsim.data.table.features import checked_call
from fedsim.data.table.guess import guessed, told
from fedsim.data.table.labels import Label
from fedsim.data.table.reading import Files, both, files_of
from fedsim.data.table.rows import Asked
from fedsim.data.table.skew import coordinate, reskewed
from fedsim.data.table.split import Split
from fedsim.errors import InputError
from fedsim.files import read_json, write_json
from fedsim.folders import Form, whole_folder
from fedsim.ranges import Range, Seed
from fedsim.units import FloatArray, IntArray

Array = npt.NDArray[Any]
_SCHEMA = 2  # of encoded folders
_ARRAYS = ("x", "y", "offsets", "held_out_clients", "keys", "time")
_FORM = Form("encoded table", frozenset(["facts.json", *(f"{name}.npy" for name in _ARRAYS)]), frozenset())


class TableClients(CsrClients):
    """Clients of a table: a Parquet, CSV, LEAF JSON or npz file, a folder or pattern of them, here or remote.

    ``client`` names the column that says whose a row is, ``time`` the one that orders a client's rows, ``label`` and
    ``features`` what is learnt from what (:class:`~fedsim.data.table.labels.Label`,
    :data:`~fedsim.data.table.features.KINDS`; None: all other columns by their look, which ``remarks`` tells),
    ``where`` the rows that count, ``held_out`` those that nobody trains on (:class:`~fedsim.data.table.split.Split`),
    at most ``max_held_out`` of them, drawn at random. Where the table itself says so, ``split`` names the column in
    which rows to train on are called train, or ``test`` the files that are held out. ``list_of`` makes one example of
    all rows of a list.

    x is one array: what the single feature gives (a picture, a sequence), else all features side by side in their
    order, ``[n, width]``: int64 if all are ids, else float32, in which ids are exact up to 16.7 million. Ids are of one
    table for all features. ``sizes`` tells a model what it must know: n_values, n_fields, n_inputs, n_classes, length.

    ``label_skew_factor`` and ``feature_skew_factor`` make clients less or more unlike each other, for a sensitivity
    (:func:`~fedsim.data.table.skew.reskewed`).

    ``arrival``: examples come as simulated time goes on (:class:`fedsim.data.arrival.Arrival`); None: all are there.

    ``folder``: None keeps examples in memory; else they are written there once and mapped. Needs some 20 bytes of
    memory for each row besides. Raises :class:`InputError` for what is not as it is said to be, with column and row.
    """

    def __init__(
        self,
        *,
        path: str | Sequence[str],
        client: str,
        label: str | Mapping[str, Any],
        held_out: Mapping[str, Any],
        seed: Seed,
        features: Mapping[str, Mapping[str, Any]] | None = None,
        split: str | None = None,
        test: str | Sequence[str] | None = None,
        time: str | None = None,
        where: Mapping[str, Any] | None = None,
        list_of: Mapping[str, Any] | None = None,
        folder: str | None = None,
        arrival: Mapping[str, Any] | None = None,
        label_skew_factor: Annotated[float, Range(0, 2)] = 1.0,
        feature_skew_factor: Annotated[float, Range(0, 2)] = 1.0,
        max_held_out: Annotated[int, Range(1, 10_000_000)] | None = None,
        batch_rows: Annotated[int, Range(1, 10_000_000)] = 65_536,
    ) -> None:
        files, parts = _parted(path, test, split, held_out, time)
        of_list = _list_of(list_of)
        asked = Asked(client, time, dict(where or {}), parts, of_list.column if of_list else None, max_held_out)
        labelled = Label.parse(label)
        if features is None:
            features = guessed(files, but={*asked.columns(), *labelled.columns})
            self.remarks: tuple[str, ...] = (told(features),)
        encoder = Encoder(files, asked, labelled, features, of_list, batch_rows, seed)
        if folder is None:
            arrays, facts = encoder.arrays(None)
        else:
            asked_for = [label, features, client, time, where, list_of, max_held_out, seed]
            said = [*asked_for, parts.way, parts.value, files.stamp, _SCHEMA]
            arrays, facts = _mapped(Path(folder), said, encoder)
        if (label_skew_factor, feature_skew_factor) != (1.0, 1.0):
            if folder is not None or arrays["y"].ndim > 1:
                allowed = "1.0 where data.folder or several labels a row are used"
                raise InputError("data.label_skew_factor, data.feature_skew_factor", allowed=allowed)
            _reskew(arrays, label_skew_factor, feature_skew_factor, seed)
        self.keys = arrays["keys"]
        self.arrival = None if arrival is None else checked_call(Arrival, arrival, "data.arrival")
        self._arrived_at = None if self.arrival is None else _arrived_at(arrays, self.arrival, time)
        self._whose = arrays["held_out_clients"]
        self._digest: str | None = facts.get("sha256")
        super().__init__(
            arrays["x"],
            arrays["y"],
            offsets=arrays["offsets"],
            held_out_clients=arrays["held_out_clients"],
            sizes=facts["sizes"],
        )

    def n_between(self, client_ids: IntArray, since: FloatArray, at: FloatArray) -> IntArray:
        """Examples of each client that came after ``since`` and up to ``at``, ``int64[n]``."""
        first, last = self._between(client_ids, since, at)
        return last - first

    def fetch_between(self, client_ids: IntArray, since: FloatArray, at: FloatArray) -> Examples:
        """These examples, in the order asked."""
        first, last = self._between(client_ids, since, at)
        return self._rows(first, last - first)

    def _between(self, client_ids: IntArray, since: FloatArray, at: FloatArray) -> tuple[IntArray, IntArray]:
        assert self._arrived_at is not None
        low, high = (np.asarray(self._offsets[client_ids + k]) for k in (0, 1))
        first = first_after(self._arrived_at, low, high, since)
        return first, np.maximum(first_after(self._arrived_at, low, high, at), first)

    def sha256(self) -> str:
        """Hex digest of all arrays and the clients' ids; of a folder as it was when it was written.

        Times are part of it where they matter: where examples arrive.
        """
        if self._digest is None:
            self._digest = digest_of(self._x, self._y, self._offsets, self._whose, self.keys)
        if self._arrived_at is None:
            return self._digest
        return hashlib.sha256(f"{self._digest}{digest_of(self._arrived_at)}".encode()).hexdigest()


def leaf(
    *,
    train: str | Sequence[str],
    held_out: Mapping[str, Any],
    seed: Seed,
    test: str | Sequence[str] | None = None,
    label: str | Mapping[str, Any] = "y",
    features: Mapping[str, Mapping[str, Any]] | None = None,
    folder: str | None = None,
) -> TableClients:
    """``data=leaf``: LEAF's files (Caldas et al. 2018), those to train on and those to test on.

    Without ``test`` examples are ``held_out`` of the others; ``features`` None: x by its look. Further settings are
    those of :class:`TableClients`.
    """
    return TableClients(
        path=train,
        test=test,
        client="user",
        label=label,
        features=features,
        held_out=held_out,
        folder=folder,
        seed=seed,
    )


def _parted(
    path: str | Sequence[str], test: str | Sequence[str] | None, split: str | None, held_out: Mapping[str, Any],
    time: str | None,
) -> tuple[Files, Split]:  # fmt: skip
    """All files, and what is held out of them."""
    files = files_of(path)
    if split is not None and test is not None:
        raise InputError("data.split and data.test both say what is held out", value=split, allowed="one of them")
    if split is not None:
        return files, Split("part", split)
    if test is not None:
        held = files_of(test)
        return both(files, held), Split("file", held.paths)
    return files, Split.parse(held_out, time=time)


def _arrived_at(arrays: dict[str, Array], arrival: Arrival, time: str | None) -> FloatArray:
    if time is None:
        raise InputError("data.arrival needs data.time", allowed="the column that tells when a row was logged")
    return arrival.seconds(np.asarray(arrays["time"]))


def _reskew(arrays: dict[str, Array], label_factor: float, feature_factor: float, seed: int) -> None:
    """Exchange training rows between clients, in place."""
    n, lengths = int(arrays["offsets"][-1]), np.diff(arrays["offsets"])
    x, y = arrays["x"][:n], arrays["y"][:n]
    rows = reskewed(
        np.repeat(np.arange(len(lengths)), lengths), y, coordinate(x, seed=seed), label_factor=label_factor,
        feature_factor=feature_factor, seed=seed,
    )  # fmt: skip
    x[:], y[:] = x[rows], y[rows]


def _list_of(said: Mapping[str, Any] | None) -> ListOf | None:
    if said is None:
        return None
    if said.keys() != {"column", "length"} or not isinstance(said["length"], int) or said["length"] < 1:
        raise InputError("data.list_of", value=dict(said), allowed="{column: NAME, length: 1 and more}")
    return ListOf(str(said["column"]), said["length"])


def _mapped(folder: Path, said: Any, encoder: Encoder) -> tuple[dict[str, Array], dict[str, Any]]:
    """The arrays of an encoded folder, which is written first where this table was not encoded so before."""
    place = folder / hashlib.sha256(json.dumps(said, default=str, sort_keys=True).encode()).hexdigest()[:16]
    if not (place / "facts.json").exists():
        with whole_folder(place, _FORM) as temporary:
            _, facts = encoder.arrays(temporary)
            write_json(temporary / "facts.json", facts)
    try:
        facts = read_json(place / "facts.json", "encoded table")
        arrays = {name: np.load(place / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in _ARRAYS}
    except (OSError, ValueError, EOFError) as error:
        allowed = "remove it, it is made again"
        raise InputError(f"encoded table cannot be read ({error})", where=place, allowed=allowed) from error
    return arrays, facts
