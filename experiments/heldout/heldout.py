"""Fit the generator on half of a trace set, synthesize, and hold it against the other half.

Usage: heldout.py TRACE_SET REPORT.md
"""

from __future__ import annotations

import sys
from dataclasses import astuple, fields
from pathlib import Path

import numpy as np

from fedsim import rng
from fedsim.files import write_text
from fedsim.traces.assemble import take
from fedsim.traces.canonical import TraceSet
from fedsim.traces.fit import fit
from fedsim.traces.goodness import Goodness, goodness
from fedsim.traces.parameters import SynthesisParameters
from fedsim.traces.rule import Rule
from fedsim.traces.synthesis import REFERENCE, synthesize

RULES = ("charging & network == wifi & locked", "charging & network == wifi", "charging")


def main(folder: Path, report: Path, *, seed: int = 0, n_devices: int = 500) -> None:
    """Write the table of distances; the other real half is the yardstick for what is possible."""
    real = TraceSet.load(folder)
    order = rng.generator(seed, "halves").permutation(real.n)
    fitted_on, held_out = (take(real, np.sort(half)) for half in np.array_split(order, 2))
    template = SynthesisParameters.load(REFERENCE)
    made = synthesize(
        fit(fitted_on, template=template, source="half of the set"), n_devices=n_devices, n_days=7, seed=seed
    )
    names = [field.name.replace("_", " ") for field in fields(Goodness)]
    lines = [
        "| rule | compared with the held-out half | " + " | ".join(names) + " |",
        "|" + " --- |" * (len(names) + 2),
    ]
    for text in RULES:
        for label, other in (("synthetic, fitted on the first half", made), ("the first half itself", fitted_on)):
            values = astuple(goodness(other, held_out, Rule.parse(text)))
            lines.append(f"| `{text}` | {label} | " + " | ".join(f"{value:.3f}" for value in values) + " |")
    write_text(report, "\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
