"""Counts op-level bytes: what every kernel must read plus what it must write, from the tensors that it really got.

The rules are section 2 of docs/reference-execution.md. Nothing here knows which model runs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor

from llmprof.measure.ops import Kind
from llmprof.measure.own_rules import own_bytes
from llmprof.measure.trace import Launch


class ByteCounter:
    """`hbm_bytes` per leaf path."""

    def __init__(self) -> None:
        self._bytes: Counter[str] = Counter()

    @property
    def by_path(self) -> Mapping[str, int]:
        """Bytes of the paths that launched a kernel."""
        return self._bytes

    def observe(self, launch: Launch) -> None:
        """Add the bytes of one op."""
        if launch.is_kernel:
            self._bytes[launch.path] += kernel_bytes(launch)


def kernel_bytes(launch: Launch) -> int:
    """What one kernel reads and writes."""
    match launch.kind:
        case Kind.COPY:
            destination, source = launch.inputs
            return unique_bytes(source) + unique_bytes(destination)
        case Kind.GATHER:
            _, indices = launch.inputs
            (rows,) = launch.outputs
            return unique_bytes(indices) + 2 * unique_bytes(rows)
        case Kind.PICK:
            rows, indices = launch.inputs
            picked = indices.numel() * rows.element_size()
            return unique_bytes(indices) + picked + _distinct_bytes(launch.outputs)
        case Kind.FILL:
            return _distinct_bytes(launch.outputs)
        case Kind.OWN:
            return own_bytes(launch, _distinct_bytes)
        case Kind.INTO:
            operands = [argument for argument in launch.args if isinstance(argument, Tensor)]
            return _distinct_bytes(_outermost(operands)) + _distinct_bytes(launch.outputs)
        case Kind.MARK:
            marked, indices = launch.inputs
            return unique_bytes(indices) + indices.numel() * marked.element_size()
        case Kind.SCATTER:
            _, indices, rows = launch.inputs
            return unique_bytes(indices) + 3 * unique_bytes(rows)
        case _:
            return _distinct_bytes(_outermost(launch.inputs)) + _distinct_bytes(launch.outputs)


def _outermost(tensors: Sequence[Tensor]) -> list[Tensor]:
    """`tensors` without those that are part of another: they start where it does, with its strides, and are smaller."""
    return [t for t in tensors if not any(_is_part(t, other) for other in tensors)]


def _is_part(inner: Tensor, outer: Tensor) -> bool:
    if inner.shape == outer.shape or inner.dim() != outer.dim() or inner.stride() != outer.stride():
        return False
    if inner.storage_offset() != outer.storage_offset() or inner.dtype != outer.dtype:
        return False
    if inner.untyped_storage()._cdata != outer.untyped_storage()._cdata:
        return False
    return all(small <= large for small, large in zip(inner.shape, outer.shape, strict=True))


def _distinct_bytes(tensors: Iterable[Tensor]) -> int:
    distinct = {(t.untyped_storage()._cdata, t.storage_offset(), t.shape, t.stride(), t.dtype): t for t in tensors}
    return sum(unique_bytes(tensor) for tensor in distinct.values())


def unique_bytes(tensor: Tensor) -> int:
    """The bytes of the elements that `tensor` really has: an expanded dimension counts once.

    ValueError where elements overlap in another way, as in a sliding view: then sizes and strides do not say
    how many there are.
    """
    if tensor.is_contiguous():
        return tensor.numel() * tensor.element_size()
    elements, reach = 1, 0
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if stride == 0 or size == 1:
            continue
        if size == 0:
            return 0
        if stride <= reach:
            raise ValueError(f"elements of a tensor of shape {tuple(tensor.shape)}, strides {tensor.stride()} overlap")
        elements *= size
        reach += stride * (size - 1)
    return elements * tensor.element_size()
