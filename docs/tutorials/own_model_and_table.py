"""Your own model and table, as cells of a notebook: fifteen lines, and a run trains them."""

# %% [markdown]
# # Your own model and table
#
# A team has a table of examples with a column that says whose each row is, and a `torch.nn.Module`. Both plug in by
# name: no code of fedsim has to be read. This page makes up a small table, as a CSV, and runs it.

# %%
import sys
from pathlib import Path

import numpy as np
import pandas as pd

import fedsim

draw = np.random.default_rng(7)
user = np.repeat([f"user-{n:03}" for n in range(300)], draw.integers(3, 30, 300))
table = pd.DataFrame({"user": user, "age_days": draw.exponential(90, len(user))})
table["network"] = draw.choice(["wifi", "4g"], len(user))
risk = table["age_days"] / 90 + (table["network"] == "4g") + draw.normal(0, 0.7, len(user))
table["churned"] = (risk > 1.8).astype(int)
table["day"] = draw.integers(0, 28, len(user))
table.to_csv("churn.csv", index=False)
print(table.head())

# %% [markdown]
# ## The model: any module
#
# It is an ordinary class in a file of yours that Python finds. `forward` takes one tensor `x` with a row for each
# example: the features side by side in the order of the YAML, here one number and one id. Outputs are logits. How many
# ids there are only the data knows: the argument is `from_data` below.

# %%
Path("churn_model.py").write_text("""
import torch

class ChurnModel(torch.nn.Module):
    def __init__(self, n_values):
        super().__init__()
        self.of_id, self.of_number = torch.nn.Embedding(n_values, 1), torch.nn.Linear(1, 1)

    def forward(self, x):
        return (self.of_number(x[:, :1]) + self.of_id(x[:, 1].long())).squeeze(1)
""")
sys.path.insert(0, str(Path.cwd()))

# %% [markdown]
# ## The table: one YAML
#
# `data=table` reads Parquet, CSV, LEAF's JSON or npz: a file, a folder, a pattern or a remote address. Categories get
# their ids from the training rows, numbers are standardised over them, and the last quarter of each user's rows is held
# out. [own_data.md](../own_data.md) has all keys.

# %%
Path("my_configs/data").mkdir(parents=True)
Path("my_configs/data/churn.yaml").write_text("""
defaults: [table, _self_]
path: churn.csv
client: user
time: day
label: churned
held_out: {by: last_fraction_of_client, value: 0.25}
features:
  age: {kind: numbers, column: age_days}
  network: {kind: category, column: network}
""")

# %%
asked = [
    "hydra.searchpath=[file://my_configs]", "data=churn", "experiment=smoke", "training.loss=binary_cross_entropy",
    "training.metrics=[auc,log_loss]", "~model.module.n_inputs", "~model.module.n_classes",
    "model.module._target_=churn_model.ChurnModel", "+model.module.n_values=from_data",
    "training.central.epochs=5", "training.server_optimizer.learning_rate=1.0", "evaluation.groups=[size,tier]",
    "fleet.n_devices=20_000", "server.report_goal=30", "stop.max_steps=60",
]  # fmt: skip
run = fedsim.simulate(*asked)
auc = run.evals[run.evals["metric"] == "auc"].set_index("version")["value"]
print(auc.round(3).to_string())

# %% [markdown]
# ## What federated training costs in quality
#
# The central baseline is the same module and the same code on all rows in one place. Metrics by groups of phones say
# whom the model serves: here users with few examples beside those with many.

# %%
central = run.summary["central_metrics"]["auc"]
print(f"federated {auc.iloc[-1]:.3f}, central {central:.3f}")
of_groups = run.groups[run.groups["metric"] == "auc"].set_index("group")
print(of_groups[["n_devices", "n_examples", "value", "central_value"]].round(3).to_string())

# %% [markdown]
# ## Data that is no table
#
# A class of yours with five methods is client data as well: a simulator of users, a database, a feature store. It is
# named by `_target_` in a YAML, like everything else.

# %%
Path("waves.py").write_text('''
import numpy as np

class Waves:
    """Client c holds 5 + c % 20 points of a wave with a phase of its own; the label says whether it is above zero."""
    sizes = {"n_inputs": 2, "n_classes": 2}

    def __init__(self, n_clients: int):
        self.n_clients = n_clients

    def n_examples(self, client_ids):
        return 5 + client_ids % 20

    def fetch(self, client_ids):
        from fedsim.data.clients import Examples
        lengths = self.n_examples(client_ids)
        ends = np.concatenate([[0], np.cumsum(lengths)])
        place = np.arange(ends[-1]) - np.repeat(ends[:-1], lengths)  # a client's points are the same each time
        return Examples(*self._points(np.repeat(client_ids, lengths), place), ends)

    def held_out(self):
        return self._points(self.n_clients + np.arange(500), np.arange(500))

    def sha256(self):
        return f"waves of {self.n_clients}"

    def _points(self, of_client, place):
        at = 3 * np.modf(np.abs(np.sin(of_client * 12.9898 + place * 78.233)) * 43758.5)[0]
        x = np.stack([np.sin(at), np.cos(at)], axis=1).astype(np.float32)
        return x, (np.sin(at + of_client % 7 / 10) > 0.5).astype(np.int64)
''')
Path("my_configs/data/waves.yaml").write_text("_target_: waves.Waves\nn_clients: 400\n")
own = fedsim.simulate(
    "hydra.searchpath=[file://my_configs]", "experiment=smoke", "data=waves", "fleet.n_devices=20_000",
    "server.report_goal=30", "training.local.epochs=3", "stop.max_steps=40",
)  # fmt: skip
print(own.evals.pivot(index="version", columns="metric", values="value").round(3))
