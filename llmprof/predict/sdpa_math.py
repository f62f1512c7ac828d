"""The unfused core as torch's SDPA launches it under `SDPBackend.MATH`, `sdpa-math`: everything in fp32.

docs/reference-unfused.md, section 3. Axis legend: see `tensor.py`; W = b k g t s values of scores.
"""

from __future__ import annotations

from llmprof.predict.core import Bias, cast_cached, key_axis, mask_bias, query_axis, weigh
from llmprof.predict.formats import BOOL, FP32
from llmprof.predict.masks import Sight
from llmprof.predict.setting import Side
from llmprof.predict.tape import Tape
from llmprof.predict.tensor import Tensor
from llmprof.predict.unfused import flatten, heads_last


def attend(tape: Tape, side: Side, sight: Sight, q: Tensor, k: Tensor, v: Tensor, bias: Bias | None) -> Tensor:
    """Queries [b, k, g, t, h] over keys and values [b, k, s, h]; returns [b, t, k, g, h].

    `bias` has the mask in it; without one, the mask of `sight` is the op's own or, where it has none, read.
    """
    k, v = cast_cached(tape, k), cast_cached(tape, v)
    with tape.computing_in(FP32):
        held, o = _in_fp32(tape, side, sight, q, k, v, bias)
    o = tape.cast(o)
    tape.touch(held)
    o = heads_last(tape, o)
    tape.touch([k, v])
    return o


def _in_fp32(
    tape: Tape, side: Side, sight: Sight, q: Tensor, k: Tensor, v: Tensor, bias: Bias | None
) -> tuple[list[Tensor], Tensor]:
    """Steps 2 to 11: what lives until the end of 12, and the result [b, k, g, t, h]."""
    g, half = q.axes["g"], side.setting.activations.bits == 16
    wide = [tape.run("cast", x, memory=x.memory) for x in (q, k, v)] if half else [q, k, v]
    q, k, v = wide
    q = tape.run("mul", q, memory=q.memory)
    flagged = bias is None and sight.kind == "causal" and sight.queries == sight.keys
    mask = _flag(tape, query_axis(q), sight) if flagged else _given(side, sight, bias)
    if g > 1:
        k, v = (tape.run("clone", x.expand("g", g, after="k")) for x in (k, v))
    # What the function's variables hold: operands in fp32, q scaled, keys and values of every head, the mask.
    held = [*wide, q, k, v, *(() if mask is None else (mask,))]
    w = _scores(tape, sight, q, k, mask)
    probabilities = _safe_softmax(tape, w)
    held.append(probabilities)
    if half:
        held.append(tape.run("cast", probabilities, fmt=side.setting.activations))
    o = weigh(tape, probabilities, flatten(tape, v), sight)
    return [*held, o], o


def _scores(tape: Tape, sight: Sight, q: Tensor, k: Tensor, mask: Tensor | None) -> Tensor:
    """Steps 6 to 8: the keys scaled too, q k^T, the mask added in place. Returns [b, k, g, t, s]."""
    scaled = tape.run("mul", k, memory=k.memory)
    q, k = flatten(tape, q), flatten(tape, scaled)
    row, key = query_axis(q), key_axis(k)
    axes = " ".join([*list(q.axes)[:-1], key])
    w = tape.contract(q, k, axes, kind="bmm", visible=sight.visible, pair=(row, key))
    tape.touch([scaled])
    if mask is not None:
        tape.in_place("add_", w, mask)
    return w


def _flag(tape: Tape, row: str, sight: Sight) -> Tensor:
    """Step 4: the op makes the causal mask [t, s] of its flag."""
    seen = tape.run("tril", tape.run("ones", axes={row: sight.queries, "s": sight.keys}, fmt=BOOL), fmt=BOOL)
    hidden, visible = (tape.run("scalar_tensor", axes={}) for _ in range(2))
    return tape.run("where", seen, hidden, visible)


def _given(side: Side, sight: Sight, bias: Bias | None) -> Tensor | None:
    found = bias or mask_bias(side, sight)
    return None if found is None else found.tensor


def _safe_softmax(tape: Tape, w: Tensor) -> Tensor:
    """Step 9: softmax, and 0 in place of the rows that see nothing."""
    probabilities = tape.run("softmax", w)
    hidden = tape.run("isneginf", w, fmt=BOOL)
    blind = tape.run("all", hidden, axes=hidden.without(list(w.axes)[-1]), fmt=BOOL, over=hidden)
    zero = tape.run("scalar_tensor", axes={})
    tape.in_place("where", probabilities, blind, zero)
    tape.touch([w, hidden, blind, zero])
    return probabilities
