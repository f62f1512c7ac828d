"""How the results of backward's kernels lie in memory: whether a view can show them otherwise depends on it.

Three rules of torch (docs/reference-training.md), all of them pure functions of strides:

* an elementwise kernel writes densely, its axes in the order of its operands' strides, the first that tells counting
  (`reorder_dimensions` in aten/src/ATen/TensorIterator.cpp, torch 2.13, recalled);
* a `reshape` is a view where each axis of the result falls into a run of axes that lie one behind the other
  (`computeStride` in aten/src/ATen/TensorUtils.cpp, torch 2.13, recalled), and otherwise a copy;
* products and reductions write contiguously.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from llmprof.predict.tensor import Axes, Tensor

Strides = tuple[int, ...]


def strides(x: Tensor) -> Strides:
    """How many elements apart neighbours along each axis of x lie; 0 along one that is expanded."""
    if x.memory is not None:
        return tuple(x.stride(name) for name in x.axes)
    assert x.of is not None, x
    outer = dict(zip(x.of.axes, strides(x.of), strict=True))
    if x.via == "transpose":
        return tuple(outer[name] for name in x.axes)
    assert x.via in ("slice", "rename"), x
    return tuple(outer.values())


def elementwise_order(axes: Axes, operands: Sequence[Tensor]) -> tuple[str, ...]:
    """The names of `axes`, outermost first, as an elementwise kernel of these operands writes them."""
    names = list(axes)
    along = [_strides_within(axes, operand) for operand in operands]
    order = list(range(len(names)))[::-1]  # innermost first
    for index in range(1, len(order)):
        moving = index
        for other in range(index - 1, -1, -1):
            compared = _compare(along, axes, names, order[other], order[moving])
            if compared > 0:
                order[other], order[moving] = order[moving], order[other]
                moving = other
            elif compared < 0:
                break
    return tuple(names[at] for at in reversed(order))


def _compare(along: Sequence[Strides], axes: Axes, names: Sequence[str], inner: int, outer: int) -> int:
    """1 where axis `inner` should stand outside axis `outer`, -1 where it should not, 0 where no operand tells."""
    for operand in along:
        a, b = operand[inner], operand[outer]
        if a == 0 or b == 0:
            continue
        if a != b:
            return -1 if a < b else 1
        if axes[names[inner]] > axes[names[outer]]:
            return 1
    return 0


def _strides_within(axes: Axes, operand: Tensor) -> Strides:
    """The strides of an operand along the axes of a result: 0 where it has one value for all."""
    known = {
        name: 0 if operand.axes[name] == 1 and axes[name] != 1 else stride
        for name, stride in zip(operand.axes, strides(operand), strict=True)
        if name in axes
    }
    return tuple(known.get(name, 0) for name in axes)


def viewed(sizes: Sequence[int], along: Strides, wanted: Sequence[int]) -> Strides | None:
    """The strides of a view in `wanted` sizes of a tensor of these sizes and strides; None where no view can."""
    assert prod(sizes) == prod(wanted), (sizes, wanted)
    made = [0] * len(wanted)
    at = len(wanted) - 1
    base = along[-1] if along else 1
    elements = seen = 1
    for axis in range(len(sizes) - 1, -1, -1):
        elements *= sizes[axis]
        # The end of a run of axes that lie one behind the other.
        if axis == 0 or (sizes[axis - 1] != 1 and along[axis - 1] != elements * base):
            while at >= 0 and (seen < elements or wanted[at] == 1):
                made[at] = seen * base
                seen *= wanted[at]
                at -= 1
            if seen != elements:
                return None
            if axis > 0:
                base = along[axis - 1]
                elements = seen = 1
    return tuple(made) if at == -1 else None


def order_of(axes: Axes, along: Strides) -> tuple[str, ...]:
    """The axes of a dense tensor, outermost first, from its strides; those of size 1 stay where they can."""
    names = list(axes)
    return tuple(names[at] for at in sorted(range(len(names)), key=lambda at: -along[at]))
