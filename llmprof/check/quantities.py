"""The quantities that a budget can limit: every figure of the count record, its unit, and where it lies."""

from __future__ import annotations

from dataclasses import dataclass

from llmprof.check.verdict import Unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """One figure by its key in the record of `count`, or in a measured entry.

    `in_memory`: bytes that lie in the device's memory all at once, so that a part of that memory can limit them.
    `per_rank`: of one device of those that a pass is spread over.
    `whole`: always an integer, so that a bound between two integers is the nearer one. `may_be_none`: 0 in a model that
    has no such thing, so that a limit of 0 says something.
    """

    name: str
    unit: Unit
    in_memory: bool = False
    whole: bool = True
    may_be_none: bool = False
    per_rank: bool = False


def _table(*quantities: Quantity) -> dict[str, Quantity]:
    return {quantity.name: quantity for quantity in quantities}


QUANTITIES = _table(
    Quantity(name="params_total", unit="parameters"),
    Quantity(name="params_embedding", unit="parameters"),
    Quantity(name="params_non_embedding", unit="parameters"),
    Quantity(name="params_active", unit="parameters"),
    Quantity(name="params_mtp", unit="parameters", may_be_none=True),
    Quantity(name="matmul_flops_dense", unit="FLOP"),
    Quantity(name="matmul_flops_dense_unfused", unit="FLOP"),
    Quantity(name="matmul_flops_causal", unit="FLOP"),
    Quantity(name="matmul_flops_dense_per_token", unit="FLOP", whole=False),
    Quantity(name="vector_flops", unit="FLOP"),
    Quantity(name="kv_cache_bytes", unit="B", in_memory=True, may_be_none=True),
    Quantity(name="kv_cache_bytes_self", unit="B", in_memory=True, may_be_none=True),
    Quantity(name="kv_cache_bytes_cross", unit="B", in_memory=True, may_be_none=True),
    Quantity(name="kv_cache_bytes_per_token", unit="B", whole=False, may_be_none=True),
    Quantity(name="recurrent_state_bytes", unit="B", in_memory=True, may_be_none=True),
    Quantity(name="weight_bytes", unit="B", in_memory=True),
    Quantity(name="activation_peak_bytes_fused", unit="B", in_memory=True),
    Quantity(name="activation_peak_bytes_unfused", unit="B", in_memory=True),
    Quantity(name="total_bytes_fused", unit="B", in_memory=True),
    Quantity(name="total_bytes_unfused", unit="B", in_memory=True),
    Quantity(name="hbm_bytes_fused", unit="B"),
    Quantity(name="hbm_bytes_unfused", unit="B"),
    Quantity(name="sram_bytes_fused", unit="B"),
    Quantity(name="sram_tile_footprint_bytes", unit="B"),
    Quantity(name="arithmetic_intensity_fused", unit="ratio", whole=False),
    Quantity(name="arithmetic_intensity_unfused", unit="ratio", whole=False),
)
"""What `count` knows, in the order of its record."""

TOTAL_PER_RANK = "total_bytes_fused_per_rank"

PER_RANK = _table(
    Quantity(name="parameters_per_rank", unit="parameters", per_rank=True),
    Quantity(name="weight_bytes_per_rank", unit="B", in_memory=True, per_rank=True),
    Quantity(name="kv_cache_bytes_per_rank", unit="B", in_memory=True, may_be_none=True, per_rank=True),
    Quantity(name="matmul_flops_dense_per_rank", unit="FLOP", per_rank=True),
    Quantity(name="matmul_flops_causal_per_rank", unit="FLOP", per_rank=True),
    Quantity(name="hbm_bytes_fused_per_rank", unit="B", per_rank=True),
    Quantity(name="activation_peak_bytes_fused_per_rank", unit="B", in_memory=True, per_rank=True),
    Quantity(name=TOTAL_PER_RANK, unit="B", in_memory=True, per_rank=True),
    Quantity(name="collective_calls", unit="calls", may_be_none=True, per_rank=True),
    Quantity(name="collective_bytes_per_rank", unit="B", may_be_none=True, per_rank=True),
    Quantity(name="collective_wire_bytes_per_rank", unit="B", may_be_none=True, per_rank=True),
)
"""What `count` knows of the device that keeps the most weights and cache, where a pass is spread over several.

The total is the largest of any device: what it keeps and the peak of its activations.
"""

LIMITED = {**QUANTITIES, **PER_RANK}
"""What the limits of an entry can name."""

MEASURED = _table(
    Quantity(name="time_ms", unit="ms", whole=False),
    Quantity(name="peak_allocated_bytes", unit="B", in_memory=True),
)
"""What a measured entry can limit."""

ELSEWHERE = {
    **dict.fromkeys(("params_per_rank", "parameters_per_device", "params_per_device"), "write parameters_per_rank"),
    **dict.fromkeys(("weights_bytes_per_rank", "weight_bytes_per_device"), "write weight_bytes_per_rank"),
    **dict.fromkeys(("kv_bytes_per_rank", "kv_cache_bytes_per_device"), "write kv_cache_bytes_per_rank"),
    **dict.fromkeys(("total_bytes_per_rank", "memory_per_rank", "total_bytes_per_device"), f"write {TOTAL_PER_RANK}"),
    **dict.fromkeys(("collectives", "collective_calls_per_rank"), "write collective_calls"),
    **dict.fromkeys(("collective_bytes", "communication_bytes"), "write collective_bytes_per_rank"),
    **dict.fromkeys(("params", "parameters", "n_params", "num_parameters"), "write params_total"),
    **dict.fromkeys(("active_params", "active_parameters"), "write params_active"),
    **dict.fromkeys(("weights", "model_size", "weights_bytes"), "write weight_bytes"),
    **dict.fromkeys(("kv_cache", "kv_bytes", "cache_bytes", "cache"), "write kv_cache_bytes"),
    **dict.fromkeys(("kv_bytes_per_token", "kv_cache_per_token"), "write kv_cache_bytes_per_token"),
    **dict.fromkeys(("state_bytes", "state", "recurrent_state", "ssm_state_bytes"), "write recurrent_state_bytes"),
    **dict.fromkeys(
        ("memory", "total_memory", "vram", "memory_bytes", "total_bytes"), "write total_bytes_fused or _unfused"
    ),
    **dict.fromkeys(
        ("activations", "activation_bytes", "activation_peak", "activation_peak_bytes", "peak_bytes"),
        "write activation_peak_bytes_fused or _unfused",
    ),
    **dict.fromkeys(("flops", "matmul_flops"), "write matmul_flops_dense or matmul_flops_causal"),
    **dict.fromkeys(("flops_per_token", "matmul_flops_per_token"), "write matmul_flops_dense_per_token"),
    **dict.fromkeys(("hbm_bytes", "traffic", "hbm_traffic"), "write hbm_bytes_fused or hbm_bytes_unfused"),
    **dict.fromkeys(("sram", "sram_bytes", "shared_memory"), "write sram_bytes_fused or sram_tile_footprint_bytes"),
    **dict.fromkeys(("arithmetic_intensity", "intensity"), "write arithmetic_intensity_fused or _unfused"),
    **dict.fromkeys(
        ("time_ms", "latency_ms", "latency", "time", "peak_allocated_bytes"), "measured limits stand under measured:"
    ),
}
"""Names that people and other programs use."""
