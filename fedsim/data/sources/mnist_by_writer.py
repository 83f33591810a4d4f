"""MNIST with its writers: each training writer is a client, the held-out writers are new people."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from fedsim.data.clients import Array, ArrayClients, Examples
from fedsim.data.partition import natural
from fedsim.errors import InputError
from fedsim.files import existing
from fedsim.units import IntArray

COLUMNS = ("images", "label", "writer", "is_test")
DESCRIBED = "mnist_by_writer.npz: MNIST images with the writer labels of QMNIST (Yadav and Bottou, NeurIPS 2019)"


class MnistByWriter(ArrayClients):
    """539 training writers as clients, x float32[., 28, 28] in 0 … 1, y 0 … 9; 10,000 digits of unseen writers.

    ``path`` is an npz file with ``images`` uint8[n, 28, 28], ``label``, ``writer`` and ``is_test``.
    Pixels stay bytes in memory and are scaled as they are handed out.
    """

    def __init__(self, path: str | Path) -> None:
        table = _read(existing(path, DESCRIBED))
        images, label = table["images"], table["label"].astype(np.int64)
        train, test = np.flatnonzero(~table["is_test"]), np.flatnonzero(table["is_test"])
        order, offsets = natural(table["writer"][train])
        self.keys = np.unique(table["writer"][train])  # the writer of each client
        super().__init__(
            images, label, order=train[order], offsets=offsets, held_out=(images[test], label[test]),
            sizes={"n_inputs": images[0].size, "n_classes": 10},
        )  # fmt: skip

    def fetch(self, client_ids: IntArray) -> Examples:
        """The training digits of these writers, in the order asked."""
        examples = super().fetch(client_ids)
        return Examples(_scaled(examples.x), examples.y, examples.offsets)

    def held_out(self) -> tuple[Array, Array]:
        """``(x, y)`` of the digits of writers that are nobody's training data."""
        images, label = super().held_out()
        return _scaled(images), label


def _read(path: Path) -> dict[str, Array]:
    try:
        with np.load(path, allow_pickle=False) as file:
            missing = [name for name in COLUMNS if name not in file]
            if missing:
                raise InputError("array not found", value=missing[0], where=path, allowed=", ".join(COLUMNS))
            return {name: file[name] for name in COLUMNS}
    except (ValueError, OSError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise InputError(f"not a readable npz file ({error})", where=path) from error


def _scaled(images: Array) -> Array:
    return images.astype(np.float32) / np.float32(255)
