"""The core of `mamba-2`: one step for one token, chunks for several (reference-mixers.md, section 4).

Axis legend: see `tensor.py`. Inputs are [b, t, channels], of which the first are the heads' channels [heads, width],
then B and C, [groups, state] each. A sequence is cut into `chunks` of i rows (j as keys), the last one filled up.
"""

from __future__ import annotations

from typing import Literal

from llmprof.predict.formats import FP32
from llmprof.predict.lowering import Kept
from llmprof.predict.mixer_parts import Rounds, begin, future, last_of, padded_rows, slices, trains, update
from llmprof.predict.setting import Side
from llmprof.predict.tape import Tape
from llmprof.predict.tensor import Axes, Tensor
from llmprof.spec.arch import Mamba2


def algorithm(side: Side) -> Literal["ssd-recurrent", "ssd-chunked"]:
    """One step for one token, chunks for several, in both references."""
    return "ssd-recurrent" if side.tokens == 1 else "ssd-chunked"


def state_axes(spec: Mamba2) -> Axes:
    """The state of one sequence."""
    return {"heads": spec.n_heads, "width": spec.head_dim, "state": spec.d_state}


def core(tape: Tape, side: Side, spec: Mamba2, u: Tensor, dt: Tensor, held: Kept) -> Tensor:
    """What `core` launches on u [b, t, channels] and dt [b, t, heads]; returns [b, t, inner]."""
    with tape.computing_in(FP32):
        a_log, d, dt_bias = tape.cast_parameters()
        a = tape.run("neg", tape.run("exp", a_log))
        dt = tape.run("softplus", tape.run("add", tape.cast(dt), dt_bias))
        u = tape.cast(u)
        shared = spec.n_groups * spec.d_state
        x, b, c = slices(u, inner=spec.d_inner, into=shared, out=shared)
        x = x.seen_as(**side.rows, heads=spec.n_heads, width=spec.head_dim)
        b, c = (part.seen_as(**side.rows, groups=spec.n_groups, state=spec.d_state) for part in (b, c))
        run = _step if algorithm(side) == "ssd-recurrent" else _chunked
        y = run(tape, side, spec, x, b, c, dt, a, d, held)
    return tape.cast(y).seen_as(**side.rows, inner=spec.d_inner)


def _step(
    tape: Tape,
    side: Side,
    spec: Mamba2,
    xs: Tensor,
    b: Tensor,
    c: Tensor,
    dt: Tensor,
    a: Tensor,
    d: Tensor,
    held: Kept,
) -> Tensor:
    """`ssd-recurrent`: the state takes one token and is read."""
    state = begin(tape, side, state_axes(spec), held.get("core.state"))
    decay = tape.run("mul", dt, a)
    tape.in_place("exp_", decay)
    added = tape.run("mul", tape.run("mul", dt, xs, axes=xs.axes), b, axes=state.axes)
    tape.in_place("mul_", state, decay)
    tape.in_place("add_", state, added)
    by_group = state.seen_as(
        b=side.setting.b,
        groups=spec.n_groups,
        share=spec.n_heads // spec.n_groups,
        width=spec.head_dim,
        state=spec.d_state,
    )
    if side.setting.b > 1 and spec.n_groups > 1:
        # As columns for `bmm` the groups of several sequences cannot be seen in the convolution's row.
        c = tape.run("clone", c)
    y = tape.contract(by_group, c, f"b {side.row} groups share width", kind="bmm")
    y = y.seen_as(**xs.axes)
    tape.in_place("add_", y, tape.run("mul", xs, d))
    return y


def _chunked(
    tape: Tape,
    side: Side,
    spec: Mamba2,
    xs: Tensor,
    b: Tensor,
    c: Tensor,
    dt: Tensor,
    a: Tensor,
    d: Tensor,
    held: Kept,
) -> Tensor:
    """`ssd-chunked`: rows see their own chunk through a square of products, earlier ones through the state."""
    size, row = spec.chunk, side.row
    chunks = -(-side.tokens // size)
    skipped = tape.run("mul", xs, d)
    x = tape.run("mul", xs, dt)
    g = tape.run("mul", dt, a)
    x, g, b, c = (padded_rows(tape, each, row, chunks * size) for each in (x, g, b, c))
    x = _cut(tape, x, chunks, "j", size)
    g = _cut(tape, g, chunks, "i", size)
    b = _cut(tape, b, chunks, "j", size)
    c = _cut(tape, c, chunks, "i", size)
    g = tape.run("cumsum", g)

    seen = tape.run("sub", g, g.renamed("i", "j"), axes={**g.axes, "j": size})
    tape.in_place("add_", seen, future(side, size))
    tape.in_place("exp_", seen)
    tape.in_place("mul_", seen, tape.contract(c, b, "b chunks groups i j", kind="bmm"))
    y = tape.contract(seen, x, "b chunks heads i width", kind="bmm")

    left = tape.run("sub", last_of(g, "i"), g, axes=g.axes)
    tape.in_place("exp_", left)
    x = tape.run("mul", x, left.renamed("i", "j"))
    sums = tape.contract(x, _per_head(tape, spec, b), "b chunks heads width state", kind="bmm")
    before = _states(tape, side, spec, g, sums, chunks, held)

    c = _per_head(tape, spec, c)
    since = tape.run("exp", g)
    o = tape.contract(c, before, "b chunks heads i width", kind="bmm")
    tape.in_place("mul_", o, since)
    tape.in_place("add_", y, o)
    rows = {"b": side.setting.b, "padded": chunks * size, "heads": spec.n_heads, "width": spec.head_dim}
    y = tape.run("clone", y, axes=rows)
    return tape.run("add", y.sliced("padded", side.tokens, row), skipped, axes=skipped.axes)


def _states(tape: Tape, side: Side, spec: Mamba2, g: Tensor, sums: Tensor, chunks: int, held: Kept) -> Tensor:
    """The state before each chunk, [b, chunks, heads, width, state]; what is kept becomes the one after the last."""
    axes = {"b": side.setting.b, "chunks": chunks, **state_axes(spec)}
    state = begin(tape, side, state_axes(spec), held.get("core.state"))
    before = Rounds(tape, side, axes, "chunks", FP32)
    for _ in tape.rounds(chunks):
        before.add(state)
        at_end = last_of(g, "i").sliced("chunks", 1, "one")
        decay = tape.run("exp", at_end, axes={"b": side.setting.b, "heads": spec.n_heads})
        state = update(tape, "mul", state, decay, renew=trains(side))
        state = update(tape, "add", state, sums.sliced("chunks", 1, "one"), renew=trains(side))
    return before.joined()


def _cut(tape: Tape, x: Tensor, chunks: int, row: str, size: int) -> Tensor:
    """[b, rows, heads, ..] as contiguous [b, chunks, heads, row, ..]."""
    (b, n_b), _, (heads, n_heads), *rest = x.axes.items()
    axes = {b: n_b, "chunks": chunks, heads: n_heads, row: size, **dict(rest)}
    return tape.run("clone", x, axes=axes)


def _per_head(tape: Tape, spec: Mamba2, x: Tensor) -> Tensor:
    """B or C of groups repeated for their heads: a `clone`, unless each head has its own."""
    axes = {("heads" if name == "groups" else name): size for name, size in x.axes.items()} | {"heads": spec.n_heads}
    return x.seen_as(**axes) if spec.n_heads == spec.n_groups else tape.run("clone", x, axes=axes)
