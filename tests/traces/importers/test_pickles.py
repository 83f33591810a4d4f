"""Pickles of strangers: nothing but the listed globals is ever looked up."""

import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedsim.errors import InputError
from fedsim.traces.importers.pickles import NUMPY_FLOATS, load


def written(folder: Path, raw: bytes) -> Path:
    path = folder / "some.pkl"
    path.write_bytes(raw)
    return path


class Touches:
    """Creates a file when it is unpickled by a careless reader."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_need_nothing(tmp_path: Path, protocol: int) -> None:
    value = {1: {"active": [1, 2], "model": "LG-K350", "x": 1.5, "none": None}}
    assert load(written(tmp_path, pickle.dumps(value, protocol)), allowed={}) == value


def test_a_listed_global_is_replaced_by_its_stand_in(tmp_path: Path) -> None:
    path = written(tmp_path, pickle.dumps(OrderedDict(a=1)))
    assert load(path, allowed={"collections.OrderedDict": OrderedDict}) == {"a": 1}
    with pytest.raises(InputError, match=r"not allowed: 'collections\.OrderedDict' in .*some\.pkl"):
        load(path, allowed={})


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_code_in_a_pickle_is_refused_by_name_and_never_runs(tmp_path: Path, protocol: int) -> None:
    mark = tmp_path / "mark"
    path = written(tmp_path, pickle.dumps({1: Touches(mark)}, protocol))
    with pytest.raises(InputError, match=r"'(posix|nt)\.system'"):
        load(path, allowed=NUMPY_FLOATS)
    assert not mark.exists()


@pytest.mark.parametrize(
    "raw",
    [
        b"cbuiltins\neval\n(V1+1\ntR.",
        b"c__builtin__\nexec\n(Vx\ntR.",
        b"cnumpy\ndtype.__subclasses__\n.",
        b"cfedsim.traces.importers.pickles\npickle.loads\n.",
    ],
)
def test_other_globals_are_refused(tmp_path: Path, raw: bytes) -> None:
    with pytest.raises(InputError, match="global that is not allowed"):
        load(written(tmp_path, raw), allowed=NUMPY_FLOATS)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"not a pickle",
        pickle.dumps({1: [1, 2, 3]})[:-3],
        b"\x80\x05\x97.",  # asks for an out-of-band buffer
        b"Pan object kept elsewhere\n.",
        b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\xff.",
        b"\x80\x02]q\x00h\x05.",  # an object that was never stored
    ],
)
def test_damage_is_one_clear_line(tmp_path: Path, raw: bytes) -> None:
    with pytest.raises(InputError, match=r"pickle cannot be read .* in .*some\.pkl"):
        load(written(tmp_path, raw), allowed={})


def test_numpy_floats_come_back_exact(tmp_path: Path) -> None:
    values = {1: np.float64(153.0), 2: np.float64(2209.615982329485), 3: np.float64("inf")}
    raw = pickle.dumps(values, 3)
    found = load(written(tmp_path, raw), allowed=NUMPY_FLOATS)
    assert found == values
    assert {type(value) for value in found.values()} == {float}
    as_numpy_1 = raw.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    assert load(written(tmp_path, as_numpy_1), allowed=NUMPY_FLOATS) == values


@pytest.mark.parametrize("scalar", [np.int64(3), np.float32(3)])
def test_other_numpy_scalars_are_refused(tmp_path: Path, scalar: Any) -> None:
    with pytest.raises(InputError, match="only little-endian float64"):
        load(written(tmp_path, pickle.dumps(scalar, 3)), allowed=NUMPY_FLOATS)


def test_big_endian_floats_are_refused_not_misread(tmp_path: Path) -> None:
    raw = pickle.dumps(np.float64(1.0), 3).replace(b"X\x01\x00\x00\x00<", b"X\x01\x00\x00\x00>")
    with pytest.raises(InputError, match="only little-endian float64"):
        load(written(tmp_path, raw), allowed=NUMPY_FLOATS)


def test_a_scalar_of_the_wrong_length_is_refused(tmp_path: Path) -> None:
    raw = pickle.dumps(np.float64(1.0), 3)
    eight_bytes = b"C\x08" + np.float64(1.0).tobytes()
    assert eight_bytes in raw
    with pytest.raises(InputError, match="pickle cannot be read"):
        load(written(tmp_path, raw.replace(eight_bytes, b"C\x04abcd")), allowed=NUMPY_FLOATS)
