"""Gradients and the optimiser: AdamW in mixed precision, in one fused kernel (docs/reference-training.md, section 7).

Symbols: n values with a gradient, e bytes of a parameter's value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from llmprof.predict.backward import WITHOUT_DERIVATIVE
from llmprof.predict.calls import Call
from llmprof.predict.formats import FP32, Format
from llmprof.predict.op import Op
from llmprof.predict.tensor import Home, Storage, Tensor, owner

STATES = 8
"""Bytes per value of the two moments, in fp32."""

MASTER = 4
"""Bytes per value of the copy in fp32 that is kept where the parameter itself is not."""

STEPS = 12
"""Bytes that one step moves whatever the model: the count of steps is added to, and read by the kernel."""


def state_bytes(values: int, weights: Format) -> int:
    """What the optimiser keeps for so many values."""
    return values * (STATES if weights is FP32 else STATES + MASTER)


def cast_bytes(values: int, weights: Format) -> int:
    """What the gradients' casts to fp32 take while a step runs, where gradients are of 16 bits."""
    return 0 if weights is FP32 else 4 * values


def step_bytes(values: int, weights: Format) -> int:
    """Op-level bytes of one step over so many values.

    fp32: 16 n read and 12 n written by the kernel. 16 bits: the gradients are cast (e n, 4 n) before it, and the
    masters copied into their parameters (4 n, e n) behind it.
    """
    update = 16 + 12
    if weights is not FP32:
        e = weights.bits // 8
        update += (e + 4) + (4 + e)
    return STEPS + update * values


def learned(items: Sequence[Op | Call], results: Sequence[Tensor]) -> Mapping[str, Sequence[str]]:
    """Leaf -> the names of its parameters that the loss depends on, by kernels that have a derivative."""
    found: dict[str, dict[str, None]] = {}
    wanted = {tensor.storage for tensor in results}
    segments: dict[object, Mapping[str, Sequence[str]]] = {}
    for item in reversed(items):
        if isinstance(item, Call):
            if any(tensor.storage in wanted for tensor in (item.gives, *item.lends)):
                wanted.update(tensor.storage for tensor in item.takes)
                segment = item.segment
                if segment not in segments:
                    segments[segment] = learned(segment.ops, (segment.result, *segment.lent))
                for path, names in segments[segment].items():
                    found[f"{item.path}.{path}"] = dict.fromkeys(names)
        elif any(tensor.storage in wanted for tensor in item.writes):
            _take(item, wanted, found)
    return {path: tuple(names) for path, names in found.items()}


def _take(op: Op, wanted: set[Storage], found: dict[str, dict[str, None]]) -> None:
    """What a kernel that leads to the loss reads leads to it too."""
    if op.kind in WITHOUT_DERIVATIVE:
        wanted.difference_update(tensor.storage for tensor in op.writes)
        return
    for tensor in op.reads:
        wanted.add(tensor.storage)
        if tensor.home is Home.WEIGHT:
            found.setdefault(op.path, {})[_parameter(tensor)] = None


def _parameter(tensor: Tensor) -> str:
    """The name of the parameter that a kernel reads, if only rows of it."""
    return owner(tensor).name
