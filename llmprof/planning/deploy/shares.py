"""The shares of a device's memory that engines are told to take, out of the bar that the plan shows.

Each engine counts something else, so that the caches get what the bar leaves to them. Read on 2026-11-30 in the
packages vllm 0.33.0 (vllm/v1/worker/gpu_worker.py, `determine_available_memory`: graphs are inside since 0.21, the
driver's context is not) and sglang 0.5.23 (sglang/srt/mem_cache/kv_cache_configurator.py, `_profile_available_bytes`),
and in the help of TensorRT-LLM's `--kv_cache_free_gpu_memory_fraction`. Fractions are rounded down to a ten-thousandth:
no engine is told to take more than the plan gives it.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from llmprof.errors import InputError
from llmprof.planning.deploy.asked import Asked
from llmprof.planning.footprint import CACHE, PAGES, SPARE, STATE, WEIGHTS
from llmprof.planning.memory import memory_bar
from llmprof.planning.overheads import COMMUNICATION, CONTEXT, KEPT_FREE
from llmprof.planning.terms import MemoryBar

CACHES = (CACHE, STATE, PAGES, SPARE)

_STEPS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """Fractions of one device, as the three engines define them.

    `requested`: of the whole device all but what is kept free and the driver's context (vLLM). `static`: of what is
    free before weights are loaded all but what is needed beside weights and caches (SGLang). `of_free`: of what weights
    and buffers leave all but what is kept free (TensorRT-LLM).
    """

    requested: str
    static: str
    of_free: str


def shares_of(a: Asked) -> Shares | str:
    """The shares, or why they are not known. The bar is that of the fullest device of one replica."""
    if a.deployment.engine == "architecture" and a.deployment.overheads.kept_free_bytes is None:
        return "the plan is of no engine, and keeps nothing free for one"
    try:
        bar = memory_bar(a.arch, a.deployment, sequences=a.sequences, tokens=a.tokens, chunk_tokens=a.chunk)
    except InputError as error:
        return str(error)
    return _shares(bar)


def _shares(bar: MemoryBar) -> Shares | str:
    weights, kept_free = bar.bytes_of(WEIGHTS), bar.bytes_of(KEPT_FREE)
    buffers = bar.used_bytes - weights - kept_free - sum(map(bar.bytes_of, CACHES))
    left = bar.capacity_bytes - buffers - weights
    if left <= kept_free:
        return "weights and buffers leave nothing of the device for a cache"
    before_loading = bar.capacity_bytes - bar.bytes_of(CONTEXT) - bar.bytes_of(COMMUNICATION)
    return Shares(
        requested=_decimal(bar.capacity_bytes - kept_free - bar.bytes_of(CONTEXT), bar.capacity_bytes),
        static=_decimal(bar.capacity_bytes - buffers - kept_free, before_loading),
        of_free=_decimal(left - kept_free, left),
    )


def _decimal(part: int, whole: int) -> str:
    """``0.92``: rounded down, without trailing zeros."""
    steps = Fraction(part, whole) * _STEPS // 1
    return f"{steps // _STEPS}.{steps % _STEPS:04d}".rstrip("0").rstrip(".")
