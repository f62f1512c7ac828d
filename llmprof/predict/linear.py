"""A linear layer: one kernel (reference-execution.md, section 2). Axis legend: see `tensor.py`."""

from __future__ import annotations

from llmprof.predict.tape import Tape
from llmprof.predict.tensor import Tensor


def linear(tape: Tape, name: str, x: Tensor) -> Tensor:
    """The leaf `name` applied to `x` [.., d_in]: returns [.., d_out]. FLOPs: 2 N d_in d_out."""
    with tape.module(name, x):
        return tape.across("sum", matmul(tape, x, tape.cast_parameters()))


def matmul(tape: Tape, x: Tensor, parameters: tuple[Tensor, ...]) -> Tensor:
    """`mm` of `x` with a weight [d_out, d_in], or `addmm` where a bias follows."""
    weight, *bias = parameters
    rows, out = list(x.axes)[:-1], next(iter(weight.axes))
    if bias:
        return tape.contract(x, weight, " ".join([*rows, out]), kind="addmm", addend=bias[0])
    return tape.contract(x, weight, " ".join([*rows, out]), kind="mm")
