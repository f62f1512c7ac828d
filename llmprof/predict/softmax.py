"""The leaf `core` of attention by softmax, in whichever reference runs it (reference-execution.md, section 8).

Axis legend: see `tensor.py`.
"""

from __future__ import annotations

from typing import assert_never

from llmprof.predict import fused, unfused
from llmprof.predict.core import Bias, Scoring
from llmprof.predict.masks import Sight
from llmprof.predict.setting import Side
from llmprof.predict.tape import Tape
from llmprof.predict.tensor import Tensor


def softmax_core(
    tape: Tape,
    side: Side,
    scoring: Scoring,
    sight: Sight,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Bias | None = None,
    *,
    crossing: bool = False,
) -> Tensor:
    """The leaf `core`: q [b, t, k, g, h] over keys and values [b, k, s, h]; returns [b, t, q].

    `bias` is what the scores get beside the mask of `sight`, and holds that mask. `crossing`: keys of the source.
    """
    row = list(q.axes)[1]
    with tape.module("core", q, k, v, *(() if bias is None else (bias.tensor,))):
        turned = q.ordered("b", "k", "g", row, "h")
        o = _attend(tape, side, scoring, sight, turned, k, v, bias, crossing=crossing)
    return heads_as_row(o)


def _attend(
    tape: Tape,
    side: Side,
    scoring: Scoring,
    sight: Sight,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Bias | None,
    *,
    crossing: bool,
) -> Tensor:
    """The core in the reference that the pass names (docs/reference-unfused.md, section 1)."""
    if side.setting.fused:
        return (side.setting.core or fused.attend)(tape, side, scoring, sight, q, k, v, bias)
    match side.setting.execution.reference:
        case "lean-eager":
            return unfused.attend(tape, side, scoring, sight, q, k, v, bias)
        case "hf-eager":
            from llmprof.predict import hf_eager

            assert bias is None, "check_reference refuses a bias"
            return hf_eager.attend(tape, side, scoring, sight, q, k, v, crossing=crossing)
        case "sdpa-math":
            from llmprof.predict import sdpa_math

            assert scoring.softcap is None, "check_reference refuses a soft cap"
            assert not scoring.sinks, "check_reference refuses sinks"
            return sdpa_math.attend(tape, side, sight, q, k, v, bias)
        case other:
            assert_never(other)


def softmax_kernel(side: Side, scoring: Scoring, head_dim: int, sight: Sight, *, biased: bool = False) -> str:
    """The reference name of that core: ``lean-eager``, or the fused kernel that fits."""
    if not side.setting.fused:
        return side.setting.execution.reference
    return fused.choose(side.setting, scoring, head_dim, sight, biased=biased)


def heads_as_row(o: Tensor) -> Tensor:
    """[b, t, k, g, h] as [b, t, q]; likewise without g."""
    b, row, *heads = o.axes
    width = 1
    for name in heads:
        width *= o.axes[name]
    return o.seen_as(**{b: o.axes[b], row: o.axes[row], "q": width})
