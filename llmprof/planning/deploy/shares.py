"""The shares of a device's memory that engines are told to take, out of the bar that the plan shows.

Fractions are rounded down to a ten-thousandth, so that no engine is told to take more than the plan gives it.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from llmprof.errors import InputError
from llmprof.planning.deploy.asked import Asked
from llmprof.planning.memory import memory_bar
from llmprof.planning.terms import MemoryBar

KEPT_FREE = "kept free by the engine"
WEIGHTS = "weights"
CACHES = ("kv cache", "kv pages", "recurrent state", "recurrent pages")

_STEPS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """Fractions of one device, as the three engines define them.

    `taken`: all but what is kept free (vLLM). `static`: weights and caches together (SGLang). `of_free`: caches, of
    what weights and buffers leave (TensorRT-LLM). In each the caches get whatever nothing else needs.
    """

    taken: str
    static: str
    of_free: str


def shares_of(a: Asked) -> Shares | str:
    """The shares, or why they are not known. The bar is that of the fullest device of one replica."""
    try:
        bar = memory_bar(a.arch, a.deployment, sequences=a.sequences, tokens=a.tokens, chunk_tokens=a.chunk)
    except InputError as error:
        return str(error)
    return _shares(bar)


def _shares(bar: MemoryBar) -> Shares | str:
    weights = bar.bytes_of(WEIGHTS)
    caches = sum(map(bar.bytes_of, CACHES))
    kept_free = bar.bytes_of(KEPT_FREE)
    buffers = bar.used_bytes - weights - caches - kept_free
    taken = bar.capacity_bytes - kept_free
    left = bar.capacity_bytes - buffers - weights
    if taken <= 0 or left - kept_free <= 0:
        return "weights and buffers leave nothing of the device for a cache"
    return Shares(
        taken=_decimal(Fraction(taken, bar.capacity_bytes)),
        static=_decimal(Fraction(taken - buffers, bar.capacity_bytes)),
        of_free=_decimal(Fraction(left - kept_free, left)),
    )


def _decimal(share: Fraction) -> str:
    """``0.92``: rounded down, without trailing zeros."""
    steps = share * _STEPS // 1
    return f"{steps // _STEPS}.{steps % _STEPS:04d}".rstrip("0").rstrip(".")
