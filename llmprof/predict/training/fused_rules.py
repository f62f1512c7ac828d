"""What a fused attention kernel saves, and its backward, which is one kernel too (docs/reference-training.md).

Axis legend: see `tensor.py`; queries are [b, k, g, t, h], keys and values [b, k, s, h] or, expanded, [b, k, g, s, h].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from llmprof.predict.formats import Format
from llmprof.predict.op import Contraction, Op
from llmprof.predict.tensor import Axes, Home, Tensor, new
from llmprof.predict.training.pull import Pull


@dataclass(frozen=True, slots=True, eq=False)
class Attention:
    """The tensors of a fused attention kernel; `bias` is None where the kernel reads none."""

    q: Tensor
    k: Tensor
    v: Tensor
    bias: Tensor | None
    o: Tensor
    auxiliary: tuple[Tensor, ...]


def attention_of(op: Op) -> Attention:
    """What a kernel that `Tape.fuse` launched is made of."""
    first, *_, last = (part.contraction for part in op.parts if part.contraction is not None)
    k, v = first.right, last.right
    others = [tensor for tensor in op.reads if tensor is not k and tensor is not v]
    (q,) = (tensor for tensor in others if "h" in tensor.axes)
    bias = next((tensor for tensor in others if tensor is not q), None)
    o, *auxiliary = op.writes
    return Attention(q, k, v, bias, o, tuple(auxiliary))


def saves(op: Op, needs: Callable[[Tensor], bool]) -> tuple[Tensor, ...]:
    """All that the kernel reads and writes."""
    made = attention_of(op)
    bias = () if made.bias is None else (made.bias,)
    return (made.q, made.k, made.v, *bias, made.o, *made.auxiliary)


def attention(p: Pull) -> None:
    """One kernel: five products, the scores made again among them."""
    made = attention_of(p.op)
    q, k, v = made.q, made.k, made.v
    dq, dk, dv = (fresh(f"d{x.name}", x.axes, x.format, _laid(x)) for x in (q, k, v))
    read = [p.grad, *(p.saved(each) for each in saves(p.op, p.needs))]
    writes = [dq, dk, dv]
    dbias = None
    if made.bias is not None and p.needs(made.bias):
        dbias = _of_bias(q, made.bias)
        writes.append(dbias)
    p.tape.launch(p.op.path, f"{p.op.kind}_backward", read, writes, parts=_products(p, made, (dq, dk, dv)))
    p.give(q, dq)
    p.give(k, dk)
    p.give(v, dv)
    if made.bias is not None and dbias is not None:
        p.give_expanded(made.bias, dbias)


def _laid(x: Tensor) -> tuple[str, ...]:
    """How the gradient of x lies: rows outside of heads, whatever x does."""
    b, *heads, row, h = x.axes
    return (b, row, *heads, h)


def _of_bias(q: Tensor, bias: Tensor) -> Tensor:
    """The gradient [b, n, t, s] of a bias [n, t, s], in storage whose rows are rounded up to 16 values."""
    b = next(iter(q.axes))
    *outer, (key, keys) = bias.axes.items()
    whole = fresh("dbias", {b: q.axes[b], **dict(outer), f"{key}16": 16 * -(-keys // 16)}, q.format)
    return whole.sliced(f"{key}16", keys, key)


def _products(p: Pull, made: Attention, gradients: tuple[Tensor, Tensor, Tensor]) -> tuple[Op, ...]:
    """The scores once more, and two products for each of the two of the forward pass."""
    first, *_, last = (part.contraction for part in p.op.parts if part.contraction is not None)
    assert first is not None
    assert last is not None
    dq, dk, dv = gradients
    products = (
        first,
        Contraction(last.left, p.grad, tuple(dv.axes)),
        Contraction(p.grad, made.v, tuple(last.left.axes)),
        Contraction(last.left, made.k, tuple(dq.axes)),
        Contraction(last.left, made.q, tuple(dk.axes)),
    )
    return tuple(Op(p.op.path, "bmm", (), (), product) for product in products)


def fresh(name: str, axes: Axes, fmt: Format, memory: tuple[str, ...] | None = None) -> Tensor:
    """A tensor that a kernel is about to write."""
    return new(name, axes, fmt, Home.ACTIVATION, memory)
