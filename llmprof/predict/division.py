"""Which axis of a parameter tensor parallelism divides, in training and in inference alike.

Megatron's way (source key `megatron-recompute`): a column-parallel matrix holds part of its outputs (queries, keys and
values by heads, the width between the matrices of a feed-forward), the row-parallel one behind it part of its inputs.
Axis legend: see `tensor.py`.
"""

from __future__ import annotations

from llmprof.predict.tensor import Axes

DIVIDED = ("q", "kv", "k", "n", "f", "v")
"""Axes that tensor parallelism divides, in the order in which they are looked for: all values of queries and of keys,
heads, the width of a feed-forward, the vocabulary."""

WHOLE = ("pos_embed", "type_embed", "rel_bias")
"""Tables that every device has."""


def parameter_axis(path: str, axes: Axes) -> str | None:
    """The axis of a parameter of the leaf `path` that is divided; None where every device has all of it.

    The matrix of a linear has one divided side; the bias of a row-parallel one, norms and small tables are whole.
    """
    if path.rpartition(".")[2] in WHOLE:
        return None
    return next((name for name in DIVIDED if name in axes), None)


def divisors(common: int) -> str:
    """The numbers of devices that divide `common`, for a message."""
    return ", ".join(str(count) for count in range(1, common + 1) if common % count == 0)
