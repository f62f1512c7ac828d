"""Attention of ranks that share the tokens of a sequence: keys and values go once around a ring of them.

docs/reference-sharding.md, section 10. A rank has two chunks of tokens, one from the front and one from the back, so
that all have as much of the causal mask. Axis legend: see `predict/tensor.py`; q [b, k, g, t, h], keys and values
[b, k, s, h] with t = s the rank's own tokens, `half` of them a chunk.
"""

from __future__ import annotations

from llmprof.predict import masks
from llmprof.predict.core import Bias, Scoring, cast_cached
from llmprof.predict.formats import FP32
from llmprof.predict.fused import launch
from llmprof.predict.masks import Sight
from llmprof.predict.setting import Side
from llmprof.predict.sharding.tape import RankTape
from llmprof.predict.tape import Tape
from llmprof.predict.tensor import Tensor


def ring_core(
    tape: Tape,
    side: Side,
    scoring: Scoring,
    sight: Sight,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Bias | None,
) -> Tensor:
    """The first rank's core: its own block under the mask, then all keys of every other with its later chunk.

    The other ranks' chunks lie all between its own two: later than its first one, earlier than its last.
    """
    assert isinstance(tape, RankTape), tape
    assert bias is None, "check_sharding refuses positions that are added to scores"
    assert sight.kind == "causal", sight
    k, v = cast_cached(tape, k), cast_cached(tape, v)
    o, seen = launch(tape, side, scoring, sight, q, k, v, with_lse=True)
    assert seen is not None
    o = tape.cast(o, FP32)
    rows, blocks = side.tokens // 2, tape.sharding.context_parallel - 1

    def late(x: Tensor) -> Tensor:
        return x.sliced(side.row, rows, "half")

    for step in range(blocks):
        k, v = tape.collective("send", k, k.axes), tape.collective("send", v, v.axes)
        sees = masks.full(rows, side.tokens)
        other, its = launch(tape, side, scoring, sees, late(q), k, v, with_lse=True)
        assert its is not None
        _merge(tape, late(o), late(seen), other, its, last=step == blocks - 1)
        tape.touch((k, v))
    return tape.cast(o)


def _merge(tape: RankTape, o: Tensor, seen: Tensor, other: Tensor, its: Tensor, *, last: bool) -> None:
    """Both outputs weighted by their log-sum-exps, in o; and in `seen` that of both, where something follows."""
    share = tape.run("sigmoid", tape.run("sub", its, seen, fmt=FP32), fmt=FP32)
    if not last:
        tape.copy(tape.run("logaddexp", seen, its, fmt=FP32, cost=4), seen)
    tape.overwrite("lerp_", o, tape.cast(other, FP32), share)
