"""Your own local algorithm, as cells of a notebook: one method changes what phones do with their batches."""

# %% [markdown]
# # Your own local algorithm
#
# What a phone does with a batch is a class. Here one is written that phones with skewed data may need: the gradient's
# sign alone decides where a parameter goes, so that no client pulls harder than another. It is run beside the shipped
# FedProx and plain SGD, on digits of which every client has few classes.

# %%
import sys
from pathlib import Path

import pandas as pd

import fedsim

# %% [markdown]
# ## One method
#
# A subclass of `LocalSgd` overrides `gradient(parameters, gradients, start)`: tensors by the parameter's name, `start`
# those that the client downloaded. It is about one client; many are trained at once all the same. Settings are fields.
# (What does more than change the gradient overrides `step`, and `memory` if it keeps something from step to step.)

# %%
Path("my_local.py").write_text('''
from dataclasses import dataclass

from fedsim.training.algorithm.sgd import LocalSgd


@dataclass(frozen=True, kw_only=True)
class SignSgd(LocalSgd):
    """The sign of each coordinate of the gradient, pulled a little to the downloaded model."""

    pull: float

    def gradient(self, parameters, gradients, start):
        return {
            name: (gradient + self.pull * (parameters[name] - start[name])).sign()
            for name, gradient in gradients.items()
        }
''')
sys.path.insert(0, str(Path.cwd()))
Path("my_configs/training/local").mkdir(parents=True)
Path("my_configs/training/local/sign.yaml").write_text("""
defaults: [sgd, _self_]
_target_: my_local.SignSgd
learning_rate: 0.03        # of signs
pull: 0.01
""")

# %% [markdown]
# ## Three arms
#
# The same phones, the same draws; only `training/local` differs. Skew: `data.alpha=0.1`.

# %%
common = [
    "hydra.searchpath=[file://my_configs]", "experiment=smoke", "data.alpha=0.1", "training.local.epochs=5",
    "fleet.n_devices=50_000", "server.report_goal=20", "stop.max_steps=30",
]  # fmt: skip
arms = {
    "sgd": [],
    "fedprox": ["training/local=fedprox", "training.local.mu=0.1"],
    "sign": ["training/local=sign"],
}
runs = {name: fedsim.simulate(*common, *chosen) for name, chosen in arms.items()}
accuracy = pd.DataFrame(
    {name: run.evals.query("metric == 'accuracy'").set_index("version")["value"] for name, run in runs.items()}
)
print(accuracy.round(3))

# %% [markdown]
# Each arm spent the same time of the phones, since all plan the same steps; a difference of one seed is no difference
# yet: `fedsim compare` says what several seeds tell.

# %%
print({name: round(run.summary["device_h"], 2) for name, run in runs.items()})
print({name: run.steps["update_norm"].round(3).iloc[0] for name, run in runs.items()})
