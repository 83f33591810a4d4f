"""Comparing runs, as cells of a notebook: two arms of three seeds are played, opened together and held apart."""

# %% [markdown]
# # Comparing runs
#
# One run is one draw of chance. Whether a change of the protocol helps is asked of several seeds of each arm. The arms
# share their draws: with the same seed the same phones come at the same instants, so what differs between two runs of
# one seed is the change, and a few seeds tell what many would not without pairs. This page plays two arms, each with
# three seeds, and looks at them together.

# %%
import fedsim
from fedsim.results.compare import compare
from fedsim.results.measures import Target

# %% [markdown]
# ## Two arms, three seeds
#
# A shell would say `fedsim run -m experiment=smoke … seed=0,1,2 server.over_selection=1.1,1.5`.

# %%
small = ["experiment=smoke", "fleet.n_devices=50_000", "server.report_goal=20", "stop.max_steps=20"]
for over_selection in (1.1, 1.5):
    for seed in (0, 1, 2):
        asked = [f"server.over_selection={over_selection}", f"seed={seed}"]
        fedsim.simulate(*small, *asked, folder=f"sweep/{over_selection}-{seed}")

# %% [markdown]
# `open_runs` takes runs and folders of runs. It finds what differs between them by itself: that tells the arms apart.
# A notebook shows a run, or several, as a table.

# %%
runs = fedsim.open_runs("sweep")
print(runs)
for arm in runs.arms:
    print(arm.label, "seeds", arm.seeds)

# %% [markdown]
# Each table is one frame of all runs, with what tells them apart in front.

# %%
print(runs.summary[["seed", "over_selection", "simulated_s", "device_h", "metrics.accuracy"]].to_string(index=False))

# %% [markdown]
# Sessions are read as asked: these columns, those rows, nothing else.

# %%
late = runs.sessions(["outcome", "upload_bytes"], filters=[("outcome", "==", "LATE")])
print(late.groupby(["over_selection", "seed"])["upload_bytes"].agg(["count", "sum"]))

# %% [markdown]
# What is too large for a frame is an Arrow dataset, which any engine for Arrow can query.

# %%
sessions = runs.dataset("sessions")
print(f"{sessions.count_rows():,} sessions, {len(sessions.schema)} columns")

# %% [markdown]
# ## What can be said
#
# `fedsim compare sweep` prints this and writes a page with the curves. Every number has its interval over the seeds,
# every difference its verdict; where nothing can be told it says how many seeds it would take.

# %%
comparison = compare(runs, targets=[Target("accuracy", 0.6)], against="1.1")
table = comparison.table().to_pandas()
wanted = ["device-hours", "wasted device time", "final accuracy", "time to accuracy ≥ 0.6"]
told = table[table["measure"].isin(wanted) & table["verdict"].notna()]
print(told[["measure", "difference", "difference_low", "difference_high", "verdict"]].to_string(index=False))

# %% [markdown]
# By hand: seed by seed, more over-selection costs so many device-hours more.

# %%
hours = runs.summary.pivot(index="seed", columns="over_selection", values="device_h")
print((hours[1.5] - hours[1.1]).round(4).to_string())
