"""FLOPs of operators that torch's counter does not know, or counts wrongly, as functions of the shapes.

A rule gets the operator's arguments with every tensor replaced by its shape. One multiply-add is two FLOPs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

_aten = torch.ops.aten


def _recurrent_flops(x: Sequence[int], w_ih: Sequence[int], w_hh: Sequence[int], *_: Any, **__: Any) -> int:
    """One recurrent layer in one direction over ``x`` [length, n, in]: 2 · gates · h · (in + h) a step and sequence.

    The weights [gates · h, in] and [gates · h, h] tell the gates: 4 in an LSTM, 3 in a GRU, 1 in a plain RNN.
    """
    return 2 * math.prod(x[:2]) * (math.prod(w_ih) + math.prod(w_hh))


def _recurrent_backward_flops(x: Sequence[int], w_ih: Sequence[int], w_hh: Sequence[int], *_: Any, **__: Any) -> int:
    """Twice the forward pass: gradients of the weights, and of inputs and states."""
    return 2 * _recurrent_flops(x, w_ih, w_hh)


def _convolution_backward_flops(
    grad: Sequence[int], x: Sequence[int], weight: Sequence[int], *rest: Any, **__: Any
) -> int:
    """As much as the forward pass for each of the asked gradients of input and weight, groups included.

    Torch's own rule ignores groups, and so counts a depthwise convolution many times over.
    """
    is_transposed: bool = rest[4]
    is_wanted: Sequence[bool] = rest[7]
    n_windows = math.prod(x if is_transposed else grad)
    return 2 * n_windows * math.prod(weight[1:]) * sum(is_wanted[:2])


def _attention_flops(query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: Any, **__: Any) -> int:
    """Scores and their product with the values: 2 · heads · queries · keys · (width + width of a value)."""
    return 2 * math.prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


def _attention_backward_flops(
    _grad: Sequence[int], query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: Any, **__: Any
) -> int:
    """The scores anew, and the gradients of scores, queries, keys and values: five products for the forward's two."""
    return 2 * math.prod(query[:-1]) * key[-2] * (3 * query[-1] + 2 * value[-1])


# The fused layer that an LSTM is on a CPU. Other recurrent modules, and an LSTM where the fused layer is missing,
# fall apart into matrix products, which torch counts itself. So does its attention, but for the CPU's fused one.
RULES = {
    _aten.mkldnn_rnn_layer: _recurrent_flops,
    _aten.mkldnn_rnn_layer_backward: _recurrent_backward_flops,
    _aten.convolution_backward: _convolution_backward_flops,
    _aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
    _aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward_flops,
}
# Operators (table, ids, …) that read rows of a table.
LOOKUPS = (_aten.embedding, _aten._embedding_bag, _aten._embedding_bag_forward_only)
