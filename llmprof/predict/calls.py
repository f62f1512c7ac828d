"""A lowered run of kernels, and a call of it: what a tape records of equal layers. Axis legend: see `tensor.py`."""

from __future__ import annotations

from dataclasses import dataclass

from llmprof.predict.op import Op
from llmprof.predict.tensor import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """A lowered run of kernels that is called once or more: a layer. Its paths are relative.

    `live` are the tensors live at its peak, `peak_bytes` their sum; `result` is what it returns, whose
    bytes are part of the peak where it is already born then. `lent` are further tensors that outlive it, in the same
    way. `inputs` are what it was lowered on, in the order of what a call of it takes.
    """

    ops: tuple[Op, ...]
    result: Tensor
    peak_bytes: int
    live: tuple[Tensor, ...]
    lent: tuple[Tensor, ...] = ()
    inputs: tuple[Tensor, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """A segment called at `path`; `takes`, `gives` and `lends` are the caller's tensors."""

    path: str
    segment: Segment
    takes: tuple[Tensor, ...]
    gives: Tensor
    lends: tuple[Tensor, ...] = ()
