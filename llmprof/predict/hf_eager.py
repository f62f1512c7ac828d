"""The unfused core as transformers' `eager_attention_forward` launches it, `hf-eager`: a softmax in fp32.

docs/reference-unfused.md, section 2. Axis legend: see `tensor.py`; W = b k g t s values of scores. Soft caps are those
of Gemma 2's function of that name, sinks those of GPT-OSS's.
"""

from __future__ import annotations

from llmprof.predict.core import Scoring, cast_cached, expand_heads, key_axis, query_axis, sinks_of, weigh
from llmprof.predict.formats import FP16, FP32, INT64
from llmprof.predict.masks import Sight
from llmprof.predict.setting import Side
from llmprof.predict.tape import Tape
from llmprof.predict.tensor import Home, Tensor, new
from llmprof.predict.unfused import flatten, heads_last


def attend(
    tape: Tape, side: Side, scoring: Scoring, sight: Sight, q: Tensor, k: Tensor, v: Tensor, *, crossing: bool
) -> Tensor:
    """Queries [b, k, g, t, h] over keys and values [b, k, s, h]; returns [b, t, k, g, h]. `crossing`: of the source."""
    g = q.axes["g"]
    sinks = sinks_of(tape, scoring)
    k, v = cast_cached(tape, k), cast_cached(tape, v)
    keys, values = expand_heads(tape, k, g), expand_heads(tape, v, g)
    w = _scores(tape, side, scoring, sight, q, keys, crossing=crossing)
    probabilities, held = _softmax(tape, side, w) if sinks is None else _with_sinks(tape, w, sinks)
    o = heads_last(tape, weigh(tape, probabilities, flatten(tape, values), sight))
    # What the function's variables hold until it returns.
    tape.touch([k, v, keys, values, *held, *(() if sinks is None else (sinks,))])
    return o


def additive_mask(side: Side, sight: Sight, *, crossing: bool) -> Tensor | None:
    """[b, t, s], contiguous: a causal or prefix stack always has one, whatever it hides, and cross-attention never."""
    if crossing or (not side.decodes and sight.kind == "full"):
        return None
    key = (side.stack.prefix, sight.kind, sight.keys, sight.window, sight.chunk, "additive mask")
    axes = {"b": side.setting.b, side.row: sight.queries, "s": sight.keys}
    return side.setting.constant(key, axes, side.setting.activations)


def _scores(
    tape: Tape, side: Side, scoring: Scoring, sight: Sight, q: Tensor, keys: Tensor, *, crossing: bool
) -> Tensor:
    """Steps 3 to 5: q k^T, scale, soft cap, mask; each kernel writes a new tensor. Returns [b, k, g, t, s]."""
    q, keys = flatten(tape, q), flatten(tape, keys)
    row, key = query_axis(q), key_axis(keys)
    axes = " ".join([*list(q.axes)[:-1], key])
    w = tape.contract(q, keys, axes, kind="bmm", visible=sight.visible, pair=(row, key))
    w = tape.run("mul", w)
    if scoring.softcap is not None:
        for kind in ("div", "tanh", "mul"):
            w = tape.run(kind, w)
    mask = additive_mask(side, sight, crossing=crossing)
    return w if mask is None else tape.run("add", w, mask)


def _softmax(tape: Tape, side: Side, w: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Step 6 in fp32; the scores live until its last kernel. Also returns what lives until the core returns."""
    at_once = w.format is FP16 and side.setting.execution.kernels == "cuda"
    wide = w if at_once else tape.cast(w, FP32)
    probabilities = tape.cast(tape.run("softmax", wide, fmt=FP32))
    tape.touch([w])
    return probabilities, (probabilities,)


def _with_sinks(tape: Tape, w: Tensor, sinks: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The same over the keys and the sink of each head, less the largest; the probabilities of the keys alone."""
    *rows, (key, keys) = w.axes.items()
    joined = tape.run("cat", w, sinks, axes={**dict(rows), f"{key}+1": keys + 1})
    indices = new("indices", dict(rows), INT64, Home.ACTIVATION)
    largest = tape.run("max", joined, axes=dict(rows), aux=[indices], over=joined)
    shifted = tape.run("sub", joined, largest)
    probabilities = tape.run("softmax", shifted)
    tape.touch([w])
    return probabilities.sliced(f"{key}+1", keys, key), (shifted, probabilities)
