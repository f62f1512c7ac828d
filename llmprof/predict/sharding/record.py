"""What one rank of a sharded pass holds and sends, as a part of the machine contract of `count`."""

from __future__ import annotations

from typing import Any

from llmprof.predict.sharding.api import ShardedPrediction

DEGREES = (
    "tensor_parallel",
    "sequence_parallel",
    "pipeline_parallel",
    "data_parallel",
    "expert_parallel",
    "context_parallel",
)
FIGURES = (
    "parameters_per_rank",
    "weight_bytes_per_rank",
    "kv_cache_bytes_per_rank",
    "collective_calls",
    "collective_bytes_per_rank",
    "collective_wire_bytes_per_rank",
)
UNCONFIRMED = {
    "collective_wire_bytes_per_rank": "a ring is a convention: no instrument counts what a device really sends"
}
"""Key -> why nothing confirms it; the others are those of a sharded twin."""

KEYS = (*DEGREES, *FIGURES)
"""The keys that a record has where a pass is sharded. Figures are of the rank that keeps the most."""


def sharding_record(made: ShardedPrediction) -> dict[str, Any]:
    """The `KEYS` of one pass."""
    rank = made.fullest
    figures = (
        rank.params,
        rank.weight_bytes,
        rank.kv_cache_bytes,
        rank.collective_calls,
        rank.collective_bytes,
        rank.collective_wire_bytes,
    )
    return {
        **{key: getattr(made.sharding, key) for key in DEGREES},
        **dict(zip(FIGURES, figures, strict=True)),
    }
