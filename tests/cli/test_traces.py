"""`fedsim traces …` as a user meets it: every action end to end, files whole or absent, one-line errors."""

import csv
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fedsim.cli.main import main
from fedsim.traces.folder import load_traces, save_traces
from fedsim.traces.importers import IMPORTERS
from tests.hand import events_of, traces_of

DAY_S = 86_400


@pytest.fixture
def phones(tmp_path: Path) -> Path:
    """Two phones over two days."""
    traces = traces_of(
        [
            events_of([(0, "charging", 1), (0, "battery", 40), (30, "charging", 0), (50, "charging", 1)]),
            events_of([(0, "charging", 0), (0, "network", "wifi"), (DAY_S, "charging", 1)]),
        ],
        period_s=2 * DAY_S,
    )
    save_traces(replace(traces, provenance={"source": "hand", "licence": "CC0"}), tmp_path / "phones")
    return tmp_path / "phones"


def traces(*words: object) -> int:
    return main(["traces", *map(str, words)])


def test_validate_counts_what_it_found(phones: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert traces("validate", phones) == 0
    assert capsys.readouterr().out == (
        "OK: 2 devices, 7 events of network, charging, battery, 4 device-days, 0 hardware classes\n"
    )


def test_validate_names_file_row_and_field(phones: Path, capsys: pytest.CaptureFixture[str]) -> None:
    events = pq.read_table(phones / "events.parquet")
    at_ms = events.column("at_ms").to_pylist()
    at_ms[2] = -5
    where = events.column_names.index("at_ms")
    pq.write_table(events.set_column(where, "at_ms", pa.array(at_ms)), phones / "events.parquet")
    assert traces("validate", phones) == 2
    assert f"at_ms outside 0 … period_ms at event 2: -5 in {phones}/events.parquet" in capsys.readouterr().err


@pytest.mark.slow
def test_show_prints_and_draws(phones: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "pages" / "show.html"
    assert traces("show", phones, "--page", page) == 0
    out = capsys.readouterr().out
    assert "2 devices" in out
    assert out.splitlines()[-1] == str(page)
    assert "charging &amp; network == wifi" in page.read_text()
    assert traces("show", phones, "--page", page, "--rule", "charging", "--unknown", "eligible") == 0
    assert "counts as eligible" in page.read_text()
    assert [path.name for path in page.parent.iterdir()] == ["show.html"]


@pytest.mark.slow
def test_criteria_as_table_json_csv_and_page(phones: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = ("--csv", tmp_path / "c.csv", "--page", tmp_path / "c.html")
    assert traces("criteria", phones, "charging", "battery >= {20,50}", *files) == 0
    assert "c2  charging & battery >= 50" in capsys.readouterr().out
    parts = [line["part"] for line in csv.DictReader((tmp_path / "c.csv").open()) if not line["hour"]]
    assert parts == ["alone"] * 3 + ["combination"] * 2 + ["joint"] + ["funnel"] * 3
    assert "combination 2" in (tmp_path / "c.html").read_text()
    assert traces("criteria", phones, "battery >= {20,50}", "--json", "--base", "charging") == 0
    table = json.loads(capsys.readouterr().out)
    assert table["base"] == "charging"
    assert [row["left"]["devices"] for row in table["rules"]] == [0.5, 0]


@pytest.mark.parametrize(
    "words",
    [
        ("merge", "phones", "phones", "phones"),
        ("synthesize", "phones", "--devices", "2"),
        ("debounce", "phones", "phones", "--gap-s", "1", "--channel", "charging"),
        ("resample", "phones", "phones", "--devices", "1"),
        ("import", "flash", "nothing.json", "phones"),
    ],
)
def test_a_set_that_is_there_is_not_replaced_unasked(
    phones: Path, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    before = (phones / "events.parquet").read_bytes()
    assert traces(*(phones if word == "phones" else word for word in words)) == 2
    assert "will not replace what is there" in capsys.readouterr().err
    assert (phones / "events.parquet").read_bytes() == before


def test_a_chain_of_changes_is_in_the_provenance(phones: Path, tmp_path: Path) -> None:
    assert traces("debounce", phones, tmp_path / "a", "--gap-s", 20, "--channel", "charging") == 0
    assert traces("resample", tmp_path / "a", tmp_path / "b", "--devices", 5, "--seed", 3) == 0
    assert traces("merge", tmp_path / "b", phones, phones, tmp_path / "c") == 0
    merged = load_traces(tmp_path / "c")
    assert merged.n == 9
    assert merged.provenance["sources"][0]["provenance"]["transforms"] == [
        "debounced charging: 1 of 1 gaps closed, those of at most 20 s",
        "resampled: 5 whole devices drawn of 2 with replacement, seed 3",
    ]


def test_a_set_can_be_changed_in_place(phones: Path) -> None:
    assert traces("resample", phones, phones, "--devices", 3, "--force") == 0
    assert load_traces(phones).n == 3


def test_import_takes_the_options_of_its_format(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "log.csv"
    log.write_text("who,at\na,10\na,20\nb,30\n")
    words = ("--user", "who", "--time", "at", "--unit", "s", "--clock", "relative", "--source", "my log")
    assert traces("import", "events", log, tmp_path / "set", *words) == 0
    assert "my log" in capsys.readouterr().out
    assert load_traces(tmp_path / "set").device_id.tolist() == ["a", "b"]


def test_measurements_are_imported_shown_and_validated(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert traces("import", "propius", shared_data / "raw/propius/client_spec_speed.pkl", tmp_path / "set") == 0
    assert "rows of hardware" in capsys.readouterr().out
    assert traces("validate", tmp_path / "set") == 0
    assert capsys.readouterr().out.startswith("OK: ")


@pytest.mark.slow
def test_a_fit_can_be_synthesized(tmp_path: Path) -> None:
    assert traces("synthesize", tmp_path / "a", "--devices", 30, "--days", 3) == 0
    assert traces("fit", tmp_path / "a", tmp_path / "a.json") == 0
    assert traces("synthesize", tmp_path / "b", "--devices", 4, "--days", 1, "--parameters", tmp_path / "a.json") == 0
    made = load_traces(tmp_path / "b")
    assert (made.n, made.period_days.tolist()) == (4, [1] * 4)
    assert traces("synthesize", tmp_path / "c", "--devices", 4, "--days", 1) == 0
    assert len(load_traces(tmp_path / "c").events) != len(made.events)


@pytest.mark.slow
def test_a_fit_is_held_against_phones_it_has_not_seen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert traces("synthesize", tmp_path / "a", "--devices", 40, "--days", 3) == 0
    words = ("--held-out", 0.25, "--rule", "screen", "--markdown", tmp_path / "fit.md")
    capsys.readouterr()
    assert traces("fit", tmp_path / "a", tmp_path / "a.json", *words, "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["made"], row["real"], row["rule"]) for row in rows] == [
        ("synthetic phones", "10 held-out phones", "screen"),
        ("the 30 phones of the fit", "10 held-out phones", "screen"),
    ]
    assert (tmp_path / "fit.md").read_text().count("| `screen` |") == 2
    assert traces("fit", tmp_path / "a", tmp_path / "b.json") == 0
    assert "the set" in capsys.readouterr().out


def test_a_set_compared_with_itself_is_perfect(phones: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert traces("compare", phones, phones, "--rule", "charging", "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert set(row["goodness"].values()) == {0.0}
    assert traces("compare", phones, phones, "--rule", "charging") == 0
    assert "0.000" in capsys.readouterr().out


def test_what_a_set_does_not_tell_is_unknown_and_not_a_number(phones: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert traces("compare", phones, phones, "--rule", "battery > 100", "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["goodness"]["session_ks"] is row["goodness"]["autocorrelation"] is None
    assert traces("compare", phones, phones, "--rule", "battery > 100") == 0
    assert "unknown" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("fit", "phones", "p.json", "--held-out", "1"), "--held-out is outside its range: 1.0"),
        (("fit", "phones", "p.json", "--held-out", "0.1"), "--held-out leaves no phone on one side: 0.1"),
    ],
)
def test_what_cannot_be_compared_is_one_line(
    phones: Path, words: tuple[str, ...], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {"phones": phones, "p.json": tmp_path / "p.json"}
    assert traces(*(places.get(word, word) for word in words)) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1
    assert not (tmp_path / "p.json").exists()


def test_help_lists_every_format(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        traces("import", "--help")
    out = capsys.readouterr().out
    assert all(name in out for name in IMPORTERS)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["show", "SET", "--rule", "charging"], "--rule is for the page"),
        (["show", "SET", "--page", "."], "not a folder"),
        (["criteria", "SET", "charging", "--csv", "."], "not a folder"),
        (["criteria", "SET", "charging", "--base", "locked"], "no event of channel: 'locked'"),
        (["criteria", "SET", "battery >= {}"], "a sweep needs values"),
        (["debounce", "SET", "out", "--gap-s", "-1"], "must not be negative"),
        (["debounce", "SET", "out", "--gap-s", "1", "--channel", "battery"], "only an on-off channel"),
        (["resample", "SET", "out", "--devices", "0"], "must be positive"),
        (["merge", "SET", "out"], "at least two"),
        (["merge", "SET", "nowhere", "out"], "nowhere"),
        (["validate", "nowhere"], "nowhere"),
        (["fit", "SET", "."], "not a folder"),
        (["fit", "SET", "out.json"], "fit no generator"),
        (["synthesize", "out", "--parameters", "nowhere.json"], "nowhere.json"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    phones: Path, words: list[str], says: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(phones.parent)
    assert traces(*(str(phones) if word == "SET" else word for word in words)) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("fedsim: ")
    assert says in captured.err
    assert [path.name for path in phones.parent.iterdir()] == ["phones"]


# --------------------------------------------------------------------------------- importers of other packages

FORMATS = """
from pathlib import Path
from fedsim.traces.importers import Importer, Option

MINE = Importer("Lines of seconds at which 100 % of phones come and go.", "acme.comings:take",
                options=(Option("day", int, 1, "days to keep"),))
NONSENSE = "no importer"
NO_DOOR = Importer("No such module.", "acme.nowhere:take")
DEAF = Importer("A door that is no function.", "acme.formats:NONSENSE")
GREEDY = Importer("An option that is taken.", "acme.comings:take", options=(Option("force", str, None, "mine"),))
"""
COMINGS = """
import numpy as np
from fedsim.traces.canonical import Events, TraceSet
from fedsim.traces.folder import TraceWriter
from fedsim.traces.importers.source import Source, source_file
from fedsim.traces.spans import Window, traces_of_spans

def take(src, dst, day):
    lines = source_file(src, "comings").read_text().split()
    at_ms = np.array([int(line) * 1000 for line in lines])
    window = Window(np.arange(day), False)
    traces = traces_of_spans(np.array(["x"], dtype=object), np.zeros(len(at_ms) // 2, dtype=np.int64),
                             at_ms[::2], at_ms[1::2], window=window, counts={})
    with TraceWriter(dst) as writer:
        writer.add(traces)
        writer.provenance = Source("comings", src.name, "mine").provenance([src], ["none"], {"n_lines": len(lines)})
"""


def install(folder: Path, package: str, **entries: str) -> None:
    """What an installer leaves of a package: its name, and the importers it adds."""
    info = folder / f"{package}-1.5.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.5\n")
    lines = [f"{name} = {value}" for name, value in entries.items()]
    (info / "entry_points.txt").write_text("\n".join(["[fedsim.importers]", *lines]))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of installed packages, in which ``acme`` is one."""
    package = tmp_path / "site" / "acme"
    package.mkdir(parents=True)
    for name, text in (("__init__", ""), ("formats", FORMATS), ("comings", COMINGS), ("broken", "1 / 0")):
        (package / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(package.parent)
    yield package.parent
    for name in [name for name in sys.modules if name.split(".")[0] == "acme"]:
        del sys.modules[name]


def test_another_package_adds_a_format(site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install(site, "acme", comings="acme.formats:MINE")
    with pytest.raises(SystemExit):
        traces("import", "--help")
    listed = " ".join(capsys.readouterr().out.split())
    assert "comings added by package acme 1.5" in listed
    assert all(name in listed for name in IMPORTERS)
    assert not any(name.startswith("acme") for name in sys.modules)
    with pytest.raises(SystemExit):
        traces("import", "comings", "--help")
    asked = capsys.readouterr().out
    assert "100 % of phones" in asked and "days to keep (default: 1)" in asked and "--force" in asked
    log = tmp_path / "log.txt"
    log.write_text("3600\n7200\n90000\n93600\n")
    assert traces("import", "comings", log, tmp_path / "set", "--day", 2) == 0
    made = load_traces(tmp_path / "set")
    assert (made.n, made.period_days.tolist(), made.events.at_ms.tolist()[1:3]) == (1, [2], [3_600_000, 7_200_000])
    assert (made.provenance["importer"], made.provenance["n_lines"]) == ("comings", 4)
    assert traces("import", "comings", log, tmp_path / "set") == 2
    assert "will not replace what is there" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("other", "acme.broken:MINE", "cannot be loaded (ZeroDivisionError: division by zero): 'other' in package"),
        ("other", "acme.nowhere:MINE", "cannot be loaded (ModuleNotFoundError"),
        ("other", "acme.formats:THEIRS", "cannot be loaded (AttributeError"),
        ("other", "acme.formats:NO_DOOR", "cannot be loaded (ModuleNotFoundError"),
        ("other", "acme.formats:NONSENSE", "is no importer: 'other' in package acme 1.5 (allowed: an Importer"),
        ("other", "acme.formats:GREEDY", "options of another package's importer cannot be used (argument --force"),
        ("other", "acme.formats:DEAF", "is no importer"),
        ("flash", "acme.formats:MINE", "under a name of ours: 'flash' in package acme 1.5"),
        ("twice", "acme.formats:MINE", "must be that of one package: 'twice' in package acme 1.5, package rival 1.5"),
    ],
)
@pytest.mark.parametrize("words", [("log.csv", "set"), ("--help",), ()])
def test_a_broken_importer_of_another_package_is_one_line_and_harms_no_other(
    site: Path, words: tuple[str, ...], name: str, value: str, says: str, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    install(site, "acme", **{name: value, "comings": "acme.formats:MINE"})
    install(site, "rival", twice="rival:MINE")
    monkeypatch.chdir(site.parent)
    Path("log.csv").write_text("user,time\na,10\n")
    assert traces("import", name, *words) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1 and error.startswith("fedsim: ")
    assert sorted(path.name for path in site.parent.iterdir()) == ["log.csv", "site"]
    assert traces("import", "events", "log.csv", "set", "--unit", "s", "--clock", "relative") == 0
    Path("log.txt").write_text("1\n2\n")
    assert traces("import", "comings", "log.txt", "mine") == 0
    with pytest.raises(SystemExit) as left:
        traces("import", "--help")
    assert left.value.code == 0 and name in capsys.readouterr().out


def test_other_packages_are_looked_up_only_for_an_import() -> None:
    code = "import sys; from fedsim.cli.main import main\ntry: main(sys.argv[1:])\nfinally: print('|', *sys.modules)"
    for words, is_looked_up in ((["--help"], False), (["traces", "--help"], False), (["traces", "import", "-h"], True)):
        out = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True).stdout
        assert ("importlib.metadata" in out.rpartition("|")[2].split()) == is_looked_up
