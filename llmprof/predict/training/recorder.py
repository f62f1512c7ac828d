"""The kernels of a backward in the order of their launch, and how long each tensor is held.

Axis legend: see `tensor.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod

from llmprof.predict.formats import Format
from llmprof.predict.op import Contraction, Op
from llmprof.predict.tensor import Axes, Home, Storage, Tensor, new, owner
from llmprof.predict.training.layouts import elementwise_order, order_of, strides, viewed


class Recorder:
    """A list of kernels under construction.

    `position` is the number of the next kernel, those of called segments counted, which are not in `ops`. `born` and
    `last` are the first and the last kernel at whose end a storage is held; what is born elsewhere has a `last` alone,
    which is -1 where it is let go before the first kernel. `made` are the tensors that own the storages born here.
    """

    def __init__(self) -> None:
        self.ops: list[Op] = []
        self.position = 0
        self.born: dict[Storage, int] = {}
        self.last: dict[Storage, int] = {}
        self.made: list[Tensor] = []

    # --- kernels ------------------------------------------------------------------------------------

    def launch(
        self,
        path: str,
        kind: str,
        reads: Sequence[Tensor],
        writes: Sequence[Tensor],
        contraction: Contraction | None = None,
        parts: tuple[Op, ...] = (),
    ) -> None:
        """One kernel that writes into tensors that exist or that it makes."""
        at = self.position
        self.position += 1
        distinct = tuple({id(tensor): tensor for tensor in reads}.values())
        self.ops.append(Op(path, kind, distinct, tuple(writes), contraction, parts=parts))
        for tensor in writes:
            if tensor.storage not in self.last and tensor.home is Home.ACTIVATION:
                self.born[tensor.storage] = at
                self.made.append(owner(tensor))
            self.last[tensor.storage] = at
        for tensor in distinct:
            self.last[tensor.storage] = at

    def elementwise(
        self, path: str, kind: str, *reads: Tensor, axes: Axes | None = None, fmt: Format | None = None
    ) -> Tensor:
        """A kernel over the elements of its operands: a new tensor, with the axes of the first unless told so."""
        first = reads[0]
        shape = first.axes if axes is None else axes
        alike = all(each.memory == first.memory and each.axes == shape and not each.expanded for each in reads)
        memory = first.memory if alike and first.memory is not None else elementwise_order(shape, reads)
        out = new(kind, shape, fmt or first.format, Home.ACTIVATION, memory)
        self.launch(path, kind, reads, (out,))
        return out

    def dense(self, path: str, kind: str, reads: Sequence[Tensor], axes: Axes, fmt: Format) -> Tensor:
        """A kernel that writes contiguously."""
        out = new(kind, axes, fmt, Home.ACTIVATION)
        self.launch(path, kind, reads, (out,))
        return out

    def contract(self, path: str, kind: str, left: Tensor, right: Tensor, out: Axes, memory: tuple[str, ...]) -> Tensor:
        """A matrix product: a new tensor with axes `out` that lie as `memory` says."""
        made = new(kind, out, left.format, Home.ACTIVATION, memory)
        self.launch(path, kind, (left, right), (made,), Contraction(left, right, tuple(out)))
        return made

    def total(self, path: str, x: Tensor, axes: Axes) -> Tensor:
        """`sum` over all axes of x that `axes` does not have."""
        return self.dense(path, "sum", (x,), axes, x.format)

    def contracted(self, path: str, x: Tensor, axes: Axes) -> Tensor:
        """The same of an axis that was expanded: a view where it is of one element."""
        return self.reshaped(path, x, axes) if prod(axes.values()) == x.elements else self.total(path, x, axes)

    def clone(self, path: str, x: Tensor) -> Tensor:
        """A contiguous copy."""
        return self.dense(path, "clone", (x,), x.axes, x.format)

    # --- views ----------------------------------------------------------------------------------------

    def reshaped(self, path: str, x: Tensor, axes: Axes) -> Tensor:
        """x under other axes: a view where one can show it, else of a contiguous copy."""
        along = viewed(tuple(x.axes.values()), strides(x), tuple(axes.values()))
        if along is None:
            return self.clone(path, x).seen_as(**axes)
        return Tensor(x.name, axes, x.format, x.storage, order_of(axes, along), of=x, via="view")

    def merged(self, path: str, x: Tensor, inner: int) -> Tensor:
        """x as it is where a view can show all but its `inner` last axes as one, else a contiguous copy."""
        sizes = tuple(x.axes.values())
        wanted = (prod(sizes[:-inner]), *sizes[-inner:])
        return x if viewed(sizes, strides(x), wanted) is not None else self.clone(path, x)

    # --- lifetimes --------------------------------------------------------------------------------------

    def adopt(self, tensor: Tensor, born: int, last: int) -> None:
        """A storage that kernels make which are put down elsewhere, and the tensor that owns it."""
        self.made.append(tensor)
        self.born[tensor.storage] = born
        self.last[tensor.storage] = last

    def hold(self, tensors: Iterable[Tensor]) -> None:
        """Keep `tensors` up to the last kernel so far."""
        for tensor in tensors:
            self.extend(tensor.storage, self.position - 1)

    def extend(self, storage: Storage, last: int) -> None:
        """Keep `storage` up to kernel number `last` at least."""
        self.last[storage] = max(last, self.last.get(storage, -1))
