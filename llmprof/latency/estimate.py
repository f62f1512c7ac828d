"""A time with its interval and what it rests on: `estimate` of one op on one device.

>>> from llmprof.latency.constants import DeviceModel
>>> from llmprof.latency.op import Gemm
>>> estimate(Gemm(m=1, n=4096, k=4096), DeviceModel.of("h200")).label
'calibrated'
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from math import exp, log

from llmprof.errors import InputError
from llmprof.latency import attention, collective, elementwise, gemm, light, mla, moe
from llmprof.latency.common import US, peak
from llmprof.latency.constants import Basis as Basis
from llmprof.latency.constants import Bound, DeviceModel
from llmprof.latency.figures import Figures
from llmprof.latency.op import (
    Collective,
    DecodeAttention,
    Elementwise,
    Gemm,
    Launch,
    MlaDecode,
    MlaPrefill,
    Moe,
    Op,
    PrefillAttention,
)

UNCALIBRATED = "uncalibrated"

SHORT = 20 * US
"""Below, a time is mostly starts and ends of kernels, and is spread otherwise."""

WIDE = 2.0
"""How far away the ends of an interval are, at least, where nothing was fitted to just this kernel."""

APART = 1.5
"""By how much more, at least, than devices differ from their mean."""

WIDER = 3.0
"""The same where not even a kernel like it was."""

EFFICIENT = (0.75, 0.8, 3 * US)
"""Of a datasheet: the part of the peak and of the bandwidth that kernels reach, and their start; the median error of
these three on bf16 products of five devices is 9 to 21% (docs/latency.md, "Anchors")."""

LAUNCHED = {False: 5 * US, True: 0.0}
"""Host time of one kernel: each alone, or within a replayed graph, whose kernels' own starts are in their times. Of the
order that NVIDIA states for kernel launches (recalled); `llmprof calibrate` measures them."""

REPLAYED = 10 * US
"""Host time of replaying one graph (recalled, as above)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """`seconds`, with an interval that holds 90% of measurements where `basis` is calibrated.

    Elsewhere `low` and `high` are at least a factor of two away, and `label` says that the time is uncalibrated.
    `note` says whose constants were used, and which figures of the device were missing and what stood in for them.
    """

    seconds: float
    low: float
    high: float
    basis: Basis
    note: str = ""

    @property
    def label(self) -> str:
        """``calibrated``, or ``uncalibrated (family)``, ``uncalibrated (datasheet)``."""
        return self.basis if self.basis == "calibrated" else f"{UNCALIBRATED} ({self.basis})"


@lru_cache(maxsize=1 << 17)
def estimate(op: Op, model: DeviceModel) -> Estimate:
    """How long `op` takes on the device: never less than its speed of light, nor less with more tokens."""
    least = light.floor(op, model.figures) if model.bounded else 0.0
    if isinstance(op, Elementwise | Launch) and model.constants(*_key(op, model.figures)) is None:
        return _launched(op) if isinstance(op, Launch) else _elementwise(op, model)
    if isinstance(op, MlaPrefill) and op.latent is None:
        return _as_engines_run(op, model)
    if isinstance(op, Collective) and op.devices < 2:
        return Estimate(seconds=0.0, low=0.0, high=0.0, basis="calibrated", note="nothing is sent")
    found = model.constants(*_key(op, model.figures))
    if found is None:
        return _datasheet(op, model, least)
    if isinstance(op, Collective) and found.basis != "calibrated" and model.figures.link is None:
        return _linked(op, model)  # whose constants it would have is of other links, and nobody stated these
    times = [kernel_seconds(op, bound) for bound in found.bounds]
    seconds = max(least, _mean(times, found.weights))
    note = found.note
    changed = _changed(op)
    if changed:
        note = "; ".join(filter(None, (note, changed)))
    if changed or found.basis != "calibrated":
        return _around(seconds, _spread(seconds, times, found.weights), "family", note)
    kernel = found.bounds[0].kernel
    low, high = kernel.short if seconds < SHORT else kernel.long
    return Estimate(seconds=seconds, low=max(least, seconds * low), high=seconds * high, basis="calibrated", note=note)


def _mean(times: list[float], weights: tuple[float, ...]) -> float:
    """The weighted geometric mean; 0 where any time is."""
    if min(times) <= 0:
        return 0.0
    return exp(sum(weight * log(time) for weight, time in zip(weights, times, strict=True)))


def _spread(seconds: float, times: list[float], weights: tuple[float, ...]) -> float:
    """The factor of an uncalibrated interval: wider where devices that count as much tell different times."""
    apart = sum(weight * abs(log(time / seconds)) for weight, time in zip(weights, times, strict=True) if time > 0)
    return max(WIDE, APART * exp(apart))


def _changed(op: Op) -> str:
    """What is not as it was when constants were fitted, so that the interval is another; nothing where all is."""
    if isinstance(op, Collective) and op.kind != "allreduce":
        return "constants of the all-reduce, whose half it is taken for"
    if isinstance(op, Gemm) and op.rounded:
        return "without the kernel that rounds its input"
    return ""


def _key(op: Op, figures: Figures) -> tuple[str, str, str | None]:
    """What an op's constants are filed under: its kind, its dtype, its engine."""
    match op:
        case Gemm(dtype="fp4", engine=engine) | Moe(dtype="fp4", engine=engine) if figures.fp4 is None:
            return "gemm" if isinstance(op, Gemm) else "moe", "int4", engine  # narrow weights, multiplied in bf16
        case Gemm(dtype=dtype, engine=engine):
            return "gemm", dtype, engine
        case Moe(dtype=dtype, engine=engine):
            return "moe", dtype, engine
        case DecodeAttention(kv_dtype=dtype, engine=engine):
            return "decode", dtype, engine
        case PrefillAttention(kv_dtype=dtype, engine=engine):
            return "prefill", dtype, engine
        case MlaDecode(kv_dtype=dtype, engine=engine):
            return "mla-decode", dtype, engine
        case MlaPrefill(kv_dtype=dtype, engine=engine):
            return "mla-latent" if op.latent else "mla-prefill", dtype, engine
        case Collective(engine=engine):
            return "allreduce", "bf16", engine
        case Elementwise():
            return "elementwise", "bf16", None
        case Launch():
            return "launch", "bf16", None


def kernel_seconds(op: Op, bound: Bound) -> float:
    """The time of one kernel with just these constants, whatever its speed of light."""
    figures, c, form = bound.figures, bound.kernel.constants, bound.kernel.form
    match op:
        case Gemm():
            return gemm.seconds(op, figures, c, form)
        case DecodeAttention():
            return attention.decode_seconds(op, figures, c, form)
        case PrefillAttention():
            return attention.prefill_seconds(op, figures, c, form)
        case MlaDecode():
            return mla.decode_seconds(op, figures, c)
        case MlaPrefill():
            return mla.prefill_seconds(op, figures, c, form)
        case Moe():
            return moe.seconds(op, figures, c, form)
        case Collective():
            return collective.seconds(op, figures, c)
        case Elementwise():
            return elementwise.seconds(op, figures, c)
        case Launch():
            return elementwise.launch_seconds(op, c)


def _as_engines_run(op: MlaPrefill, model: DeviceModel) -> Estimate:
    """Short prompts in the latent space, or as a prompt just too long for that, whichever takes less.

    The second keeps a longer prompt from taking less time than a shorter one.
    """
    longest = mla.LONGEST_LATENT[op.kv_dtype in {"bf16", "fp16"}]
    heads = estimate(replace(op, latent=False, new_tokens=max(op.new_tokens, longest + 1)), model)
    if op.new_tokens > longest:
        return heads
    latent = estimate(replace(op, latent=True), model)
    return min(latent, heads, key=lambda each: each.seconds)


def _launched(op: Launch) -> Estimate:
    return _around(op.kernels * LAUNCHED[op.graph] + (REPLAYED if op.graph else 0.0), WIDER, "datasheet", "")


def _elementwise(op: Elementwise, model: DeviceModel) -> Estimate:
    """Their bytes as fast as a product reads its weights, and its start per kernel, where nobody timed them."""
    found = model.constants("gemm", "bf16", None)
    if found is None:
        _, part, start = EFFICIENT
        return _around(op.kernels * start + op.bytes / (part * model.figures.bandwidth), WIDE, "datasheet", "")
    times = [
        op.kernels * bound.kernel.constants["t0"] * US
        + op.bytes / (bound.kernel.constants["e_b"] * bound.figures.bandwidth)
        for bound in found.bounds
    ]
    seconds = _mean(times, found.weights)
    return _around(seconds, WIDE, "family", "start and bandwidth of the device's bf16 products")


def _datasheet(op: Op, model: DeviceModel, least: float) -> Estimate:
    """A roofline with the usual efficiencies."""
    if isinstance(op, Collective):
        return _linked(op, model)
    flops, moved = light.work(op, model.figures)
    rate = peak(op.dtype, model.figures) if isinstance(op, Gemm | Moe) else model.figures.bf16
    compute, bandwidth, start = EFFICIENT
    seconds = max(flops / (compute * rate), moved / (bandwidth * model.figures.bandwidth)) + start
    return _around(max(seconds, least), WIDER, "datasheet", "a roofline: no device with kernels like these was fitted")


def _linked(op: Collective, model: DeviceModel) -> Estimate:
    seconds = collective.linked(op, model.figures)
    if seconds is None:
        raise InputError(
            f"{model.name}: the catalogue has no interconnect of it, so {op.kind} there has no time; "
            "add `interconnect` to its file"
        )
    return _around(seconds, WIDER, "datasheet", "a ring at the stated bandwidth of the links")


def _around(seconds: float, factor: float, basis: Basis, note: str) -> Estimate:
    """An interval that may reach below the speed of light: where nothing was fitted, figures may be wrong as well."""
    return Estimate(seconds=seconds, low=seconds / factor, high=seconds * factor, basis=basis, note=note)
