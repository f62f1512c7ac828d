"""The tape: kernels in the order of their launch, and which tensors are live at the end of each.

Lowerings write onto a tape and read like the call tree of reference-execution.md: `tape.module` is a
call, `tape.run` a kernel. The lifetimes of its section 3 then follow from the list alone:

* a tensor lives until the last kernel that takes it (`run` and its kin note every read);
* a module's inputs live until it returns (`module` notes them again on exit);
* storages are what lives: views share theirs; constants, weights and caches are not the tape's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Literal

from llmprof.predict.calls import Call, Segment
from llmprof.predict.formats import Format
from llmprof.predict.live import busiest
from llmprof.predict.op import VECTOR_COST, Contraction, Op
from llmprof.predict.tensor import Axes, Home, Tensor, new

Seam = Literal["rows", "sum", "columns"]
"""What ranks that share a pass may have a part of: the rows of x, its sum, its columns."""


class _Module:
    """A module call: prefixes paths, and keeps its inputs alive until it returns."""

    __slots__ = ("_inputs", "_outer", "_tape")

    def __init__(self, tape: Tape, path: str, inputs: Sequence[Tensor]) -> None:
        self._tape, self._inputs, self._outer = tape, inputs, tape.path
        tape.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tape.path = self._outer
        self._tape.touch(self._inputs)


class Tape:
    """A list of kernels under construction.

    `fmt` is the format that kernels compute in, the activations' unless told otherwise; `times` how many equal
    launches each kernel stands for, 1 outside loops. `keeps`: nothing is overwritten where `update` could, because a
    backward may want it.
    """

    def __init__(
        self, fmt: Format, parameters: Callable[[str], Sequence[Tensor]], path: str = "", *, keeps: bool = False
    ) -> None:
        self.keeps = keeps
        self.fmt = fmt
        self.path = path
        self.times = 1
        self.items: list[Op | Call] = []
        self._parameters = parameters
        self._allocated: list[Tensor] = []

    # --- the call tree ------------------------------------------------------------------------

    def module(self, name: str, *inputs: Tensor) -> _Module:
        """A call of the module `name` below the current path."""
        return _Module(self, f"{self.path}.{name}" if self.path else name, inputs)

    def parameters(self) -> Sequence[Tensor]:
        """The parameters of the current leaf, in the order weight, bias."""
        return self._parameters(self.path)

    def cast_parameters(self) -> tuple[Tensor, ...]:
        """The same, each cast to the activation format where it differs (section 2). Packed ones are not."""
        return tuple(self.cast(p) if not p.format.packed else p for p in self.parameters())

    def touch(self, tensors: Sequence[Tensor]) -> None:
        """Keep `tensors` alive up to the last kernel so far."""
        last = len(self.items) - 1
        for tensor in tensors:
            tensor.storage.last = last

    @contextmanager
    def computing_in(self, fmt: Format) -> Iterator[None]:
        """Kernels compute in `fmt` within, and parameters and operands are cast to it."""
        outer, self.fmt = self.fmt, fmt
        yield
        self.fmt = outer

    def rounds(self, count: int) -> Iterator[int]:
        """The rounds of a loop whose kernels and sizes are the same in each: yields how many each pass stands for.

        All between the first and the last are one pass. These two differ from them in what is alive around them, and
        in a backward in where its gradients begin and end.
        """
        assert self.times == 1, self.path
        for self.times in (1, count - 2, 1) if count > 2 else (1,) * count:
            yield self.times
        self.times = 1

    # --- kernels ------------------------------------------------------------------------------

    def run(
        self,
        kind: str,
        *reads: Tensor,
        axes: Axes | None = None,
        fmt: Format | None = None,
        memory: tuple[str, ...] | None = None,
        aux: Sequence[Tensor] = (),
        cost: int | None = None,
        over: Tensor | None = None,
        alpha: float = 1.0,
    ) -> Tensor:
        """Launch `kind` and return its new output: the axes of the first input unless `axes` says otherwise.

        `memory`: the order of the output's axes in memory. `aux`: further outputs. `cost`: vector FLOPs per
        element, where the table's figure does not fit; `over`: the tensor whose elements are counted,
        if not the output's. `alpha`: what `add` multiplies its second operand by.
        """
        out = new(kind, reads[0].axes if axes is None else axes, fmt or self.fmt, Home.ACTIVATION, memory)
        self._launch(kind, reads, (out, *aux), cost=cost, over=over, alpha=alpha)
        return out

    def in_place(self, kind: str, x: Tensor, *others: Tensor, cost: int | None = None) -> None:
        """Launch `kind`, which reads `x` and `others` and overwrites `x`; `cost` as in `run`."""
        self._launch(kind, (x, *others), (x,), cost=cost)

    def update(self, kind: str, x: Tensor, *others: Tensor, cost: int | None = None) -> Tensor:
        """The same in inference, and x; in training a new tensor that lies as x does, for the same bytes."""
        if self.keeps:
            return self.run(kind, x, *others, fmt=x.format, memory=x.memory, cost=cost)
        self.in_place(kind, x, *others, cost=cost)
        return x

    def fill(self, kind: str, x: Tensor) -> None:
        """`zero_` or `fill_`: overwrites `x` without reading it."""
        self._launch(kind, (), (x,))

    def copy(self, source: Tensor, target: Tensor) -> None:
        """`copy_`: converts on the way, does not read the target."""
        self._launch("copy_", (source,), (target,))

    def cast(self, x: Tensor, fmt: Format | None = None) -> Tensor:
        """`x` in another format (the activations' unless given), or `x` itself where it already is."""
        fmt = fmt or self.fmt
        return x if x.format is fmt else self.run("cast", x, fmt=fmt)

    def contract(
        self,
        left: Tensor,
        right: Tensor,
        out: str,
        *,
        kind: str,
        addend: Tensor | None = None,
        visible: int | None = None,
        pair: tuple[str, ...] | None = None,
        cost: int | None = None,
        alpha: float = 1.0,
    ) -> Tensor:
        """A matrix product with output axes `out`; `addend` is the bias of `addmm` and `baddbmm`.

        `cost`: vector FLOPs per element of the result, where the table's figure does not fit. `alpha`: what `baddbmm`
        multiplies the product by.
        """
        contraction = Contraction(left, right, tuple(out.split()), visible, pair)
        reads = (left, right) if addend is None else (addend, left, right)
        return self.product(kind, contraction, *reads, cost=cost, alpha=alpha)

    def product(
        self,
        kind: str,
        contraction: Contraction,
        *reads: Tensor,
        axes: Axes | None = None,
        cost: int | None = None,
        alpha: float = 1.0,
    ) -> Tensor:
        """A contraction whose operands, or result, lie in memory otherwise than its indices say."""
        sizes = contraction.indices
        result = new(kind, axes or {name: sizes[name] for name in contraction.out}, self.fmt, Home.ACTIVATION)
        self._launch(kind, reads, (result,), contraction=contraction, cost=cost, alpha=alpha)
        return result

    def accumulate(self, kind: str, x: Tensor, left: Tensor, right: Tensor) -> None:
        """A matrix product that is added to `x` in place (`baddbmm_`): reads all three, writes `x`."""
        contraction = Contraction(left, right, tuple(x.axes))
        self._launch(kind, (x, left, right), (x,), contraction=contraction)

    def reduce(self, kind: str, x: Tensor, along: str, *, fmt: Format | None = None) -> Tensor:
        """`sum`, `amax` and their like over one axis; its cost is per element read."""
        return self.run(kind, x, axes=x.without(along), fmt=fmt, over=x)

    def gather(self, kind: str, source: Tensor, index: Tensor, axes: Axes) -> Tensor:
        """`index_select` or `gather`: reads the index and as much of `source` as it returns, which has these `axes`."""
        fetched = Tensor("fetched", axes, source.format, source.storage, None, of=source, via="gather")
        return self.run(kind, index, fetched, axes=axes, fmt=source.format)

    def scatter(self, kind: str, target: Tensor, index: Tensor, source: Tensor) -> None:
        """`index_add_` and `index_reduce_`: reads the index, `source` and as much of `target`, which it overwrites."""
        touched = Tensor("touched", source.axes, target.format, target.storage, None, of=target)
        self._launch(kind, (index, source, touched), (touched,))

    def scatter_scalar(self, target: Tensor, index: Tensor) -> None:
        """`scatter_` of one number: reads the index alone, writes as many values of `target` as it names."""
        touched = Tensor("touched", index.axes, target.format, target.storage, None, of=target)
        self._launch("scatter_", (index,), (touched,))

    def allocate(self, name: str, axes: Axes, fmt: Format | None = None) -> Tensor:
        """Memory for the next kernel to write into, live from that kernel on."""
        owner = new(name, axes, fmt or self.fmt, Home.ACTIVATION)
        owner.storage.born = owner.storage.last = len(self.items)
        self._allocated.append(owner)
        return owner

    def fuse(self, kind: str, inner: Tape, axes: Axes, aux: Sequence[Tensor] = ()) -> Tensor:
        """Launch the ops of `inner` as one kernel: only what crosses its border touches memory.

        Returns the one result that leaves the kernel: the last one of `inner`, written with these `axes`.
        """
        parts = tuple(item for item in inner.items if isinstance(item, Op))
        made = {id(tensor.storage) for op in parts for tensor in op.writes}
        border = {
            id(tensor): tensor
            for op in parts
            for tensor in op.reads
            if id(tensor.storage) not in made and tensor.home is not Home.ON_CHIP
        }
        # What another input begins with is read with it.
        reads = tuple(tensor for tensor in border.values() if id(tensor.begins) not in border)
        out = new(kind, axes, self.fmt, Home.ACTIVATION)
        self._record(Op(self.path, kind, reads, (out, *aux), parts=parts))
        return out

    def scratch(self) -> Tape:
        """A tape at the same place, for ops that `fuse` will launch as one."""
        return Tape(self.fmt, self._parameters, self.path, keeps=self.keeps)

    def call(self, path: str, segment: Segment, *takes: Tensor, lends: Sequence[Tensor] = ()) -> Tensor:
        """Call a lowered module at `path`; returns its result as a tensor of this tape.

        `lends`: what stands on this tape for the tensors that the segment lends.
        """
        result = segment.result
        gives = new(path, result.axes, result.format, Home.ACTIVATION)
        self._record(Call(path, segment, takes, gives, tuple(lends)))
        return gives

    def _launch(
        self,
        kind: str,
        reads: Sequence[Tensor],
        writes: tuple[Tensor, ...],
        *,
        contraction: Contraction | None = None,
        cost: int | None = None,
        over: Tensor | None = None,
        alpha: float = 1.0,
    ) -> None:
        cost = VECTOR_COST[kind] if cost is None else cost
        distinct = tuple({id(tensor): tensor for tensor in reads}.values())
        counted = over or writes[0] if cost else None
        self._record(Op(self.path, kind, distinct, writes, contraction, cost, counted, times=self.times, alpha=alpha))

    def _record(self, item: Op | Call) -> None:
        index = len(self.items)
        reads, writes = (item.reads, item.writes) if isinstance(item, Op) else (item.takes, (item.gives, *item.lends))
        for tensor in reads:
            tensor.storage.last = index
        for tensor in writes:
            storage = tensor.storage
            if storage.born < 0 and storage.home is Home.ACTIVATION:
                storage.born = index
                self._allocated.append(tensor)
            storage.last = index
        self.items.append(item)

    def across(self, seam: Seam, x: Tensor, at: str | None = None) -> Tensor:
        """What ranks that share a pass make of `x` together at a path (`predict/sharding/tape.py`): here x itself."""
        return x

    # --- what is live -------------------------------------------------------------------------

    def segment(self, result: Tensor, lent: Sequence[Tensor] = (), inputs: Sequence[Tensor] = ()) -> Segment:
        """The finished tape as a module on `inputs` that returns `result`, and whose `lent` tensors outlive it."""
        peak, live = self.peak((result, *lent))
        ops = tuple(item for item in self.items if isinstance(item, Op))
        return Segment(ops, result, peak, live, tuple(lent), tuple(inputs))

    def peak(self, returned: Sequence[Tensor]) -> tuple[int, tuple[Tensor, ...]]:
        """The largest sum of live bytes at the end of any kernel, and the tensors that make it up.

        `returned` tensors live to the end.
        """
        self.touch(returned)
        return busiest(self.items, self._allocated)
