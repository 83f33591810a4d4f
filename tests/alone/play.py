"""``python -m tests.alone.play SEED …``: what engine and simulator disagree on in these set-ups."""

from __future__ import annotations

import sys
from pprint import pprint

from tests.alone.compare import differences
from tests.alone.setups import setup_of


def main(seeds: list[str]) -> None:
    """Print the set-up if it is one, and the differences."""
    if len(seeds) == 1:
        pprint(setup_of(int(seeds[0])), width=160)
    for seed in seeds:
        print(*(differences(int(seed)) or [f"set-up {seed}: agreed"]), sep="\n")


if __name__ == "__main__":
    main(sys.argv[1:])
