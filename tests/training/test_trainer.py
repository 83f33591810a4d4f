import subprocess
import sys

import numpy as np

from fedsim.training.trainer import NullTrainer
from tests.training.tasks import updates


def test_nothing_is_trained_and_the_version_counts() -> None:
    trainer = NullTrainer(n_parameters=650)
    result = trainer.step(updates([1, 2]))
    assert (result.train_loss, result.update_norm, result.losses) == (None, None, None)
    assert not trainer.is_training
    assert (trainer.version, trainer.n_parameters, trainer.evaluate()) == (1, 650, {})


def test_updates_are_taken_by_row() -> None:
    taken = updates([5, 6, 7], [0, 1, 2]).take(np.array([2, 0]))
    assert taken.client_ids.tolist() == [7, 5]
    assert taken.versions.tolist() == [2, 0]
    assert taken.weights.tolist() == [3 / 6, 1 / 6]
    assert taken.seeds.tolist() == [2, 0]
    assert len(taken) == 2


def test_what_the_engine_imports_has_no_torch() -> None:
    modules = "fedsim.training.trainer, fedsim.training.local, fedsim.data.clients, fedsim.data.sources.synthetic"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules or 'sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
