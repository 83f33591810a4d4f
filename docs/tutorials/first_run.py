"""A first run, as cells of a notebook: three small runs are played here and looked at."""

# %% [markdown]
# # A first run
#
# fedsim answers what federated learning on your phones would be like before any phone is asked: who could take part,
# how long it takes, what it costs. This page plays three small runs in this process and looks at their tables. Open it
# in an editor that knows `# %%` cells, or run it as it stands; it takes some seconds.

# %%
import pandas as pd

import fedsim

# %% [markdown]
# ## Who takes part: no model needed
#
# A planner can leave the training out (`training=none`): the same schedule is played, no tensor moves. Arguments of
# `simulate` are those of the command `fedsim run`: `group=option` chooses a file of `configs/`, `key=value` sets a
# value. The run's files go to a new folder `runs/<date>/<time>`, as the command's do. `experiment=smoke` is the
# smallest task that ships.

# %%
small = ["experiment=smoke", "fleet.n_devices=50_000", "server.report_goal=20"]
plan = fedsim.simulate("training=none", "stop.max_steps=30", *small)
print(plan.folder)
print(f"{plan.summary['n_steps']} rounds in {plan.summary['simulated_s'] / 3600:.1f} simulated hours")

# %% [markdown]
# A run has its tables as pandas frames; `fedsim tables` tells every column with its unit. Instants are seconds since
# the run's midnight. The share of the fleet that is eligible goes up and down with the hour of the day:

# %%
week = plan.eligibility
by_hour = week.groupby(week["at"] % 86400 // 3600)["eligible_fraction"].mean()
print(by_hour.round(4).to_string())

# %% [markdown]
# Each round asks more phones than it needs. How long did rounds take?

# %%
rounds = plan.steps[plan.steps["is_committed"]]
print((rounds["closed_at"] - rounds["started_at"]).describe(percentiles=[0.5, 0.95]).round(1).to_string())

# %% [markdown]
# Sessions are the large table: one row for each trip of a phone, millions in a long run. So it is a method, which reads
# the columns that are asked for. Outcome and network are words.

# %%
sessions = plan.sessions(["outcome", "assigned_at", "end_at", "download_bytes", "upload_bytes"])
sessions["device_s"] = sessions["end_at"] - sessions["assigned_at"]
costs = sessions.groupby("outcome", observed=True)[["device_s", "download_bytes", "upload_bytes"]].sum()
costs.insert(0, "n", sessions["outcome"].value_counts())
print(costs)
wasted = 1 - costs.loc["AGGREGATED", "device_s"] / costs["device_s"].sum()
print(f"{wasted:.1%} of the phones' time went into updates that no model saw")

# %% [markdown]
# ## What the model learns
#
# With the default `training=cohort` the phones that would have taken part really train: here logistic regression on
# scikit-learn's digits. Two seeds tell how much of a curve is chance.

# %%
runs = {seed: fedsim.simulate(f"seed={seed}", "stop.max_steps=20", *small) for seed in (0, 1)}
curves = pd.concat({seed: run.evals for seed, run in runs.items()}, names=["seed"]).reset_index("seed")
accuracy = curves[curves["metric"] == "accuracy"].pivot(index="version", columns="seed", values="value")
print(accuracy.round(3))

# %%
apart = (accuracy[0] - accuracy[1]).abs().iloc[-1]
print(f"after {accuracy.index[-1]} rounds the two seeds are {apart:.3f} apart")

# %% [markdown]
# ## Later
#
# A run is its folder. It can be opened again, in another notebook or after the command `fedsim run`; `fedsim report`
# makes a page of it.

# %%
again = fedsim.open_run(plan.folder)
print(again, again.config["server"]["report_goal"], again.provenance["versions"]["numpy"])
