"""Models of runs in files: what is written, what a run can start from, what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from fedsim.cli.main import main
from fedsim.config.play import simulate
from fedsim.errors import InputError
from fedsim.results.run import Run, open_run
from fedsim.training.checkpoint import start_from, write_checkpoint
from fedsim.training.tasks.words import NextToken
from tests.smoke import small
from tests.training.tasks import clients, mlp, trainer

pytestmark = pytest.mark.slow
ASKED = ["fleet.n_devices=3000", "server.report_goal=20", "stop.max_steps=9", "evaluation.every_steps=2"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("model") / "run"
    return simulate(*small([*ASKED, "training.central.epochs=1"]), folder=folder)


def told(run: Run, name: str) -> dict[str, float]:
    with safe_open(run.folder / "model" / f"{name}.safetensors", "pt") as file:
        found: dict[str, float] = json.loads(file.metadata()["fedsim"])
        return found


def first_metrics(run: Run) -> dict[str, float]:
    first = run.evals[run.evals["version"] == 0]
    return dict(zip(first["metric"], first["value"], strict=True))


def test_a_run_leaves_its_models(run: Run) -> None:
    assert sorted(path.name for path in (run.folder / "model").iterdir()) == [
        "best.safetensors", "central.safetensors", "final.safetensors", "model.yaml",
    ]  # fmt: skip
    assert told(run, "final") == {"version": 9}
    best = run.evals[run.evals["metric"] == "accuracy"].sort_values("value", kind="stable", ascending=False).iloc[0]
    assert told(run, "best") == {"version": best["version"], "accuracy": best["value"]}


def test_a_run_starts_from_a_model(run: Run, tmp_path: Path) -> None:
    identities = [run.provenance["identity"]["run"]]
    for name, expected in (("final", run.summary["metrics"]), ("central", run.summary["central_metrics"])):
        file = run.folder / "model" / f"{name}.safetensors"
        again = simulate(*small([*ASKED, "stop.max_steps=1", f"model.init_from={file}"]), folder=tmp_path / name)
        assert first_metrics(again) == expected
        identities.append(again.provenance["identity"]["run"])
    assert len(set(identities)) == 3
    moved = tmp_path / "elsewhere.safetensors"
    moved.write_bytes((run.folder / "model" / "central.safetensors").read_bytes())
    same = simulate(*small([*ASKED, "stop.max_steps=1", f"model.init_from={moved}"]), folder=tmp_path / "moved")
    assert same.provenance["identity"] == again.provenance["identity"]  # it is known by what is in it


def test_the_best_version_is_the_best(run: Run, tmp_path: Path) -> None:
    file = run.folder / "model" / "best.safetensors"
    again = simulate(*small([*ASKED, "stop.max_steps=1", f"model.init_from={file}"]), folder=tmp_path / "run")
    assert first_metrics(again)["accuracy"] == run.evals.query("metric == 'accuracy'")["value"].max()


def test_the_lowest_loss_is_the_best(tmp_path: Path) -> None:
    asked = [*ASKED, "training.metrics=[log_loss]", "training.local.learning_rate=3.0"]
    run = simulate(*small(asked), folder=tmp_path / "run")
    least = run.evals["value"].min()
    assert told(run, "best")["log_loss"] == least and least < run.evals["value"].iloc[0]


def test_of_equals_the_earlier_stays(tmp_path: Path) -> None:
    asked = [*ASKED, "training.metrics=[accuracy]", "training.local.learning_rate=1e-9"]
    run = simulate(*small(asked), folder=tmp_path / "run")
    assert run.evals["value"].nunique() == 1
    assert told(run, "best")["version"] == 0


def test_a_model_can_be_had_again(run: Run) -> None:
    model = open_run(run.folder).model()
    x = torch.rand(5, 64)
    assert model(x).shape == (5, 10)
    assert not torch.equal(model(x), run.model("central")(x))


def test_the_same_run_leaves_the_same_bytes(run: Run, tmp_path: Path) -> None:
    again = simulate(*small([*ASKED, "training.central.epochs=1"]), folder=tmp_path / "run")
    for name in ("final", "best", "central"):
        file = f"model/{name}.safetensors"
        assert (again.folder / file).read_bytes() == (run.folder / file).read_bytes()


def test_nothing_trained_no_model(tmp_path: Path) -> None:
    run = simulate(*small([*ASKED, "training=none"]), folder=tmp_path / "run")
    assert not (run.folder / "model").exists()
    with pytest.raises(InputError, match="the run has no model in"):
        run.model()


def test_tied_weights_come_back_tied(tmp_path: Path) -> None:
    sizes = {"n_words": 9, "n_factors": 4, "n_hidden": 5, "cell": "GRU", "is_tied": True}
    one, other = (NextToken(**sizes) for _ in range(2))  # type: ignore[arg-type]
    write_checkpoint(tmp_path / "m.safetensors", one, {})
    start_from(other, tmp_path / "m.safetensors")
    assert other.scores.weight is other.embedding.weight
    assert torch.equal(other.embedding.weight, one.embedding.weight)


def test_the_file_is_torchs_own_state(run: Run) -> None:
    assert run.model().state_dict().keys() == {"output.weight", "output.bias"}


def test_bad_files(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = run.folder / "model" / "final.safetensors"
    (tmp_path / "torn").write_bytes(good.read_bytes()[:-9])
    save_file({"output.weight": torch.zeros(10, 64)}, tmp_path / "less")
    save_file({"output.weight": torch.zeros(10, 63), "output.bias": torch.zeros(10)}, tmp_path / "narrow")
    save_file({"output.weight": torch.zeros(10, 64).double(), "output.bias": torch.zeros(10)}, tmp_path / "double")
    save_file({"output.weight": torch.zeros(10, 64), "output.bias": torch.full((10,), torch.nan)}, tmp_path / "nan")
    more = {"output.weight": torch.zeros(10, 64), "output.bias": torch.zeros(10), "hidden": torch.zeros(1)}
    save_file(more, tmp_path / "more")
    for name, expected in {
        "nowhere": "checkpoint of a model not found",
        "torn": "checkpoint of a model cannot be read",
        "less": "checkpoint lacks those of the model: 'output.bias'",
        "narrow": "tensor output.weight of the checkpoint is not the model's: 'float32[10, 63]'",
        "double": "tensor output.weight of the checkpoint is not the model's: 'float64[10, 64]'",
        "nan": "tensor output.bias of the checkpoint is not finite",
        "more": "checkpoint has another tensor than those of the model: 'hidden'",
    }.items():
        where = tmp_path / "run"
        assert main(["run", *small([*ASKED, f"model.init_from={tmp_path / name}", f"hydra.run.dir={where}"])]) == 2
        said = capsys.readouterr().err
        assert expected in said and len(said.splitlines()) == 1
        assert not where.exists()
    with pytest.raises(InputError, match=r"no such model of the run: 'worst' .*allowed: best, central, final"):
        run.model("worst")


def test_a_run_does_not_clear_away_what_it_starts_from(run: Run, tmp_path: Path) -> None:
    own = tmp_path / "run"
    shutil.copytree(run.folder, own)
    file = own / "model" / "final.safetensors"
    words = ["run", *small([*ASKED, "force=true", f"model.init_from={file}", f"hydra.run.dir={own}"])]
    assert main(words) == 2
    assert file.exists()
    (own / "model" / "thesis.tex").write_text("years of work")
    assert main(["run", *small([*ASKED, "force=true", f"hydra.run.dir={own}"])]) == 2
    assert (own / "model" / "thesis.tex").exists() and file.exists()


def test_a_trainer_that_was_not_evaluated_has_no_best(tmp_path: Path) -> None:
    trainer(mlp, clients([4])).save(tmp_path / "model")
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["final.safetensors"]
