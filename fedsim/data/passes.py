"""How many optimiser steps local work takes, and how many examples they see: in whole passes, or a fixed number."""

from __future__ import annotations

from typing import Any

# ``n_examples`` is a whole number or an array of them; so is what comes back.


def n_steps(n_examples: Any, *, epochs: int, batch_size: int, local_steps: int | None) -> Any:
    """``epochs`` × ⌈examples ÷ batch size⌉, or ``local_steps`` of whoever has an example."""
    if local_steps is None:
        return epochs * -(-n_examples // batch_size)
    return local_steps * (n_examples > 0)


def has_batch_of_one(n_examples: Any, *, epochs: int, batch_size: int, local_steps: int | None) -> Any:
    """Whether some step takes a single example: the rest of a pass, if the steps come to it."""
    is_one = (n_examples > 0) & ((n_examples - 1) % batch_size == 0)
    if local_steps is None or batch_size == 1:
        return is_one
    return is_one & (-(-n_examples // batch_size) <= local_steps)


def n_visits(n_examples: Any, *, epochs: int, batch_size: int, local_steps: int | None) -> Any:
    """Examples seen; a fixed number of steps goes through the batches pass after pass, each ending with its rest."""
    if local_steps is None:
        return epochs * n_examples
    a_pass = -(-n_examples // batch_size) + (n_examples == 0)
    passes, rest = local_steps // a_pass, local_steps % a_pass
    in_part = rest * batch_size
    return passes * n_examples + in_part - (in_part > n_examples) * (in_part - n_examples)
