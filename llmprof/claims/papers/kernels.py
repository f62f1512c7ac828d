"""Kernels of attention as literal lists: what each reads and writes, forward and backward, and what it multiplies.

Axes: b batch, n heads, t queries, s keys of a sequence, h head_dim; a slice of the keys is called c.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from llmprof.claims.papers.figure import Line, Sheet
from llmprof.predict.formats import Format
from llmprof.predict.op import Contraction, Op
from llmprof.predict.tensor import Axes, Home, Tensor, new


@dataclass(slots=True)
class Kernels:
    """A list of kernels under construction; bytes and FLOPs follow from the tensors."""

    fmt: Format
    ops: list[Op] = field(default_factory=list)

    def tensor(self, name: str, axes: Axes, fmt: Format | None = None) -> Tensor:
        """A tensor that some kernel has written, or that is given; of the list's format unless told otherwise."""
        return new(name, axes, fmt or self.fmt, Home.ACTIVATION)

    def run(self, what: str, *reads: Tensor, out: Tensor, aux: tuple[Tensor, ...] = ()) -> Tensor:
        """A kernel that goes over its inputs once and writes `out`, and `aux` beside it."""
        self.ops.append(Op("attn.core", what, reads, (out, *aux)))
        return out

    def product(self, what: str, left: Tensor, right: Tensor, out: Tensor) -> Tensor:
        """A matrix product as a kernel of its own."""
        self.ops.append(Op("attn.core", what, (left, right), (out,), Contraction(left, right, tuple(out.axes))))
        return out

    def launch(self, what: str, reads: tuple[Tensor, ...], writes: tuple[Tensor, ...], *products: Contraction) -> None:
        """A fused kernel, or a part of one: `products` are made on chip, and move nothing by themselves."""
        parts = tuple(Op("attn.core", "product", (), (), product) for product in products)
        self.ops.append(Op("attn.core", what, reads, writes, parts=parts))

    @property
    def hbm_bytes(self) -> int:
        """All that the kernels read and write."""
        return sum(op.hbm_bytes for op in self.ops)

    @property
    def matmul_flops(self) -> int:
        """FLOPs of all products."""
        return sum(op.matmul_flops for op in self.ops)

    def sheet(self, title: str) -> Sheet:
        """The kernels one by one: what each moves, and its bytes."""
        lines = tuple(Line(of=op.kind, what=_moved(op), value=op.hbm_bytes) for op in self.ops)
        return Sheet(title=title, unit="B", lines=lines)


def _moved(op: Op) -> str:
    """``reads q, k; writes s``; a tensor of a shape of its own says which."""
    reads, writes = (", ".join(tensor.name for tensor in side) for side in (op.reads, op.writes))
    return f"reads {reads or 'nothing'}; writes {writes or 'nothing'}"
