"""What the formulas of the kernels share: overlap, waves, what a cache keeps, how wide dtypes are."""

from __future__ import annotations

from math import ceil

from llmprof.latency.figures import Figures
from llmprof.latency.op import Dtype

US = 1e-6
NS = 1e-9
KILOCYCLE = 1e3

Constants = dict[str, float]
"""The constants of one kernel, by the letters of docs/latency.md."""


def overlapped(one: float, other: float, sharpness: float) -> float:
    """The p-norm of two times that run beside each other: their sum at p = 1, the longer of them as p grows."""
    long, short = (one, other) if one >= other else (other, one)
    if long <= 0:
        return 0.0
    return float(long * (1 + (short / long) ** sharpness) ** (1 / sharpness))


def waves(tiles_per_unit: float, hardness: float) -> float:
    """How often the processors are filled: at least once; `hardness` 1 counts a last wave as a whole one."""
    return (1 - hardness) * max(tiles_per_unit, 1.0) + hardness * ceil(tiles_per_unit)


def kept(bytes_over_cache: float) -> float:
    """The part of a repeatedly used set that a cache keeps, by how often the set fills it: a smooth step at 1."""
    return 1 / (1 + min(bytes_over_cache, 1e9) ** 6)


def weight_bytes(dtype: Dtype) -> float:
    """Bytes per weight, scales included: one fp16 scale per 128 weights of int4, one fp8 scale per 16 of fp4."""
    return {
        "bf16": 2.0,
        "fp16": 2.0,
        "fp8": 1.0,
        "fp8_block": 1.0 + 4 / (128 * 128),
        "int8": 1.0,
        "int4": 0.5 + 2 / 128,
        "fp4": 0.5 + 1 / 16,
    }[dtype]


def input_bytes(dtype: Dtype, figures: Figures) -> float:
    """Bytes per activation that a matrix product reads: quantised on the way in where the device multiplies so."""
    if figures.fp8 is None or (dtype == "fp4" and figures.fp4 is None):
        return 2.0
    return {"fp8": 1.0, "fp8_block": 1.0, "fp4": 0.5 + 1 / 16}.get(dtype, 2.0)


def peak(dtype: Dtype, figures: Figures) -> float:
    """FLOPs per second of a matrix product.

    A device without fp8 or fp4 multiplies such weights in bf16, as all do int8 and int4 here.
    """
    if dtype == "fp4":
        return figures.fp4 or figures.bf16
    if figures.fp8 is None or dtype in {"bf16", "fp16", "int8", "int4"}:
        return figures.bf16
    return figures.fp8


def cache_bytes(dtype: Dtype) -> float:
    """Bytes per element of a cache of keys and values."""
    return {"bf16": 2.0, "fp16": 2.0}.get(dtype, weight_bytes(dtype))
