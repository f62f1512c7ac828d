"""The ops of a softmax attention core, which `unfused.py` launches one by one and `fused.py` as one kernel.

reference-execution.md, section 8. Axis legend: see `tensor.py`. Queries are [b, k, g, t, h] (row axis
``m`` in an encoder), keys and values [b, k, s, h] or, expanded to all query heads, [b, k, g, s, h].
Matmul FLOPs are the same either way, because `scores` and `weigh` launch the contractions of both.
"""

from __future__ import annotations

from dataclasses import dataclass

from llmprof.predict import constants
from llmprof.predict.masks import Sight
from llmprof.predict.setting import Side
from llmprof.predict.tape import Tape
from llmprof.predict.tensor import Tensor


@dataclass(frozen=True, slots=True)
class Scoring:
    """What is done to q k^T: times `scale`, then `softcap` tanh(scores / softcap) where there is one.

    `sinks`: the softmax has one more column, a parameter of the core with a value per head, that brings no value.
    """

    scale: float
    softcap: float | None = None
    sinks: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Bias:
    """What is added to the scores: a mask [t, s] that all heads share, or a bias [n, t, s] per head."""

    tensor: Tensor
    shared: bool


def plain(head_dim: int) -> Scoring:
    """The usual scaling: head_dim ** -0.5, and no soft cap."""
    return Scoring(head_dim**-0.5)


def mask_bias(side: Side, sight: Sight) -> Bias | None:
    """The mask of `sight` as a bias; none where everything is seen."""
    return None if sight.kind == "full" else Bias(constants.mask(side, sight), shared=True)


def scores(tape: Tape, q: Tensor, k: Tensor, scoring: Scoring, sight: Sight, bias: Bias | None) -> Tensor:
    """Step 3: scale, q k^T, soft cap, bias, in the order of section 8.1. Returns [b, k, g, t, s]."""
    row, key = query_axis(q), key_axis(k)
    shared_addend = bias.tensor if bias is not None and bias.shared and scoring.softcap is None else None
    if shared_addend is None and scoring.scale != 1.0:
        q = tape.run("mul", q)
    w = tape.contract(
        q,
        k,
        " ".join([*list(q.axes)[:-1], key]),
        kind="bmm" if shared_addend is None else "baddbmm",
        addend=shared_addend,
        visible=sight.visible,
        pair=(row, key),
        alpha=1.0 if shared_addend is None else scoring.scale,
    )
    if scoring.softcap is not None:
        for kind in ("div_", "tanh_", "mul_"):
            w = tape.update(kind, w)
    if bias is not None and shared_addend is None:
        w = tape.update("add_", w, bias.tensor)
    return w


def weigh(tape: Tape, probabilities: Tensor, v: Tensor, sight: Sight) -> Tensor:
    """Step 6: the probabilities' average of the values. Returns [b, k, g, t, h]."""
    *rows, key = probabilities.axes
    out = " ".join([*rows, "h"])
    return tape.contract(probabilities, v, out, kind="bmm", visible=sight.visible, pair=(rows[-1], key))


def sinks_of(tape: Tape, scoring: Scoring) -> Tensor | None:
    """The leaf's sinks [n], in the activation dtype; None where it has none."""
    if not scoring.sinks:
        return None
    (sinks,) = tape.cast_parameters()
    return sinks


def query_axis(q: Tensor) -> str:
    """The name of the query axis: the fourth of [b, k, g, t, ..]."""
    return list(q.axes)[3]


def key_axis(k: Tensor) -> str:
    """The name of the key axis: the last but one of [b, k, s, h] or [b, k, g, s, h]."""
    return list(k.axes)[-2]


def cast_cached(tape: Tape, x: Tensor) -> Tensor:
    """Keys or values in the activation dtype: a cache in another float dtype is cast as a whole."""
    return x if x.format.packed else tape.cast(x)


def expand_heads(tape: Tape, x: Tensor, g: int) -> Tensor:
    """[b, k, s, h] with each KV head repeated for its `g` queries: free for one KV head, else a `clone`."""
    if g == 1:
        return x
    expanded = x.expand("g", g, after="k")
    return expanded if x.axes["k"] == 1 else tape.run("clone", expanded)
