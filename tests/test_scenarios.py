"""Three scenarios of a handful of devices, worked out by hand: read the table, then the comments that explain it.

In all of them a device connects in 1 s, downloads 100 bytes at 10 bytes/s (10 s), trains as long as the scenario
says, and uploads 50 bytes at 10 bytes/s (5 s): a trip takes 16 s + training.
"""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import numpy as np

from fedsim.data.passes import Passes
from fedsim.device.session import Device
from fedsim.device.work import Work
from fedsim.units import DAY_S
from tests.build import ALWAYS, Seconds, Tables, buffered, by_device, device, network, played, replay, simulation, sync

WORK = Work(download_bytes=100, upload_bytes=50, passes=Passes(1, 10))


def phone(compute: Seconds) -> Device:
    return device(compute, link=network(down=10.0, up=10.0, connect_s=1.0))


SESSION_COLUMNS = ("device", "version", "assigned", "download", "train", "upload", "end", "outcome", "weight", "up B")


def session_text(run: Tables) -> str:
    """One line per session, by instant of assignment and device; ``-`` is null, instants in seconds."""
    names = ("device_id", "version", "assigned_at", "download_end_at", "train_end_at", "upload_end_at", "end_at")
    columns = [run.column(name) for name in names]
    columns += [run.outcomes, run.column("weight"), run.column("upload_bytes")]
    order = np.lexsort((run.column("device_id"), run.column("assigned_at")))
    return as_text(SESSION_COLUMNS, [[column[row] for column in columns] for row in order])


STEP_COLUMNS = ("version", "started", "closed", "committed", "assigned", "aggregated", "staleness")


def step_text(run: Tables) -> str:
    """One line per server step or abandoned round."""
    names = ("version", "started_at", "closed_at", "is_committed", "n_assigned", "n_aggregated", "mean_staleness")
    return as_text(STEP_COLUMNS, list(zip(*[run.step_column(name) for name in names], strict=True)))


def as_text(head: tuple[str, ...], rows: list[list[object]] | list[tuple[object, ...]]) -> str:
    cells = [list(head), *[[cell(value) for value in row] for row in rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    lines = ["  ".join(text.rjust(width) for text, width in zip(row, widths, strict=True)) for row in cells]
    return "\n".join(lines) + "\n"


def cell(value: object) -> str:
    if isinstance(value, float):
        return "-" if np.isnan(value) else f"{value:.3g}" if value < 1 else f"{value:g}"
    return {True: "yes", False: "no"}[bool(value)] if isinstance(value, np.bool_) else str(value)


def block(text: str) -> str:
    """An expected table as it stands in the source, its columns aligned to the right."""
    return dedent(text).lstrip("\n")


def test_round_with_over_selection(tmp_path: Path) -> None:
    """Goal 3 of a cohort of ⌈3 × 2.6⌉ = 8 devices: the third report closes the round."""
    train_s = (20, 30, 40, 60, 45, 44, 90, 40.5)
    plugged = [ALWAYS] * 8
    plugged[6] = ((0.0, 50.0),)
    run = played(
        simulation(
            sync(3, over_selection=2.6, server_step_s=100.0),
            fleet=replay(*plugged),
            phone=phone(by_device(*train_s)),
            work=WORK,
            max_s=72.0,
        ),
        tmp_path,
    )
    # 0: 0 + 1 + 10 = 11 → train 20 → 31 → upload 5 → 36. First report.
    # 1: 11 + 30 + 5 = 46. Second.
    # 2: 11 + 40 + 5 = 56. Third: the round closes at 56.
    # 3: trained at 71, after the round closed: told that it is not needed, no byte sent.
    # 4: trained at 11 + 45 = 56, asks at the very instant of closing: told as well.
    # 5: trained at 55, begins its upload one second early and ends it at 60: late, 50 bytes for nothing.
    # 6: unplugged at 50 while training.
    # 7: reports at 56.5, half a second late.
    assert session_text(run) == block("""
        device  version  assigned  download  train  upload   end      outcome  weight  up B
             0        0         0        11     31      36    36   AGGREGATED   0.333    50
             1        0         0        11     41      46    46   AGGREGATED   0.333    50
             2        0         0        11     51      56    56   AGGREGATED   0.333    50
             3        0         0        11     71       -    71      ABORTED       -     0
             4        0         0        11     56       -    56      ABORTED       -     0
             5        0         0        11     55      60    60         LATE       -    50
             6        0         0        11      -       -    50  INTERRUPTED       -     0
             7        0         0        11   51.5    56.5  56.5         LATE       -    50
        """)
    assert step_text(run) == block("""
        version  started  closed  committed  assigned  aggregated  staleness
              1        0      56        yes         8           3          0
        """)


def test_round_abandoned_at_its_deadline_then_one_that_counts(tmp_path: Path) -> None:
    """Goal 3, quorum 2, deadline 60 s; a round begins with whoever is there if that is a quorum."""
    first, later = np.array([20, 100, 90, 50]), np.array([20, 100, 44, 50])
    run = played(
        simulation(
            sync(3, over_selection=1.3, quorum_fraction=0.66, deadline_s=60.0),
            fleet=replay(ALWAYS, ALWAYS, ((0.0, 40.0), (55.0, DAY_S)), ALWAYS),
            phone=phone(Seconds(lambda ids, k: np.where(k == 0, first[ids], later[ids]).astype(np.float64))),
            work=WORK,
            max_steps=1,
            max_s=1000.0,
        ),
        tmp_path,
    )
    # Round 1, 0 to 60: only device 0 reports (36). That is below the quorum: what it sent is lost (TIMEOUT).
    #   1 has trained at 111 and 3 at 61: both are told. 2 is unplugged at 40.
    # Round 2 begins at 60 with devices 0 and 2, for 1 and 3 are still training: two of the three it wanted.
    #   0: 60 + 16 + 20 = 96. 2: 60 + 16 + 44 = 120, exactly the deadline: it counts, and 2 is the quorum.
    assert session_text(run) == block("""
        device  version  assigned  download  train  upload  end      outcome  weight  up B
             0        0         0        11     31      36   36      TIMEOUT       -    50
             1        0         0        11    111       -  111      ABORTED       -     0
             2        0         0        11      -       -   40  INTERRUPTED       -     0
             3        0         0        11     61       -   61      ABORTED       -     0
             0        0        60        71     91      96   96   AGGREGATED     0.5    50
             2        0        60        71    115     120  120   AGGREGATED     0.5    50
        """)
    assert step_text(run) == block("""
        version  started  closed  committed  assigned  aggregated  staleness
              0        0      60         no         4           0          -
              1       60     120        yes         2           2          0
        """)


def test_buffer_of_two(tmp_path: Path) -> None:
    """Three devices always in flight, a step with every second report, staleness at most 1, until 99.5 s."""
    run = played(
        simulation(
            buffered(3, 2, max_staleness=1),
            fleet=replay(ALWAYS, ALWAYS, ALWAYS),
            phone=phone(by_device(4, 17, 59)),  # trips of 20, 33 and 75 s
            work=WORK,
            max_s=99.5,
        ),
        tmp_path,
    )
    #  20  device 0 reports (version 0, 1 in the buffer) and starts again, still from version 0
    #  33  device 1 reports (0): step to version 1
    #  40  device 0 reports (0), staleness 1: 1 in the buffer
    #  60  device 0 reports (1): step to version 2; weights ½ · 1/√(1 + 1) and ½
    #  66  device 1 reports (1), staleness 1: 1 in the buffer
    #  75  device 2 reports (0), staleness 2: refused
    #  80  device 0 reports (2): step to version 3
    #  99  device 1 reports (2): still in the buffer when the run ends, hence open; it starts again
    #  99.5  the end. Device 0 has uploaded for 4.5 s, 2 trains, 1 connects: all are cut there.
    assert session_text(run) == block("""
        device  version  assigned  download  train  upload   end     outcome  weight  up B
             0        0         0        11     15      20    20  AGGREGATED     0.5    50
             1        0         0        11     28      33    33  AGGREGATED     0.5    50
             2        0         0        11     70      75    75       STALE       -    50
             0        0        20        31     35      40    40  AGGREGATED   0.354    50
             1        1        33        44     61      66    66  AGGREGATED   0.354    50
             0        1        40        51     55      60    60  AGGREGATED     0.5    50
             0        2        60        71     75      80    80  AGGREGATED     0.5    50
             1        2        66        77     94      99    99        OPEN       -    50
             2        2        75        86      -       -  99.5        OPEN       -     0
             0        3        80        91     95       -  99.5        OPEN       -    45
             1        3        99         -      -       -  99.5        OPEN       -     0
        """)
    assert step_text(run) == block("""
        version  started  closed  committed  assigned  aggregated  staleness
              1       20      33        yes         4           2          0
              2       40      60        yes         2           2        0.5
              3       66      80        yes         3           2        0.5
        """)
    assert run.column("staleness")[run.outcomes == "STALE"] == [2]
    assert run.summary["simulated_s"] == 99.5
    assert run.summary["stop_reason"] == "max_s"
