"""Rotary position embedding of queries and keys (reference-execution.md, section 7, `rope`).

Axis legend: see `tensor.py`. r is rotary_dim; heads are the axes k and g of a query, k of a key.
Per element of the rotated tensor: 10 reads and writes, beside the tables.
"""

from __future__ import annotations

from llmprof.predict import constants
from llmprof.predict.setting import Side
from llmprof.predict.tape import Tape
from llmprof.predict.tensor import Tensor
from llmprof.spec.arch import Rope


def rotate(tape: Tape, side: Side, spec: Rope, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """The leaf `rope`: q, then k; [B, T, heads.., h] each, turned in their first rotary_dim values."""
    rotary_dim = spec.rotary_dim or q.axes[list(q.axes)[-1]]
    with tape.module("rope", q, k):
        cos, sin = constants.rope_tables(side, spec, rotary_dim)
        return rotate_leading(tape, q, cos, sin), rotate_leading(tape, k, cos, sin)


def rotate_queries(tape: Tape, side: Side, spec: Rope, q: Tensor) -> Tensor:
    """The same leaf of a layer that has no keys of its own: q alone."""
    with tape.module("rope", q):
        cos, sin = constants.rope_tables(side, spec, spec.rotary_dim or q.axes[list(q.axes)[-1]])
        return rotate_leading(tape, q, cos, sin)


def rotate_leading(tape: Tape, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Steps 1 to 6: the first r values of the last axis of x turned, and the others behind them."""
    *_, (h, width) = x.axes.items()
    r = cos.axes["r"]
    if r == width:
        return turn(tape, x.renamed(h, "r"), cos, sin).renamed("r", h)
    out = turn(tape, x.sliced(h, r, "r"), cos, sin)
    return tape.run("cat", out, x.sliced(h, width - r, f"{h}-r"), axes=x.axes)


def turn(tape: Tape, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Steps 1 to 5 on x [.., r]: x cos + (-second halves, first halves) sin.

    With several axes the halves are those of each part: same sizes.
    """
    half = x.axes["r"] // 2
    first, second = x.sliced("r", half, "r/2"), x.sliced("r", half, "r/2")
    with_cos = tape.run("mul", x, cos)
    negated = tape.run("neg", second)
    turned = tape.run("cat", negated, first, axes=x.axes)
    with_sin = tape.run("mul", turned, sin)
    return tape.run("add", with_cos, with_sin)
