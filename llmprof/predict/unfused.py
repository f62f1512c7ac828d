"""The unfused attention core, `lean-eager`: every op a kernel, the scores in memory.

reference-execution.md, section 8.1; sinks: reference-options.md, section 3. Axis legend: see `tensor.py`; W = b k g t s
values of scores.
"""

from __future__ import annotations

from llmprof.predict.core import (
    Bias,
    Scoring,
    cast_cached,
    expand_heads,
    mask_bias,
    query_axis,
    scores,
    sinks_of,
    weigh,
)
from llmprof.predict.dropout import drop
from llmprof.predict.masks import Sight
from llmprof.predict.setting import Side
from llmprof.predict.tape import Tape
from llmprof.predict.tensor import Tensor


def attend(
    tape: Tape,
    side: Side,
    scoring: Scoring,
    sight: Sight,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Bias | None,
) -> Tensor:
    """Queries [b, k, g, t, h] over keys and values [b, k, s, h]; returns [b, t, k, g, h].

    `bias` has the mask in it; without one, the mask of `sight` is added where it hides anything.
    """
    g = q.axes["g"]
    sinks = sinks_of(tape, scoring)
    q = flatten(tape, q)
    keys = flatten(tape, expand_heads(tape, cast_cached(tape, k), g))
    w = scores(tape, q, keys, scoring, sight, bias or mask_bias(side, sight))
    probabilities = drop(tape, side.setting, _softmax(tape, w, sinks))
    values = flatten(tape, expand_heads(tape, cast_cached(tape, v), g))
    return heads_last(tape, weigh(tape, probabilities, values, sight))


def _softmax(tape: Tape, w: Tensor, sinks: Tensor | None) -> Tensor:
    """Over the keys, or over them and the sink of each head; the probabilities of the keys alone."""
    if sinks is None:
        return tape.run("softmax", w)
    *rows, (key, keys) = w.axes.items()
    joined = tape.run("cat", w, sinks, axes={**dict(rows), f"{key}+1": keys + 1})
    return tape.run("softmax", joined).sliced(f"{key}+1", keys, key)


def flatten(tape: Tape, x: Tensor) -> Tensor:
    """[b, heads, n, h] as the [b heads, n, h] of a `bmm`: a view where one can do it, else a contiguous `clone`."""
    heads = list(x.axes)[:-2]
    return x if x.merges(*heads) else tape.run("clone", x)


def heads_last(tape: Tape, o: Tensor) -> Tensor:
    """[b, k, g, t, h] as [b, t, (k g h)]: a view for one token or one head, else a `clone`."""
    row = query_axis(o)
    names = ("b", row, "k", "g", "h")
    if o.axes[row] == 1 or o.axes["k"] * o.axes["g"] == 1:
        return o.ordered(*names)
    return tape.run("clone", o, axes={name: o.axes[name] for name in names})
