"""What one rank of a sharded pass holds, runs and sends, as a part of the machine contract of `count`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmprof.predict.sharding.api import RankTotals, ShardedPrediction
from llmprof.sharding_stages import text_of

DEGREES = (
    "tensor_parallel",
    "sequence_parallel",
    "pipeline_parallel",
    "data_parallel",
    "expert_parallel",
    "context_parallel",
)
SPLIT = "pipeline_layers"
FIGURES: Mapping[str, str] = {
    "parameters_per_rank": "params",
    "weight_bytes_per_rank": "weight_bytes",
    "kv_cache_bytes_per_rank": "kv_cache_bytes",
    "recurrent_state_bytes_per_rank": "recurrent_state_bytes",
    "matmul_flops_dense_per_rank": "matmul_flops",
    "matmul_flops_causal_per_rank": "matmul_flops_causal",
    "hbm_bytes_fused_per_rank": "hbm_bytes",
    "activation_peak_bytes_fused_per_rank": "peak_live_bytes",
    "collective_calls": "collective_calls",
    "collective_bytes_per_rank": "collective_bytes",
    "collective_wire_bytes_per_rank": "collective_wire_bytes",
}
"""Key -> the member of `RankTotals` that it holds."""

RING = "a ring is a convention: no instrument counts what a device really sends"

KEYS = (*DEGREES, SPLIT, *FIGURES)
"""The keys that a record has where a pass is sharded. Figures are of the rank that keeps the most."""


def sharding_record(made: ShardedPrediction) -> dict[str, Any]:
    """The `KEYS` of one pass."""
    rank = made.fullest
    return {
        **{key: getattr(made.sharding, key) for key in DEGREES},
        SPLIT: text_of(made.sharding.stage_depths(made.arch.n_layers)),
        **{key: getattr(rank, name) for key, name in FIGURES.items()},
    }


def unconfirmed(made: ShardedPrediction, rank: RankTotals) -> Mapping[str, str]:
    """Key -> why nothing confirms it of this rank; the others are those of a sharded twin."""
    reasons = made.unconfirmed(rank)
    found = {key: reasons[name] for key, name in FIGURES.items() if name in reasons}
    return {**found, "collective_wire_bytes_per_rank": RING}
