"""Which tensors one op reads and writes, and how many bytes of each: the bytes of `bytes.py`, tensor by tensor.

The rules are section 2 of docs/reference-execution.md, the order is section 1 of docs/reference-dram.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from torch import Tensor

from llmprof.measure.bytes import _outermost, kernel_bytes, unique_bytes
from llmprof.measure.ops import Kind
from llmprof.measure.trace import Launch


class Access(NamedTuple):
    """One tensor of an op, and the bytes of it that the op reads and writes."""

    tensor: Tensor
    read: int
    written: int


def accesses(launch: Launch) -> list[Access]:
    """What one kernel reads, in the order of its inputs, then what it writes, in the order of its outputs.

    RuntimeError where their bytes are not those of the op as a whole: then a kind of op has a rule there and none here.
    """
    found = list(_accesses(launch))
    total = sum(access.read + access.written for access in found)
    if total != kernel_bytes(launch):
        raise RuntimeError(
            f"{launch.op} at {launch.path!r} moves {kernel_bytes(launch)} bytes, but {total} tensor by tensor; give "
            f"{launch.kind} a rule in llmprof/measure/accesses.py"
        )
    return found


def _accesses(launch: Launch) -> Iterator[Access]:
    match launch.kind:
        case Kind.COPY:
            destination, source = launch.inputs
            yield _read(source)
            yield _written(destination)
        case Kind.GATHER:
            source, indices = launch.inputs
            (rows,) = launch.outputs
            yield Access(source, unique_bytes(rows), 0)
            yield _read(indices)
            yield _written(rows)
        case Kind.PICK:
            rows, indices = launch.inputs
            yield Access(rows, indices.numel() * rows.element_size(), 0)
            yield _read(indices)
            yield from map(_written, _distinct(launch.outputs))
        case Kind.FILL:
            yield from map(_written, _distinct(launch.outputs))
        case Kind.MARK:
            marked, indices = launch.inputs
            yield _read(indices)
            yield Access(marked, 0, indices.numel() * marked.element_size())
        case Kind.SCATTER:
            target, indices, rows = launch.inputs
            moved = unique_bytes(rows)
            yield _read(indices)
            yield _read(rows)
            yield Access(target, moved, moved)
        case Kind.INTO:
            operands = [argument for argument in launch.args if isinstance(argument, Tensor)]
            yield from map(_read, _distinct(_outermost(operands)))
            yield from map(_written, _distinct(launch.outputs))
        case _:
            yield from map(_read, _distinct(_outermost(launch.inputs)))
            yield from map(_written, _distinct(launch.outputs))


def _read(tensor: Tensor) -> Access:
    return Access(tensor, unique_bytes(tensor), 0)


def _written(tensor: Tensor) -> Access:
    return Access(tensor, 0, unique_bytes(tensor))


def _distinct(tensors: Iterable[Tensor]) -> Iterable[Tensor]:
    """`tensors` that differ in storage, place, shape, strides or dtype, each at its last place."""
    last: dict[object, Tensor] = {}
    for t in tensors:
        key = (t.untyped_storage()._cdata, t.storage_offset(), t.shape, t.stride(), t.dtype)
        last.pop(key, None)
        last[key] = t
    return last.values()
