"""What the backward of each kernel launches, in the formulas of torch's autograd.

tools/autograd/derivatives.yaml of torch 2.13 (docs/reference-training.md, section 5). Where several inputs take a
gradient, kernels run in the order of the inputs' names there, and gradients are handed on in the order of the inputs.
Axis legend: see `tensor.py`.
"""

from __future__ import annotations

from collections.abc import Callable

from llmprof.predict.tensor import Tensor
from llmprof.predict.training.fused_rules import fresh
from llmprof.predict.training.pull import Pull

Back = Callable[[Pull], None]

# --- products -------------------------------------------------------------------------------------------


def mm(p: Pull) -> None:
    """Y = X W': dW = dY' X, then dX = dY W."""
    assert p.op.contraction is not None
    x, w = p.op.contraction.left, p.op.contraction.right
    grad = p.grad
    dw = p.product("mm", grad, p.saved(x), w) if p.needs(w) else None
    if p.needs(x):
        p.give(x, p.product("mm", grad, p.saved(w), x))
    if dw is not None:
        p.give(w, dw)


def addmm(p: Pull) -> None:
    """Y = b + X W': dX, then dW; db is the sum of dY over its rows."""
    assert p.op.contraction is not None
    x, w = p.op.contraction.left, p.op.contraction.right
    grad = p.grad
    p.give(p.op.reads[0], grad)
    if p.needs(x):
        p.give(x, p.product("mm", grad, p.saved(w), x))
    if p.needs(w):
        p.give(w, p.product("mm", grad, p.saved(x), w))


def turned(x: Tensor, p: Pull) -> bool:
    """Whether a product takes its second operand transposed: its last axis is the one that is summed over."""
    assert p.op.contraction is not None
    return list(x.axes)[-1] not in p.op.contraction.out


def bmm(p: Pull) -> None:
    """W = Q K: dK, then dQ."""
    assert p.op.contraction is not None
    q, k = p.op.contraction.left, p.op.contraction.right
    grad = p.grad
    dk = p.product("bmm", p.saved(q), grad, k, turned=turned(k, p)) if p.needs(k) else None
    if p.needs(q):
        p.give(q, p.product("bmm", grad, p.saved(k), q))
    if dk is not None:
        p.give(k, dk)


def baddbmm(p: Pull) -> None:
    """W = bias + alpha Q K: dQ, then dK, each times alpha where that is not 1."""
    assert p.op.contraction is not None
    q, k = p.op.contraction.left, p.op.contraction.right
    bias = p.op.reads[0]
    grad = p.grad

    def scaled(x: Tensor) -> Tensor:
        return x if p.op.alpha == 1.0 else p.run("mul", x)

    p.give(bias, grad)
    if p.needs(q):
        p.give(q, scaled(p.product("bmm", grad, p.saved(k), q)))
    if p.needs(k):
        p.give(k, scaled(p.product("bmm", p.saved(q), grad, k, turned=turned(k, p))))


# --- elementwise ----------------------------------------------------------------------------------------


def same(p: Pull) -> None:
    """The gradient itself: `clone`, `copy_` into a whole tensor, and the addition of a number."""
    p.give(p.op.reads[0], p.grad)


def add(p: Pull) -> None:
    """x + alpha y; y's is a kernel where alpha is not 1."""
    if len(p.op.reads) == 1:
        same(p)
        return
    x, y = p.op.reads
    scaled = p.run("mul", p.grad) if p.op.alpha != 1.0 and p.needs(y) else p.grad
    p.give(x, p.grad)
    p.give(y, scaled)


def mul(p: Pull) -> None:
    """x y: dy = d x, then dx = d y; one kernel for a number."""
    if len(p.op.reads) == 1:
        p.give(p.op.reads[0], p.run("mul", p.grad))
        return
    x, y = p.op.reads
    dy = p.run("mul", p.grad, p.saved(x), axes=p.grad.axes) if p.needs(y) else None
    if p.needs(x):
        p.give(x, p.run("mul", p.grad, p.saved(y), axes=p.grad.axes))
    if dy is not None:
        p.give(y, dy)


def of_input(kind: str) -> Back:
    """One kernel that reads the gradient and the input."""

    def back(p: Pull) -> None:
        p.give(p.op.reads[0], p.run(kind, p.grad, p.saved(p.op.reads[0])))

    return back


def of_result(kind: str) -> Back:
    """One kernel that reads the gradient and the result."""

    def back(p: Pull) -> None:
        p.give(p.op.reads[0], p.run(kind, p.grad, p.saved(p.op.writes[0])))

    return back


def of_gradient(kind: str) -> Back:
    """One kernel that reads the gradient alone."""

    def back(p: Pull) -> None:
        p.give(p.op.reads[0], p.run(kind, p.grad))

    return back


def cast(p: Pull) -> None:
    """A cast back."""
    p.give(p.op.reads[0], p.run("cast", p.grad, fmt=p.op.reads[0].format))


def square_by_power(p: Pull) -> None:
    """x squared: d (2 x ** 1). All that a formula makes on its way lives until it is complete."""
    (x,) = p.op.reads
    power = p.run("pow", p.saved(x))
    p.give(x, p.run("mul", p.grad, p.run("mul", power)))
    p.tape.hold((power,))


def square(p: Pull) -> None:
    """x times itself: a gradient as either factor."""
    (x,) = p.op.reads
    first, second = p.run("mul", p.grad, p.saved(x)), p.run("mul", p.grad, p.saved(x))
    p.give(x, first)
    p.give(x, second)


def rsqrt(p: Pull) -> None:
    """x ** -1/2: (-1/2 d) result ** 3."""
    cubed = p.run("pow", p.saved(p.op.writes[0]))
    p.give(p.op.reads[0], p.run("mul", p.run("mul", p.grad), cubed))


def mean(p: Pull) -> None:
    """Of the last axis: the gradient, expanded, over its size."""
    (x,) = p.op.reads
    *rows, last = x.axes
    expanded = p.grad.expand(last, x.axes[last], after=rows[-1])
    p.give(x, p.run("div", expanded))


def cat(p: Pull) -> None:
    """Along the last axis: slices of the gradient."""
    last, whole = list(p.op.writes[0].axes.items())[-1]
    assert sum(list(part.axes.values())[-1] for part in p.op.reads) == whole, p.op
    for part in p.op.reads:
        name = list(part.axes)[-1]
        p.give(part, p.grad.sliced(last, part.axes[name], name))


# --- the others -----------------------------------------------------------------------------------------


def layer_norm(p: Pull) -> None:
    """One kernel for the gradients of the rows, the weight and the bias."""
    x, *parameters = p.op.reads
    *_, mean, rstd = p.op.writes
    dx = fresh("dx", x.axes, x.format)
    made = [fresh(f"d{each.name}", each.axes, each.format) for each in parameters]
    reads = (p.grad, *(p.saved(each) for each in (x, mean, rstd, *parameters[:1])))
    p.made("native_layer_norm_backward", reads, (dx, *made))
    for tensor, gradient in zip((x, *parameters), (dx, *made), strict=True):
        p.give(tensor, gradient)


def dropout(p: Pull) -> None:
    """What was kept, scaled as it was."""
    p.give(p.op.reads[0], p.run("native_dropout_backward", p.grad, p.saved(p.op.writes[1])))


def softmax_backward(kind: str) -> Back:
    """One kernel that reads the gradient and the result, and writes contiguously."""

    def back(p: Pull) -> None:
        p.give(p.op.reads[0], p.dense(kind, p.grad, p.saved(p.op.writes[0]), axes=p.grad.axes))

    return back


def embedding(p: Pull) -> None:
    """Zeros in the whole table, to which every row of the gradient is added."""
    ids, rows = p.op.reads
    table = rows.of
    assert table is not None
    made = fresh("dtable", table.axes, table.format)
    touched = rows_of(p.grad, made)
    p.made("embedding_dense_backward", (p.grad, p.saved(ids), touched), (made, touched))
    p.give(rows, made)


def rows_of(rows: Tensor, whole: Tensor) -> Tensor:
    """As much of `whole` as the rows that are added to it."""
    return Tensor("touched", rows.axes, whole.format, whole.storage, None)


def index_select(p: Pull) -> None:
    """Zeros, into which the gradient's rows are added."""
    index, rows = p.op.reads
    source = rows.of
    assert source is not None
    made = fresh("dsource", source.axes, source.format)
    touched = rows_of(p.grad, made)
    p.made("new_zeros", (), (made,))
    p.made("index_add_", (p.grad, p.saved(index), touched), (touched,))
    p.give(rows, made)


def nll(p: Pull) -> None:
    """Zeros, and the entries that were picked; reads the scalars, and of the log-probabilities nothing."""
    targets, picked = p.op.reads
    assert picked.of is not None
    made = fresh("dlog", picked.of.axes, picked.format)
    entries = Tensor("entries", picked.axes, made.format, made.storage, None)
    p.made("nll_loss_backward", (p.grad, p.saved(targets), p.saved(p.op.writes[1])), (made, entries))
    p.give(picked, made)
