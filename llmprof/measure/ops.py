"""What kind of op each aten op is. An op that is not in this table stops a measurement.

Counters ask here rather than guess: an op that nobody has thought about must be an error, never zero.
"""

from __future__ import annotations

from enum import Enum

import torch
from torch._ops import OpOverload, OpOverloadPacket

_aten = torch.ops.aten


class Kind(Enum):
    """How an op moves bytes, and whether it contracts."""

    VIEW = "looks at storage that exists; launches nothing"
    ALLOCATION = "makes storage without writing it; launches nothing"
    COPY = "reads its source and overwrites its destination"
    GATHER = "reads the rows that it fetches, not the whole table"
    PICK = "reads one entry of each row, not the whole rows"
    FILL = "writes its outputs, the first input among them, and reads nothing"
    MARK = "reads indices and writes one value at each entry that they name"
    COMPOSITE = "launches other ops, which are seen in its place"
    INTO = "reads its operands and writes into its argument `out`"
    SCATTER = "reads rows and adds or compares them into rows of its destination, which it reads and writes"
    OWN = "has a rule of its own, in llmprof/measure/own_rules.py"
    PLAIN = "reads its inputs and writes its outputs; contracts nothing"
    CONTRACTION = "a matrix product"
    ATTENTION = "a whole attention in one kernel"
    ATTENTION_BACKWARD = "its gradients in one kernel, the scores computed again"


class UnknownOp(RuntimeError):
    """A dispatched op for which no counter has a rule."""

    def __init__(self, op: OpOverload, path: str) -> None:
        super().__init__(
            f"{op} was dispatched at {path or 'the model'!r}, and no rule says what it reads, writes or contracts; "
            "give it a kind in llmprof/measure/ops.py"
        )


_NAMES: dict[Kind, tuple[str, ...]] = {
    Kind.VIEW: (
        *("view", "_unsafe_view", "_reshape_alias", "alias", "detach", "t", "transpose", "permute"),
        *("expand", "slice", "select", "narrow", "squeeze", "unsqueeze", "unbind", "split", "split_with_sizes"),
        "as_strided",
    ),
    Kind.ALLOCATION: ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"),
    Kind.COPY: ("copy_",),
    Kind.GATHER: ("embedding", "index_select", "gather"),
    Kind.PICK: ("nll_loss_forward",),
    Kind.FILL: ("fill_", "zero_", "new_zeros", "zeros_like", "ones_like"),
    Kind.MARK: ("scatter_",),
    Kind.COMPOSITE: ("_safe_softmax", "softmax"),
    Kind.SCATTER: ("index_add_", "index_reduce_"),
    Kind.PLAIN: (
        # elementwise, and the same in place
        *("add", "sub", "mul", "div", "neg", "pow", "rsqrt", "sigmoid", "silu", "relu", "gelu", "tanh", "elu", "eq"),
        *("add_", "sub_", "mul_", "div_", "tanh_", "exp_", "abs_", "neg_", "sign_", "clamp_", "relu_"),
        *(
            "isneginf",
            "expm1",
            "exp",
            "sqrt",
            "softplus",
            "maximum",
            "tril",
            "sqrt_",
            "sigmoid_",
            "tril_",
            "logaddexp",
            "lerp_",
        ),
        # over rows
        *(
            "mean",
            "sum",
            "cumsum",
            "amax",
            "max",
            "all",
            "argmax",
            "topk",
            "_softmax",
            "_log_softmax",
            "native_layer_norm",
        ),
        # copies into new tensors
        *("clone", "_to_copy", "cat", "constant_pad_nd"),
        # fills of new tensors
        *("zeros", "ones", "full"),
        # packing and unpacking of a quantised cache
        *("abs", "clamp", "round", "stack"),
        *("__and__", "__or__", "__lshift__", "__rshift__"),
        *("bitwise_and", "bitwise_or", "bitwise_left_shift", "bitwise_right_shift"),
        "native_dropout",
        # what the backward pass launches beside them
        *(
            "sgn",
            "index_add",
            "flip",
            "scatter_add",
            "scatter",
            "elu_backward",
            "threshold_backward",
            "native_dropout_backward",
        ),
        *("tanh_backward", "sigmoid_backward", "silu_backward", "gelu_backward", "softplus_backward"),
        *("gt", "lt", "where", "masked_fill_", "masked_fill"),
        *("_softmax_backward_data", "_log_softmax_backward_data"),
        *("scalar_tensor", "ge", "le", "logical_and_"),
    ),
    Kind.OWN: (
        *("slice_backward", "select_backward", "embedding_dense_backward", "nll_loss_backward"),
        *("native_layer_norm_backward", "_fused_adamw_"),
    ),
    Kind.CONTRACTION: (
        *("mm", "addmm", "bmm", "baddbmm", "baddbmm_"),
        *("convolution", "convolution_backward", "linalg_solve_triangular"),
    ),
    Kind.ATTENTION: (
        "_scaled_dot_product_flash_attention",
        "_scaled_dot_product_efficient_attention",
        "_scaled_dot_product_flash_attention_for_cpu",
    ),
    Kind.ATTENTION_BACKWARD: (
        "_scaled_dot_product_flash_attention_backward",
        "_scaled_dot_product_efficient_attention_backward",
        "_scaled_dot_product_flash_attention_for_cpu_backward",
    ),
}

_KINDS: dict[OpOverloadPacket, Kind] = {getattr(_aten, name): kind for kind, names in _NAMES.items() for name in names}

_INTO: frozenset[OpOverload] = frozenset({_aten.where.self_out})


def kind_of(op: OpOverload, path: str) -> Kind:
    """The kind of `op`, dispatched at `path`; UnknownOp where the table does not name it."""
    if op in _INTO:
        return Kind.INTO
    kind = _KINDS.get(op.overloadpacket)
    # Any other out variant writes into an argument, which no rule here expects.
    if kind is None or "out" in op._overloadname:
        raise UnknownOp(op, path)
    return kind
