"""Where files go: devices, pipes and links are written through or followed, folders are replaced only if they are ours,
and whoever is killed leaves the old or the new one."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fedsim import folders, targets
from fedsim.errors import InputError, WriteError
from fedsim.files import read_json, read_table, sha256, write_json, write_text
from fedsim.folders import Form, require_new, whole_folder, work_folder
from fedsim.schema import Column, Table
from fedsim.targets import whole_file
from fedsim.traces.folder import load_traces, save_traces
from tests.hand import events_of, traces_of
from tests.robust.refused import names, refused

PAIR = Form("pair", frozenset({"a", "b"}), frozenset({"c"}))
DEAD = 999_999_99  # beyond the number of any process
POINTS = Table("points", "for tests", (Column("id", pa.int64(), "number"), Column("note", pa.string(), "remark")))


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def save_phones(folder: Path, n: int = 2) -> None:
    save_traces(traces_of([events_of([(0, "screen", 1)])] * n, period_s=86_400), folder)


def write_pair(folder: Path, text: str = "new") -> None:
    with whole_folder(folder, PAIR) as temporary:
        for name in ("a", "b"):
            (temporary / name).write_text(text)


# ------------------------------------------------------------------------------- what is no file is never replaced


def read_all(pipe: Path, got: list[str]) -> threading.Thread:
    reader = threading.Thread(target=lambda: got.append(pipe.read_text()))
    reader.start()
    return reader


def test_a_pipe_is_written_through_and_stays() -> None:
    os.mkfifo("pipe")
    got: list[str] = []
    reader = read_all(Path("pipe"), got)
    while True:  # until the reader has opened it
        try:
            write_text(Path("pipe"), "all of it")
            break
        except WriteError:
            continue
    reader.join()
    assert got == ["all of it"]
    assert Path("pipe").is_fifo()


def test_a_pipe_that_nobody_reads_is_refused_at_once() -> None:
    os.mkfifo("pipe")
    with pytest.raises(InputError, match="nobody reads from this pipe: 'pipe'"):
        write_text(Path("pipe"), "text")
    assert names(Path()) == ["pipe"]


def test_a_device_is_written_through_and_stays() -> None:
    write_text(Path("/dev/null"), "text")
    assert Path("/dev/null").is_char_device()
    with pytest.raises(WriteError, match=r"cannot be written \(No space left on device\): '/dev/full'"):
        write_text(Path("/dev/full"), "text")


@pytest.mark.parametrize("kind", ["pipe", "file"])
def test_an_open_file_of_the_process_is_written_from_where_it_is(kind: str) -> None:
    if kind == "pipe":
        source, sink = os.pipe()
    else:
        source, sink = os.open("out", os.O_RDWR | os.O_CREAT), os.open("out", os.O_WRONLY)
    os.write(sink, b"before ")
    for name in (f"/dev/fd/{sink}", f"/proc/self/fd/{sink}"):
        write_text(Path(name), "text ")
    os.symlink(f"/dev/fd/{sink}", "link")
    write_text(Path("link"), "again")
    assert os.read(source, 100) == b"before text text again"
    os.close(source)
    os.close(sink)
    assert names(Path()) == (["link"] if kind == "pipe" else ["link", "out"])


def test_a_pipe_that_breaks_is_one_line() -> None:
    source, sink = os.pipe()
    os.close(source)
    with pytest.raises(WriteError, match="Broken pipe"):
        write_text(Path(f"/dev/fd/{sink}"), "text")
    os.close(sink)


def test_an_error_reaches_no_pipe() -> None:
    source, sink = os.pipe()
    with pytest.raises(RuntimeError), whole_file(Path(f"/dev/fd/{sink}")) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    os.close(sink)
    assert os.read(source, 100) == b""
    os.close(source)


def test_a_socket_is_refused() -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("socket")
        with pytest.raises(InputError, match="neither a file, a pipe nor a character device: 'socket'"):
            write_text(Path("socket"), "text")
        assert Path("socket").is_socket()


def test_a_link_is_followed_and_stays() -> None:
    Path("target").write_text("old")
    Path("target").chmod(0o600)
    os.symlink("target", "link")
    os.symlink("link", "longer")
    write_text(Path("longer"), "new")
    assert Path("link").is_symlink() and Path("longer").is_symlink()
    assert Path("target").read_text() == "new"
    assert Path("target").stat().st_mode & 0o777 == 0o600
    os.symlink("fresh", "dangling")
    write_text(Path("dangling"), "new")
    assert Path("dangling").is_symlink() and Path("fresh").read_text() == "new"


def test_a_link_to_a_folder_is_followed_and_stays() -> None:
    write_pair(Path("pair"), "old")
    os.symlink("pair", "link")
    write_pair(Path("link"))
    assert Path("link").is_symlink() and Path("pair/a").read_text() == "new"
    os.symlink("fresh", "dangling")
    write_pair(Path("dangling"))
    assert Path("dangling").is_symlink() and names(Path("fresh")) == ["a", "b"]
    assert names(Path()) == ["dangling", "fresh", "link", "pair"]


@pytest.mark.parametrize("write", [lambda path: write_text(path, "text"), write_pair])
def test_links_that_lead_round_are_refused(write: Callable[[Path], None]) -> None:
    os.symlink("two", "one")
    os.symlink("one", "two")
    with pytest.raises(InputError, match="'one'"):
        write(Path("one"))
    assert Path("one").is_symlink() and Path("two").is_symlink()


@pytest.mark.parametrize("option", ["--csv", "--page"])
@pytest.mark.parametrize("kind", ["pipe", "folder", "socket", "loop", "long", "under a file"])
def test_options_that_name_no_file_are_one_line(option: str, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    save_phones(Path("set"))
    made: dict[str, Callable[[], Any]] = {
        "pipe": lambda: os.mkfifo("pipe"),
        "folder": lambda: os.mkdir("folder"),
        "socket": lambda: socket.socket(socket.AF_UNIX).bind("socket"),
        "loop": lambda: os.symlink("loop", "loop"),
        "under a file": lambda: Path("file").write_text("text"),
    }
    made.get(kind, lambda: None)()
    target = {"long": "n" * 300, "under a file": "file/x"}.get(kind, kind)
    assert target in refused(capsys, "traces", "criteria", "set", "screen", option, target)


# --------------------------------------------------------------------------------------- what a folder is replaced for


def test_a_folder_of_the_form_is_replaced_and_others_are_not() -> None:
    write_pair(Path("pair"), "old")
    write_pair(Path("pair"))
    assert Path("pair/a").read_text() == "new"
    os.mkdir("empty")
    write_pair(Path("empty"))
    assert names(Path("empty")) == ["a", "b"]
    strangers: dict[str, Callable[[], Any]] = {
        "one file more": lambda: Path("pair/thesis").write_text("years"),
        "a hidden file": lambda: Path("pair/.secret").write_text("years"),
        "a folder more": lambda: Path("pair/c").mkdir(),
        "a link in it": lambda: os.symlink("/etc/hostname", "pair/c"),
        "a file less": lambda: Path("pair/b").unlink(),
    }
    for spoil in strangers.values():
        write_pair(Path("pair")) if not Path("pair").exists() else None
        spoil()
        before = names(Path("pair"))
        with pytest.raises(InputError, match="will not replace what is not a pair: 'pair'"):
            write_pair(Path("pair"))
        assert names(Path("pair")) == before
        os.rename("pair", f"kept-{len(names(Path()))}")


def test_what_is_put_into_a_folder_while_it_is_made_anew_is_kept() -> None:
    write_pair(Path("pair"), "old")
    with pytest.raises(InputError, match="will not replace"), whole_folder(Path("pair"), PAIR) as temporary:
        (temporary / "a").write_text("new")
        Path("pair/thesis").write_text("years")
    assert (Path("pair/a").read_text(), Path("pair/thesis").read_text()) == ("old", "years")
    assert names(Path()) == ["pair"]


@pytest.mark.parametrize(
    "words",
    [("synthesize", "FOLDER", "--devices", "2", "--days", "1"), ("resample", "set", "FOLDER", "--devices", "1")],
)
@pytest.mark.parametrize("kind", ["run", "measurements", "file", "pipe", "one more"])
def test_force_replaces_nothing_but_trace_sets(
    words: tuple[str, ...], kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    save_phones(Path("set"))
    target = Path("target")
    held = {"run": ("config.yaml", "summary.json"), "measurements": ("hardware.parquet",)}
    if kind == "file":
        target.write_text("years of work")
    elif kind == "pipe":
        os.mkfifo(target)
    elif kind == "one more":
        save_phones(target)
        (target / "notes.txt").write_text("years of work")
    else:
        target.mkdir()
        for name in (*held[kind], "provenance.json"):
            (target / name).write_text("years of work")
    before = names(target) if target.is_dir() else []
    line = refused(capsys, "traces", *("target" if word == "FOLDER" else word for word in words), "--force")
    assert "will not replace what is not a trace set: 'target'" in line
    assert (names(target) if target.is_dir() else []) == before


# ------------------------------------------------------------------------------------------------ whoever is killed


KILLED = """
import os, signal, sys
from pathlib import Path
from fedsim import folders
from fedsim.traces.folder import save_traces
from tests.hand import events_of, traces_of
step, seen = int(sys.argv[1]), 0
def dying(function):
    def call(*arguments, **keywords):
        global seen
        seen += 1
        if seen == step: os.kill(os.getpid(), signal.SIGKILL)
        done = function(*arguments, **keywords)
        seen += 1
        if seen == step: os.kill(os.getpid(), signal.SIGKILL)
        return done
    return call
for name in ("_exchange", "_take_place"):
    setattr(folders, name, dying(getattr(folders, name)))
save_traces(traces_of([events_of([(0, "screen", 1)])] * 3, period_s=86_400), Path("set"))
"""


def killed_at(step: int) -> bool:
    """Whether writing three phones over ``set`` was killed at the step: before or after the names are exchanged."""
    words = [sys.executable, "-c", KILLED, str(step)]
    root = Path(__file__).parents[2]
    return subprocess.run(words, env=os.environ | {"PYTHONPATH": str(root)}).returncode == -signal.SIGKILL


@pytest.mark.parametrize(("step", "n"), [(1, 2), (2, 2), (3, 3), (4, 3)])
def test_whoever_is_killed_leaves_the_old_or_the_new_set_and_the_next_sweeps(step: int, n: int) -> None:
    save_phones(Path("set"))
    assert killed_at(step)
    assert load_traces("set").n == n
    assert len(names(Path())) == 2  # what was left
    save_phones(Path("set"), 4)
    assert names(Path()) == ["set"] and load_traces("set").n == 4


def test_a_set_stands_after_every_single_step(monkeypatch: pytest.MonkeyPatch) -> None:
    save_phones(Path("set"))
    stands: list[int] = []

    def watched(function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
        done = function(*arguments, **keywords)
        stands.append(len(names(Path("set"))))
        return done

    for module, name in ((os, "replace"), (os, "rename"), (folders, "_exchange"), (targets.shutil, "rmtree")):
        monkeypatch.setattr(module, name, partial(watched, getattr(module, name)))
    save_phones(Path("set"), 3)
    assert set(stands) == {3} and len(stands) > 3


@pytest.mark.parametrize("left", ["tmp", "old"])
def test_what_a_dead_process_left_is_swept_and_what_a_living_one_makes_is_not(left: str) -> None:
    save_phones(Path("set"))
    alive = os.getppid()
    for pid in (DEAD, alive):
        Path(f".set.{pid}.{left}").mkdir()
        Path(f".out.{pid}.{left}").write_text("half")
    for stranger in (".set.work.txt", f".sets.{DEAD}.tmp", f".set.{DEAD}.tmp.txt", ".set.x.tmp"):
        Path(stranger).write_text("not ours")
    save_phones(Path("set"))
    write_text(Path("out"), "text")
    kept = {
        f".out.{alive}.{left}",
        f".set.{alive}.{left}",
        ".set.work.txt",
        f".sets.{DEAD}.tmp",
        f".set.{DEAD}.tmp.txt",
    }
    assert set(names(Path())) == kept | {".set.x.tmp", "out", "set"}


def test_a_command_that_is_refused_sweeps_as_well() -> None:
    save_phones(Path("set"))
    Path(f".set.{DEAD}.tmp").mkdir()
    with pytest.raises(InputError, match=r"will not replace what is there: 'set' \(allowed: a new folder, or more\)"):
        require_new(Path("set"), option=", or more")
    assert names(Path()) == ["set"]


def test_a_set_that_was_put_aside_takes_its_place_again() -> None:
    """Where names cannot be exchanged, whoever is killed between two renames leaves the set under another name."""
    save_phones(Path(f".set.{DEAD}.old"))
    with pytest.raises(InputError, match="will not replace what is there"):
        require_new(Path("set"), option="")
    assert names(Path()) == ["set"] and load_traces("set").n == 2


def test_names_that_cannot_be_exchanged_are_renamed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "_exchange", lambda one, other: False)
    write_pair(Path("pair"), "old")
    write_pair(Path("pair"))
    assert Path("pair/a").read_text() == "new" and names(Path()) == ["pair"]
    rename = os.replace

    def fail(one: Path, other: Path) -> None:
        if one.name.endswith(".tmp"):
            raise OSError(errno.EIO, "Input/output error")
        rename(one, other)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(WriteError, match="Input/output error"):
        write_pair(Path("pair"), "newer")
    assert Path("pair/a").read_text() == "new" and names(Path()) == ["pair"]


def test_an_exchange_that_the_system_cannot_make_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("one").mkdir()
    Path("other").mkdir()
    assert folders._exchange(Path("one"), Path("other")) is True
    with pytest.raises(FileNotFoundError):
        folders._exchange(Path("one"), Path("nowhere"))
    monkeypatch.setattr(sys, "platform", "plan9")
    assert folders._exchange(Path("one"), Path("other")) is False


def test_a_work_folder_is_for_one_at_a_time_and_is_swept_when_nobody_uses_it() -> None:
    with work_folder(Path("set")) as work:
        (work / "half").write_text("done")
        with pytest.raises(InputError, match="another command is writing there: 'set'"), work_folder(Path("set")):
            pass
        save_phones(Path("set"))
        assert names(work) == ["half"]  # it is in use
    with work_folder(Path("set")) as work:
        assert names(work) == ["half"]  # one goes on where the other stopped
    save_phones(Path("set"))
    assert names(Path()) == ["set"]


# ------------------------------------------------------------------------------------------- faults of the machine


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EIO, errno.EDQUOT])
def test_a_machine_that_refuses_is_one_line_with_the_name_the_user_gave(
    number: int, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), str(here / ".out.1.tmp"))

    write_pair(Path("pair"), "old")
    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", fail)
        patched.setattr(folders, "_exchange", fail)
        for write in (lambda: write_text(Path("out"), "text"), lambda: write_pair(Path("pair"))):
            with pytest.raises(WriteError, match=r"^cannot be written \(.*\): '(out|pair)'$"):
                write()
    assert names(Path()) == ["pair"] and Path("pair/a").read_text() == "old"


def test_a_file_in_a_folder_is_named_under_the_folder_s_own_name(here: Path) -> None:
    with pytest.raises(WriteError, match=r"'pair/a/b'$"), whole_folder(Path("pair"), PAIR) as temporary:
        (temporary / "a").write_text("a file")
        write_text(temporary / "a" / "b", "under it")
    assert names(here) == []


def test_what_cannot_be_read_is_told_apart_from_what_cannot_be_written() -> None:
    says = r"file cannot be read \(No such file or directory\) in nowhere"
    with pytest.raises(InputError, match=says) as caught, whole_file(Path("out")):
        Path("nowhere").read_bytes()
    assert not isinstance(caught.value, WriteError)


@pytest.mark.parametrize("name", ["folder", "pipe", "n" * 300, "file/x", "nowhere", "loop"])
def test_what_is_no_file_cannot_be_read(name: str) -> None:
    Path("folder").mkdir()
    Path("file").write_text("text")
    os.mkfifo("pipe")
    os.symlink("loop", "loop")
    for read in (lambda: read_json(name, "summary"), lambda: read_table(name, POINTS)):
        with pytest.raises(InputError, match=name):
            read()
    if name != "pipe":
        with pytest.raises(InputError, match=rf"file cannot be read \(.*\) in {name}"):
            sha256(name)


# ------------------------------------------------------------------------------------------------------ JSON and tables


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("9" * 5000, "a whole number of 5,000 digits"),
        ("-" + "9" * 400, "a whole number of 401 digits"),
        ("1e999", "a number that is too large: 1e999"),
        ("[NaN]", "NaN is no JSON"),
        ('{"a": -Infinity}', "-Infinity is no JSON"),
        ('"\\ud800"', "surrogates not allowed"),
        ('{"\\udfff": 1}', "surrogates not allowed"),
        ("[" * 200_000, "recursion"),
        ('{"a":' * 200_000, "recursion"),
        ("\x00", "Expecting value"),
    ],
)
def test_json_that_nobody_can_use_is_one_line(text: str, says: str) -> None:
    Path("a.json").write_text(text)
    with pytest.raises(InputError, match=rf"^summary is not valid JSON \(.*{says}.*\) in a\.json$") as caught:
        read_json("a.json", "summary")
    assert len(str(caught.value)) < 300


def test_json_with_pairs_of_surrogates_and_large_numbers_is_read() -> None:
    Path("a.json").write_text('["\\ud83d\\ude00", 18446744073709551616, 1e300]')
    assert read_json("a.json", "summary") == ["😀", 2**64, 1e300]


def _endless() -> list[Any]:
    endless: list[Any] = []
    endless.append(endless)
    return endless


@pytest.mark.parametrize(
    "value",
    [_endless(), json.loads("[" * 200 + "]" * 200), {"a": "\ud800"}, {1: 2, "b": 3}, {"a": b"x"}, [float("-inf")]],
)
def test_what_no_json_can_hold_is_not_written(value: Any) -> None:
    with pytest.raises(InputError, match=r"cannot be written as JSON \(.*\) in a\.json"):
        write_json(Path("a.json"), value)
    assert names(Path()) == []


def test_tables_with_twins_and_bytes_that_are_no_text_are_one_line() -> None:
    pq.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2]), pa.array(["x"])], ["id", "id", "note"]), "p")
    with pytest.raises(InputError, match=r"table 'points' cannot be read \(.*id.*\) in p"):
        read_table("p", POINTS)
    with pytest.raises(InputError, match="column 'id' is there twice in p"):
        POINTS.check(pa.table([[1], [2], ["x"]], ["id", "id", "note"]), where="p")
    wrong = pa.StringArray.from_buffers(1, pa.py_buffer(b"\0\0\0\0\1\0\0\0"), pa.py_buffer(b"\xff"))
    pq.write_table(pa.table({"id": [1], "note": wrong}), "p")
    with pytest.raises(InputError, match=r"table 'points' cannot be read \(.*UTF8.*\) in p"):
        read_table("p", POINTS)


def test_a_provenance_of_odd_fields_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    save_phones(Path("set"))
    for said in (
        {"files": "x"}, {"files": [1]}, {"files": [{"name": "a"}]}, {"files": [{"name": 1, "sha256": "0"}]},
        {"files": {}},
        {"source": 5}, {"source": {"a": 1}}, {"licence": []}, {"importer": 1.5}, {"transforms": {}},
    ):  # fmt: skip
        Path("set/provenance.json").write_text(json.dumps(said))
        assert "set/provenance.json" in refused(capsys, "traces", "validate", "set")
    for text in (
        '{"a": NaN}',
        '{"a": 1e999}',
        '{"source": "\\udead"}',
        f'{{"a": {"9" * 5000}}}',
        '{"a":' * 600 + "1" + "}" * 600,
        '{"a":' * 99_999,
    ):
        Path("set/provenance.json").write_text(text)
        assert "set/provenance.json" in refused(capsys, "traces", "validate", "set")
