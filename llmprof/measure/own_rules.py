"""What kernels read and write that do not simply read their inputs and write their outputs: those of a training step.

The rules are sections 5 and 7 of docs/reference-training.md. Sizes come from the tensors that a kernel really got.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from llmprof.measure.trace import Launch

Bytes = Callable[[Sequence[Tensor]], int]
"""The bytes of the distinct ones among tensors, each once, of unique elements alone."""


def _part_of_zeros(launch: Launch, distinct: Bytes) -> int:
    """Zeros into a new tensor, then a copy of the gradient into the part that was looked at."""
    gradient = launch.inputs[0]
    return distinct(launch.outputs) + 2 * distinct([gradient])


def _table(launch: Launch, distinct: Bytes) -> int:
    """Zeros into the whole table, then each row of the gradient is added to the row that was fetched."""
    gradient, indices = launch.inputs
    # Rows are read, and as many bytes of the table are read and written.
    return distinct(launch.outputs) + distinct([indices]) + 3 * distinct([gradient])


def _entries(launch: Launch, distinct: Bytes) -> int:
    """Zeros everywhere, then one value at the entry of each target. Of the log-probabilities the shape alone counts."""
    gradient, _, targets, total_weight = launch.inputs
    (out,) = launch.outputs
    read = distinct([gradient, targets, total_weight])
    return read + distinct(launch.outputs) + targets.numel() * out.element_size()


def _layer_norm(launch: Launch, distinct: Bytes) -> int:
    """The gradient, the rows, their statistics and the weight; a bias is passed and not looked at."""
    gradient, rows, _, mean, root, weight, *_ = launch.args
    read = [tensor for tensor in (gradient, rows, mean, root, weight) if tensor is not None]
    return distinct(read) + distinct(launch.outputs)


def _adamw(launch: Launch, distinct: Bytes) -> int:
    """Parameters, gradients, both moments and the count of steps are read; parameters and moments are written."""
    parameters, _, first, second, *_ = launch.args
    return distinct(launch.inputs) + distinct([*parameters, *first, *second])


_RULES: Mapping[str, Callable[[Launch, Bytes], int]] = {
    "aten::slice_backward": _part_of_zeros,
    "aten::select_backward": _part_of_zeros,
    "aten::embedding_dense_backward": _table,
    "aten::nll_loss_backward": _entries,
    "aten::native_layer_norm_backward": _layer_norm,
    "aten::_fused_adamw_": _adamw,
}


def own_bytes(launch: Launch, distinct: Bytes) -> int:
    """What a kernel of `Kind.OWN` reads and writes; KeyError where it has no rule here."""
    return _RULES[launch.op._schema.name](launch, distinct)
