"""Standard attention and FlashAttention 1 as the paper's figure 2 needs them: forward and backward, kernel by kernel.

Axes: see `kernels.py`. A sequence is of N queries and as many keys. What is read again is charged again: no cache
stands between a kernel and memory here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from llmprof.claims.papers.kernels import Kernels
from llmprof.predict.formats import BOOL, FP16, FP32, Format
from llmprof.predict.op import Contraction
from llmprof.predict.tensor import Axes, Tensor

Partials = Literal["fp16", "fp32"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The sizes of one attention: `length` is that of queries and of keys."""

    batch: int
    heads: int
    length: int
    head_dim: int

    @property
    def queries(self) -> Axes:
        """Queries, and all that has a row for each: [b, n, t, h]."""
        return {"b": self.batch, "n": self.heads, "t": self.length, "h": self.head_dim}

    @property
    def rows(self) -> Axes:
        """A number for each query: [b, n, t]."""
        return {"b": self.batch, "n": self.heads, "t": self.length}

    @property
    def scores(self) -> Axes:
        """[b, n, t, s]."""
        return {"b": self.batch, "n": self.heads, "t": self.length, "s": self.length}

    def keys(self, length: int | None = None, name: str = "s") -> Axes:
        """Keys, or so many of them: [b, n, s, h]."""
        return {"b": self.batch, "n": self.heads, name: length or self.length, "h": self.head_dim}


def with_added_mask_and_dropout(shape: Shape) -> Kernels:
    """A mask [t, s] added to the scores, dropout with a byte for each that it keeps, softmax in 16 bit.

    The scale is part of the first product, as in `baddbmm`; an added mask takes no gradient.
    """
    kernels = Kernels(FP16)
    q, k, v = _inputs(kernels, shape)
    mask = kernels.tensor("mask", {"t": shape.length, "s": shape.length})
    scores = kernels.product("scores = q k'", q, k, kernels.tensor("scores", shape.scores))
    masked = kernels.run("scores + mask", scores, mask, out=kernels.tensor("masked", shape.scores))
    p = kernels.run("softmax", masked, out=kernels.tensor("p", shape.scores))
    kept = kernels.tensor("kept", shape.scores, BOOL)
    dropped = kernels.run("dropout", p, out=kernels.tensor("dropped", shape.scores), aux=(kept,))
    kernels.product("o = dropped v", dropped, v, kernels.tensor("o", shape.queries))

    do = kernels.tensor("do", shape.queries)
    d_dropped = _values_backward(kernels, shape, dropped, v, do)
    dp = kernels.run("dropout backward", d_dropped, kept, out=kernels.tensor("dp kept", shape.scores))
    ds = kernels.run("softmax backward", dp, p, out=kernels.tensor("ds", shape.scores))
    _scores_backward(kernels, shape, ds, q, k)
    return kernels


def with_filled_padding(shape: Shape) -> Kernels:
    """Keys scaled beforehand, scores of padded keys filled by a mask [b, s] of a byte each, no dropout, 16 bit.

    What the reference of the authors' benchmarks does, `attention_ref`, if the fill copies nothing.
    """
    kernels = Kernels(FP16)
    q, k, v = _inputs(kernels, shape)
    padding = kernels.tensor("padding", {"b": shape.batch, "s": shape.length}, BOOL)
    scaled = kernels.run("k / sqrt(h)", k, out=kernels.tensor("scaled k", shape.keys()))
    scores = kernels.product("scores = q k'", q, scaled, kernels.tensor("scores", shape.scores))
    filled = kernels.run("fill padded", scores, padding, out=kernels.tensor("filled", shape.scores))
    p = kernels.run("softmax", filled, out=kernels.tensor("p", shape.scores))
    kernels.product("o = p v", p, v, kernels.tensor("o", shape.queries))

    do = kernels.tensor("do", shape.queries)
    dp = _values_backward(kernels, shape, p, v, do)
    d_filled = kernels.run("softmax backward", dp, p, out=kernels.tensor("d filled", shape.scores))
    ds = kernels.run("fill backward", d_filled, padding, out=kernels.tensor("ds", shape.scores))
    d_scaled = _scores_backward(kernels, shape, ds, q, scaled, "d scaled k")
    kernels.run("dk / sqrt(h)", d_scaled, out=kernels.tensor("dk", shape.keys()))
    return kernels


def flash(shape: Shape, keys_at_once: int, *, partials: Partials) -> Kernels:
    """FlashAttention 1: the outer loop goes over `keys_at_once` keys, the inner over all queries.

    As the released kernels go (see the citations): the first pass loads no partial output, and in backward the first
    alone loads o, for the row sums of do o that it stores and every pass loads. Statistics are fp32, a log-sum-exp
    per row. `partials` says in which format outputs that are not final are kept between passes; released kernels keep
    them in fp32.
    """
    kernels = Kernels(FP16)
    between = FP32 if partials == "fp32" else FP16
    assert shape.length % keys_at_once == 0, (shape, keys_at_once)
    passes = range(shape.length // keys_at_once)
    q, o, do, dq = (kernels.tensor(name, shape.queries) for name in ("q", "o", "do", "dq"))
    lse, row_sums = (kernels.tensor(name, shape.rows, FP32) for name in ("lse", "row sums"))
    for index in passes:
        k, v, _, _ = _slices(kernels, shape, keys_at_once)
        before, after = _accumulated(kernels, index, passes, "o", o, between)
        earlier = () if index == passes[0] else (lse,)
        scores = kernels.tensor("scores", {**shape.rows, "c": keys_at_once})
        products = (Contraction(q, k, tuple(scores.axes)), Contraction(scores, v, tuple(o.axes)))
        kernels.launch(f"forward, pass {index + 1}", (k, v, q, *before, *earlier), (after, lse), *products)
    for index in passes:
        k, v, dk, dv = _slices(kernels, shape, keys_at_once)
        before, after = _accumulated(kernels, index, passes, "dq", dq, between)
        first = index == passes[0]
        scores = kernels.tensor("scores", {**shape.rows, "c": keys_at_once})
        products_backward = (
            Contraction(q, k, tuple(scores.axes)),
            Contraction(scores, do, tuple(dv.axes)),
            Contraction(do, v, tuple(scores.axes)),
            Contraction(scores, k, tuple(dq.axes)),
            Contraction(scores, q, tuple(dk.axes)),
        )
        reads = (k, v, q, do, *before, lse, row_sums, *((o,) if first else ()))
        writes = (dk, dv, after, *((row_sums,) if first else ()))
        kernels.launch(f"backward, pass {index + 1}", reads, writes, *products_backward)
    return kernels


def _inputs(kernels: Kernels, shape: Shape) -> tuple[Tensor, Tensor, Tensor]:
    return kernels.tensor("q", shape.queries), kernels.tensor("k", shape.keys()), kernels.tensor("v", shape.keys())


def _values_backward(kernels: Kernels, shape: Shape, p: Tensor, v: Tensor, do: Tensor) -> Tensor:
    """The backward of o = p v: two products. Returns the gradient of p."""
    kernels.product("dv = p' do", p, do, kernels.tensor("dv", shape.keys()))
    return kernels.product("dp = do v'", do, v, kernels.tensor("dp", shape.scores))


def _scores_backward(kernels: Kernels, shape: Shape, ds: Tensor, q: Tensor, k: Tensor, gradient: str = "dk") -> Tensor:
    """The backward of q k': two products. Returns the gradient of the keys, under the name `gradient`."""
    kernels.product("dq = ds k", ds, k, kernels.tensor("dq", shape.queries))
    return kernels.product(f"{gradient} = ds' q", ds, q, kernels.tensor(gradient, shape.keys()))


def _slices(kernels: Kernels, shape: Shape, size: int) -> tuple[Tensor, ...]:
    """The keys of one pass, their values, and the gradients of both."""
    names = ("k slice", "v slice", "dk slice", "dv slice")
    return tuple(kernels.tensor(name, shape.keys(size, "c")) for name in names)


def _accumulated(
    kernels: Kernels, index: int, passes: range, name: str, final: Tensor, between: Format
) -> tuple[tuple[Tensor, ...], Tensor]:
    """What a pass loads of an output that grows over the passes, and what it stores of it."""
    partial = kernels.tensor(f"partial {name}", final.axes, between)
    before = () if index == passes[0] else (partial,)
    return before, final if index == passes[-1] else partial
