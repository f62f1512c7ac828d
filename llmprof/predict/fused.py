"""The fused attention core: which kernel runs it, and what crosses that kernel's border.

reference-execution.md, section 8.2; sinks: reference-options.md, section 3. Axis legend: see `tensor.py`.
"""

from __future__ import annotations

from typing import Literal, assert_never

from llmprof.predict.core import (
    Bias,
    Scoring,
    cast_cached,
    expand_heads,
    key_axis,
    mask_bias,
    query_axis,
    scores,
    sinks_of,
    weigh,
)
from llmprof.predict.dropout import drop
from llmprof.predict.formats import FP32, INT64, UINT64
from llmprof.predict.masks import Sight
from llmprof.predict.op import Op
from llmprof.predict.setting import Setting, Side
from llmprof.predict.tape import Tape
from llmprof.predict.tensor import Home, Tensor, new

KernelName = Literal["flash", "efficient", "cpu", "none"]
LOG_SUM_EXP = "lse"
KERNELS: tuple[KernelName, ...] = ("flash", "efficient", "cpu", "none")


def choose(setting: Setting, scoring: Scoring, h: int, sight: Sight, *, biased: bool) -> KernelName:
    """The first kernel that fits. ``none``: no real one does, and the figures stay unconfirmed.

    `h` is head_dim; `biased`: something is added to the scores beside the mask of `sight`.
    """
    if scoring.softcap is not None:
        return "none"
    if setting.execution.kernels == "cpu":
        return "cpu"
    half = setting.activations.bits == 16
    if half and h % 8 == 0 and h <= 256 and sight.kind != "dense" and not biased:
        return "flash"
    return "efficient" if h % (8 if half else 4) == 0 else "none"


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
    """Queries [b, k, g, t, h] over keys and values [b, k, s, h]; returns [b, t, k, g, h], the layout of q in memory.

    `bias` has the mask in it; without one, the mask of `sight` is the kernel's own or, where it has none, read.
    """
    sinks = sinks_of(tape, scoring)
    k, v = cast_cached(tape, k), cast_cached(tape, v)
    training = side.setting.workload.phase == "train"
    o, seen = launch(tape, side, scoring, sight, q, k, v, bias, with_lse=training or sinks is not None)
    if sinks is not None:
        assert seen is not None
        _drain(tape, q, o, seen, sinks)
    return o


def launch(
    tape: Tape,
    side: Side,
    scoring: Scoring,
    sight: Sight,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Bias | None = None,
    *,
    with_lse: bool,
) -> tuple[Tensor, Tensor | None]:
    """The kernel itself, on keys and values in their last dtype: its output, and its log-sum-exp [b, k, g, t].

    None without one: the efficient kernel writes it only `with_lse`.
    """
    kernel = choose(side.setting, scoring, q.axes["h"], sight, biased=bias is not None)
    if kernel == "efficient":
        k, v = expand_heads(tape, k, q.axes["g"]), expand_heads(tape, v, q.axes["g"])
    if bias is None and _flagged(kernel, sight):
        on_chip = new("mask", {query_axis(q): sight.queries, key_axis(k): sight.keys}, tape.fmt, Home.ON_CHIP)
        bias = Bias(on_chip, shared=True)

    inner = tape.scratch()
    w = scores(inner, q, k, scoring, sight, bias or mask_bias(side, sight))
    o = weigh(inner, drop(inner, side.setting, inner.run("softmax", w)), v, sight)
    axes = {name: o.axes[name] for name in ("b", query_axis(o), "k", "g", "h")}
    written = auxiliary(kernel, q, with_lse=with_lse)
    o = tape.fuse(kernel, inner, axes, written)
    seen = next((x for x in written if x.name == LOG_SUM_EXP), None)
    row = query_axis(q)
    if seen is not None and row not in seen.axes:
        seen = seen.sliced(f"{row}32", q.axes[row], row)
    return o, seen


def _drain(tape: Tape, q: Tensor, o: Tensor, log_sum_exp: Tensor, sinks: Tensor) -> None:
    """Takes from each head what its sink would have got: o times sigmoid(lse - sink), in place."""
    rows = {name: size for name, size in q.axes.items() if name != "h"}
    share = tape.run("sub", log_sum_exp, sinks, axes=rows, fmt=FP32)
    share = tape.cast(tape.run("sigmoid", share, fmt=FP32))
    tape.in_place("mul_", o, share)


def packed_reads(op: Op) -> str | None:
    """The storage format of packed keys or values that a fused attention is given; None where it computes in theirs."""
    return next((tensor.format.name for tensor in op.reads if tensor.format.packed), None)


def auxiliary(kernel: KernelName, q: Tensor, *, with_lse: bool) -> list[Tensor]:
    """What a kernel writes beside its output; a kernel that does not exist is taken to write what `flash` does.

    `with_lse`: the efficient kernel writes its log-sum-exp too, where it is read later, with rows rounded up to 32.
    """
    log_sum_exp = new(LOG_SUM_EXP, {name: size for name, size in q.axes.items() if name != "h"}, FP32, Home.ACTIVATION)
    match kernel:
        case "flash" | "none":
            seed = new("rng seed", {"words": 2}, UINT64, Home.ACTIVATION)
            return [log_sum_exp, seed, new("rng offset", {}, UINT64, Home.ACTIVATION)]
        case "efficient":
            seeds = [new(name, {}, INT64, Home.ACTIVATION) for name in ("philox seed", "philox offset")]
            return [_padded_log_sum_exp(q), *seeds] if with_lse else seeds
        case "cpu":
            return [log_sum_exp]
    assert_never(kernel)


def _padded_log_sum_exp(q: Tensor) -> Tensor:
    """[b, k, g, t32] in fp32, t32 the rows rounded up to a multiple of 32."""
    row = query_axis(q)
    heads = {name: size for name, size in q.axes.items() if name not in (row, "h")}
    return new(LOG_SUM_EXP, {**heads, f"{row}32": 32 * -(-q.axes[row] // 32)}, FP32, Home.ACTIVATION)


def _flagged(kernel: KernelName, sight: Sight) -> bool:
    """Whether the kernel makes the causal mask by itself; all but flash can only where T = S."""
    return sight.kind == "causal" and (kernel in ("flash", "none") or sight.queries == sight.keys)
