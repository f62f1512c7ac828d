"""What one rank runs of a sharded pass, and holds of experts, latents and packed matrices: arithmetic by hand.

The rules are those of docs/reference-sharding.md, sections 3, 8 and 9; sizes are those of the published models.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from llmprof.claims.specs import attention, changed, shipped
from llmprof.predict.sharding.api import ShardedPrediction, sharded
from llmprof.routing import Routing
from llmprof.spec.arch import ArchSpec
from llmprof.workload import Dtypes, Workload
from tests.unit.divided import SMALL, decode, prefill

B, T, D = 2, 12, 64
N = B * T
MIXTRAL = "mixtral-8x7b"
"""https://arxiv.org/abs/2401.04088, table 1: D 4096, 32 layers, 32 heads of 128, 8 KV heads, 8 experts of 14336, 2 of
them for a token, V 32000."""


def hbm(made: ShardedPrediction, path: str) -> int:
    found = made.stages[0].ledger.at(path, "hbm_bytes")
    assert found is not None, path
    return found


def said(made: ShardedPrediction, path: str, kind: str) -> tuple[int, int, int]:
    [call] = [each for each in made.stages[0].collectives if (each.path, each.kind) == (path, kind)]
    return call.count, call.bytes, call.wire_bytes


def shallow(arch: ArchSpec, layers: int) -> ArchSpec:
    return replace(arch, stacks=(replace(arch.main, layers=arch.main.layers[:layers]),))


# --- a dense model ----------------------------------------------------------------------------------


def test_a_lookup_in_some_rows_of_a_table() -> None:
    assert hbm(sharded(SMALL, prefill()), "embed") == 8 * N + 2 * (N * D * 2), "alone: the gather"
    masked = (
        (8 + 8) * N  # sub: ids from the first own row
        + 2 * (8 + 1) * N  # lt, ge
        + (2 + 1) * N  # or
        + (9 + 8) * N  # masked_fill_ of the ids
        + 8 * N + 2 * (N * D * 2)  # the gather
        + 2 * (N * D * 2) + N  # masked_fill_ of the rows
    )  # fmt: skip
    assert hbm(sharded(SMALL, prefill(), tensor_parallel=4), "embed") == masked


def test_rows_are_shared_outside_of_blocks_alone() -> None:
    made = sharded(SMALL, prefill(), tensor_parallel=4, sequence_parallel=True)
    own = N // 4
    assert hbm(made, "layers.0.attn_norm") == 2 * own * D * 2 + 2 * D * 2 + 2 * 4 * own
    assert hbm(made, "layers.0.attn_residual") == 3 * own * D * 2
    assert hbm(made, "layers.0.attn.q_proj") == N * D * 2 + 16 * D * 2 + 16 * 2 + N * 16 * 2
    assert hbm(made, "pos_embed") == (T // 4) * (8 + 2 * D * 2) + 2 * own * D * 2 + (T // 4) * D * 2
    assert hbm(made, "final_norm") == hbm(made, "layers.0.attn_norm")
    assert hbm(made, "lm_head") == N * D * 2 + 250 * D * 2 + N * 250 * 2, "all rows, a quarter of 1,000 columns"


def test_a_rank_of_four_does_a_quarter_and_replicates_few_heads() -> None:
    whole, quarter = sharded(SMALL, decode(20)).fullest, sharded(SMALL, decode(20), tensor_parallel=4).fullest
    assert 4 * quarter.matmul_flops == whole.matmul_flops
    two_heads = replace(attention(SMALL), n_kv_heads=2)
    few = changed(SMALL, lambda layer: replace(layer, attention=two_heads))
    one, rank = sharded(few, decode(20)).fullest, sharded(few, decode(20), tensor_parallel=4).fullest
    replicated = 3 * 2 * 2 * B * 8 * D  # k and v of 3 layers: one head of 8 on each, and half of one would be a share
    assert 4 * rank.matmul_flops - one.matmul_flops == 2 * replicated


@pytest.mark.parametrize(
    ("degrees", "most"),
    [
        # decode of one token: logits [B, 1000] in bf16, gathered from a quarter, beside the hidden state behind a norm
        ({"tensor_parallel": 4}, B * (D + 250 + 1000) * 2),
        ({}, B * (D + 1000) * 2),
    ],
)
def test_the_peak_of_a_decoding_rank(degrees: dict[str, Any], most: int) -> None:
    constants = 8 * B + 8  # ids of tokens and of one position
    assert sharded(shallow(SMALL, 1), decode(9, batch=B), **degrees).fullest.peak_live_bytes == most + constants


# --- experts ----------------------------------------------------------------------------------------


def test_experts_by_blocks_and_columns() -> None:
    """Four ranks, two blocks: on each four experts, half of their columns."""
    d, f = 4096, 14336 // 2
    made = sharded(shipped(MIXTRAL), decode(100, batch=8), tensor_parallel=4, expert_parallel=2)
    layer = 2 * 8 * 128 * d + 2 * 2 * 128 * d + 2 * d + 8 * d + 4 * 3 * f * d
    assert made.fullest.params == 32 * layer + 2 * 8000 * d + d
    # 8 tokens to 2 of 8 experts: 2 rows each, 8 rows on a rank.
    ledger = made.stages[0].ledger
    assert ledger.at("layers.9.ffn.experts", "matmul_flops") == 2 * 8 * 3 * f * d
    assert ledger.at("layers.9.ffn.router", "matmul_flops") == 2 * 8 * 8 * d, "whole"
    hidden = 8 * d * 2
    assert said(made, "layers.9.ffn", "all-reduce") == (1, hidden, hidden * 6 // 4)
    assert made.fullest.collective_calls == 1 + 2 * 32 + 1


def test_experts_whose_tokens_are_sent() -> None:
    """Eight ranks of one replica each, and an expert on each: one token of a rank goes to two of them."""
    d, f = 4096, 14336
    made = sharded(shallow(shipped(MIXTRAL), 1), decode(100, batch=8), data_parallel=8, expert_parallel=8)
    assert made.stages[0].ledger.at("layers.0.ffn.experts", "params") == 3 * f * d
    row, wide = d * 2, f * 2
    assert hbm(made, "layers.0.ffn.experts") == (
        8 * 2 + 2 * 2 * row  # two rows in the order of experts, which are sent
        + 8 * 2 + 2 * 2 * row  # the two that came, in the order of this rank's
        + 2 * row  # zeros
        + 2 * (2 * row + f * d * 2 + 2 * wide)  # gate, up
        + 2 * 2 * wide + 3 * 2 * wide  # silu, mul
        + 2 * wide + f * d * 2 + 2 * row  # down
        + 8 * 2 + 3 * 2 * row  # index_add_, and then they are sent back
        + 2 * 2 * row + 2 * 2  # times a weight each
        + 1 * row  # zeros
        + 8 * 2 + 3 * 2 * row  # index_add_
    )  # fmt: skip
    assert said(made, "layers.0.ffn.experts", "all-to-all") == (2, 4 * row, 4 * row * 7 // 8)
    assert made.fullest.collective_calls == 2


def test_the_rank_of_the_busiest_experts_is_meant() -> None:
    """All 8 tokens go to the first two of 8 experts: both on the first of four blocks."""
    workload = replace(decode(100, batch=8), routing=Routing("concentrated"))
    made = sharded(shallow(shipped(MIXTRAL), 1), workload, tensor_parallel=4, expert_parallel=4)
    flops = made.stages[0].ledger.at("layers.0.ffn.experts", "matmul_flops")
    assert flops == 2 * 16 * 3 * 14336 * 4096


# --- latent attention -------------------------------------------------------------------------------


def test_latents_are_whole_and_heads_are_shared() -> None:
    """DeepSeek-V2-Lite (https://arxiv.org/abs/2405.04434, appendix B): 16 heads of 128 + 64 and 128, a latent of 512."""
    d = 2048
    made = sharded(shipped("deepseek-v2-lite"), decode(100, batch=4), tensor_parallel=4)
    latent = 4 * 192 * d + (512 + 64) * d + 512 + 4 * 256 * 512 + 4 * 128 * d
    dense = 3 * 10944 // 4 * d
    experts = 64 * d + 64 * 3 * 352 * d + 3 * 704 * d
    layers = 27 * (latent + 2 * d) + dense + 26 * experts
    assert made.fullest.params == layers + 2 * 102_400 // 4 * d + d
    assert made.fullest.kv_cache_bytes == 27 * 4 * 100 * 576 * 2, "whole on every rank"
    ledger = made.stages[0].ledger
    assert ledger.at("layers.3.attn.absorb", "matmul_flops") == 2 * 4 * 4 * 128 * 512
    assert ledger.at("layers.3.attn.core", "matmul_flops") == 2 * 4 * 4 * 100 * (576 + 512)
    assert ledger.at("layers.3.attn.kv_down", "matmul_flops") == 2 * 4 * 576 * d, "whole on every rank"
    assert said(made, "layers.3.attn.o_proj", "all-reduce")[1] == 4 * d * 2


# --- rings ------------------------------------------------------------------------------------------


def test_keys_and_values_go_around_a_ring() -> None:
    """Llama-2-70B, 8,192 tokens on 4 ranks of 8 heads each: 2,048 of them on a rank, in two chunks of 1,024."""
    m, d, heads, h, c = 2048, 8192, 8, 128, 4
    made = sharded(shallow(shipped("llama-2-70b"), 1), prefill(8192, batch=1), tensor_parallel=8, context_parallel=c)
    assert made.fullest.kv_cache_bytes == 2 * m * 1 * h * 2, "one of 8 KV heads, the rank's own tokens"
    block = m * 1 * h * 2
    assert said(made, "layers.0.attn.core", "send") == (6, 6 * block, 6 * block)
    ledger = made.stages[0].ledger
    pairs = m * m + (c - 1) * m * m // 2
    visible = m * (m + 1) // 2 + (c - 1) * m * m // 2
    assert ledger.at("layers.0.attn.core", "matmul_flops") == 4 * heads * h * pairs
    assert ledger.at("layers.0.attn.core", "matmul_flops_causal") == 4 * heads * h * visible
    assert 4 * visible == 8192 * 8193 // 2, "all ranks together see what one device sees"
    q, rng, half = m * heads * h, 24, m // 2 * heads
    own = q * 2 + 2 * block + q * 2 + 4 * m * heads + rng + (2 + 4) * q  # flash, and its output in fp32
    other = (q // 2) * 2 + 2 * block + (q // 2) * 2 + 4 * half + rng  # half of the queries, all keys
    merge = 12 * half + 8 * half + (2 + 4) * half * h + 8 * half * h + 4 * half + 4 * half * h
    both = 12 * half + 8 * half  # logaddexp, copy_: but for the last
    assert hbm(made, "layers.0.attn.core") == own + 3 * (other + merge) + 2 * both + (4 + 2) * q
    assert hbm(made, "layers.0.ffn.down") == m * 3584 * 2 + 3584 * d * 2 + m * d * 2


# --- packed weights ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weights", "q_proj", "o_proj", "norm"),
    [
        ("bf16", 1024 * 8192 * 2, 8192 * 1024 * 2, 8192 * 2),
        ("fp8", 1024 * 8192 + 4, 8192 * 1024 + 4, 8192 * 2),
        ("int8", 1024 * (8192 + 2), 8192 * (1024 + 2), 8192 * 2),
        ("int4", 1024 * (8192 // 2 + 64 * 2), 8192 * (1024 // 2 + 8 * 2), 8192 * 2),  # groups of 128
    ],
)
def test_the_parts_of_packed_matrices(weights: Any, q_proj: int, o_proj: int, norm: int) -> None:
    """Llama-2-70B on 8 ranks: 1,024 of 8,192 outputs of q_proj, 1,024 of 8,192 inputs of o_proj."""
    workload: Workload = prefill(16, dtypes=Dtypes(weights=weights))
    ledger = sharded(shallow(shipped("llama-2-70b"), 1), workload, tensor_parallel=8).stages[0].ledger
    for path, expected in (("attn.q_proj", q_proj), ("attn.o_proj", o_proj), ("attn_norm", norm)):
        assert ledger.at(f"layers.0.{path}", "weight_bytes") == expected
    assert ledger.at("layers.0.attn.q_proj", "params") == 1024 * 8192
