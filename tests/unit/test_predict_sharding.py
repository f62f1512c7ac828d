"""What one rank of a sharded pass holds and sends, against arithmetic by hand from docs/reference-sharding.md."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import pytest

from llmprof.claims.papers.shapes import gpt
from llmprof.claims.specs import attention, changed, shipped
from llmprof.errors import InputError
from llmprof.ledger import Quantity
from llmprof.predict.sharding.api import ShardedPrediction, sharded
from llmprof.sharding import Collective
from llmprof.spec.arch import ArchSpec, LayerNorm, LmHead, NoAttention, NoFfn, NoHead, RmsNorm
from llmprof.workload import Dtypes, Workload
from tests.unit.divided import decode, prefill

SMALL = gpt("small", "megatron-recompute", layers=4, d_model=64, heads=8, vocab_size=1001, tokens=32)
"""Tied, learned positions, biases everywhere, LayerNorm before each block and at the end, d_ff 256."""

HELD: tuple[Quantity, ...] = ("params", "weight_bytes", "kv_cache_bytes")
B, T, D = 2, 12, 64
A = B * T * D * 2  # the hidden state in bf16


def with_attention(arch: ArchSpec, **changes: Any) -> ArchSpec:
    now = replace(attention(arch), **changes)
    return changed(arch, lambda layer: replace(layer, attention=now))


def calls(made: ShardedPrediction, stage: int = 0, *, layer: int | None = None) -> dict[tuple[str, str], Any]:
    """(path, kind) -> calls, bytes, wire bytes; of one layer alone, by the path below it, where one is named."""
    found: dict[tuple[str, str], Any] = {}
    for call in made.stages[stage].collectives:
        key = call.path
        if layer is not None:
            start = f"layers.{layer}."
            if not key.startswith(start):
                continue
            key = key.removeprefix(start)
        assert (key, call.kind) not in found, "one record per path and kind"
        found[key, call.kind] = (call.count, call.bytes, call.wire_bytes)
    return found


# --- parameters -------------------------------------------------------------------------------------


def test_the_parameters_of_a_rank_leaf_by_leaf() -> None:
    n = 4
    (account,) = sharded(SMALL, prefill(), tensor_parallel=n).stages
    made = {entry.path: entry.value for entry in account.ledger if entry.quantity == "params"}
    layer = {path.removeprefix("layers.3."): count for path, count in made.items() if path.startswith("layers.3.")}
    assert {path: count for path, count in layer.items() if count} == {
        "attn_norm": 2 * D,
        **dict.fromkeys(("attn.q_proj", "attn.k_proj", "attn.v_proj"), 16 * D + 16),  # two heads of 8, bias too
        "attn.o_proj": 16 * D + D,  # the bias whole
        "ffn_norm": 2 * D,
        "ffn.up": 64 * D + 64,
        "ffn.down": 64 * D + D,
    }
    assert made["embed"] == 251 * D  # ceil(1001 / 4)
    assert made["pos_embed"] == 32 * D
    assert made["final_norm"] == 2 * D
    assert made["lm_head"] == 0, "tied, and the table stands on the same rank"
    assert account.ledger.total("weight_bytes") == 2 * account.ledger.total("params")


def test_a_large_model_by_hand() -> None:
    # llama-2-70b on 8: one of 8 KV heads of 128, 8 of 64 query heads, 3,584 of 28,672, 4,000 of 32,000 rows twice.
    d = 8192
    layer = 2 * (1024 * d) + 2 * (128 * d) + 3 * (3584 * d) + 2 * d
    made = sharded(shipped("llama-2-70b"), prefill(4096, batch=4), tensor_parallel=8).fullest
    assert made.params == 80 * layer + 2 * 4000 * d + d == 8_623_235_072
    assert made.weight_bytes == 2 * made.params
    assert made.kv_cache_bytes == 80 * 2 * (4 * 4096 * 1 * 128) * 2
    hidden = 4 * 4096 * d * 2
    assert made.collective_calls == 1 + 2 * 80 + 1
    assert made.collective_bytes == 161 * hidden + 4 * 4096 * 32_000 * 2
    assert made.collective_wire_bytes == 161 * hidden * 14 // 8 + 4 * 4096 * 32_000 * 2 * 7 // 8


def test_key_value_heads_are_replicated_where_they_are_few() -> None:
    grouped = with_attention(SMALL, n_kv_heads=2)
    for n, heads in ((1, 2), (2, 1), (4, 1), (8, 1)):
        (account,) = sharded(grouped, prefill(), tensor_parallel=n).stages
        assert account.ledger.at("layers.0.attn.k_proj", "params") == heads * 8 * D + heads * 8
        assert account.ledger.at("layers.0.attn.cache.k", "kv_cache_bytes") == B * heads * T * 8 * 2


@pytest.mark.parametrize(
    ("over", "q_norm", "k_norm"),
    [("head", 8, 8), ("each-head", 2 * 8, 1 * 8)],  # 2 of 8 query heads on each of 4, 1 of 2 KV heads
)
def test_norms_of_queries_and_keys(over: str, q_norm: int, k_norm: int) -> None:
    arch = with_attention(SMALL, n_kv_heads=2, qk_norm=RmsNorm(), qk_norm_over=over)
    (account,) = sharded(arch, prefill(), tensor_parallel=4).stages
    assert account.ledger.at("layers.0.attn.q_norm", "params") == q_norm
    assert account.ledger.at("layers.0.attn.k_norm", "params") == k_norm


@pytest.mark.parametrize("tied", [True, False])
def test_stages_have_their_layers_and_the_ends_theirs(tied: bool) -> None:
    arch = replace(SMALL, tied_embeddings=tied)
    first, last = (
        account.ledger for account in sharded(arch, prefill(), tensor_parallel=2, pipeline_parallel=2).stages
    )
    assert {path.split(".")[1] for path in first.paths() if path.startswith("layers.")} == {"0", "1"}
    assert {path.split(".")[1] for path in last.paths() if path.startswith("layers.")} == {"2", "3"}
    assert (first.at("embed", "params"), last.at("embed", "params")) == (501 * D, None)
    assert (first.at("pos_embed", "params"), last.at("pos_embed", "params")) == (32 * D, None)
    assert (first.at("final_norm", "params"), last.at("final_norm", "params")) == (None, 2 * D)
    assert (first.at("lm_head", "params"), last.at("lm_head", "params")) == (None, 501 * D), "tied: a copy"


def test_a_head_has_its_part_of_the_bias() -> None:
    arch = replace(SMALL, head=LmHead(bias=True))
    (account,) = sharded(arch, prefill(), tensor_parallel=4).stages
    assert account.ledger.at("lm_head", "params") == 251


# --- cache ------------------------------------------------------------------------------------------


def test_replicas_share_the_sequences() -> None:
    made = sharded(SMALL, decode(20, batch=6, dtypes=Dtypes(kv_cache="fp8")), tensor_parallel=2, data_parallel=3)
    assert made.stages[0].ledger.at("layers.1.attn.cache.v", "kv_cache_bytes") == 2 * 4 * 20 * 8  # 2 sequences, 4 heads
    assert made.fullest.kv_cache_bytes == 4 * 2 * (2 * 4 * 20 * 8)
    assert calls(made)["embed", "all-reduce"] == (1, 2 * D * 2, 2 * D * 2)


def test_a_window_bounds_the_cache_of_a_rank() -> None:
    made = sharded(with_attention(SMALL, window=5), decode(20), tensor_parallel=8)
    assert made.fullest.kv_cache_bytes == 4 * 2 * (B * 1 * 5 * 8) * 2


# --- collectives ------------------------------------------------------------------------------------


def parallel(norms: Literal[1, 2]) -> ArchSpec:
    return changed(SMALL, lambda layer: replace(layer, block="parallel", parallel_norms=norms))


SUM = (1, A, 2 * 3 * (A // 4))  # all-reduce over 4: 2 (n - 1) parts
PART = (1, A, 3 * (A // 4))  # all-gather, reduce-scatter: n - 1 parts


@pytest.mark.parametrize(
    ("arch", "sequence", "expected"),
    [
        (SMALL, False, {("attn.o_proj", "all-reduce"): SUM, ("ffn.down", "all-reduce"): SUM}),
        (
            SMALL,
            True,
            {
                ("attn", "all-gather"): PART,
                ("attn.o_proj", "reduce-scatter"): PART,
                ("ffn", "all-gather"): PART,
                ("ffn.down", "reduce-scatter"): PART,
            },
        ),
        (parallel(1), False, {("residual", "all-reduce"): SUM}),
        (parallel(1), True, {("attn_norm", "all-gather"): PART, ("residual", "reduce-scatter"): PART}),
        (
            parallel(2),
            True,
            {("attn", "all-gather"): PART, ("ffn", "all-gather"): PART, ("residual", "reduce-scatter"): PART},
        ),
        (
            changed(SMALL, lambda layer: replace(layer, attention=NoAttention())),
            False,
            {("ffn.down", "all-reduce"): SUM},
        ),
        (
            changed(SMALL, lambda layer: replace(layer, ffn=NoFfn())),
            True,
            {("attn", "all-gather"): PART, ("attn.o_proj", "reduce-scatter"): PART},
        ),
    ],
)
def test_the_calls_of_a_layer(arch: ArchSpec, sequence: bool, expected: dict[tuple[str, str], Any]) -> None:
    made = sharded(arch, prefill(), tensor_parallel=4, sequence_parallel=sequence)
    for index in range(4):
        assert calls(made, layer=index) == expected
    assert calls(made)["embed", "reduce-scatter" if sequence else "all-reduce"] == (PART if sequence else SUM)


@pytest.mark.parametrize(("logits", "rows"), [("all", T), ("last", 1)])
def test_logits_are_gathered_with_their_padding(logits: Any, rows: int) -> None:
    columns = B * rows * 4 * 251 * 2  # 4 x 251 columns for 1,001
    made = sharded(SMALL, prefill(logits=logits), tensor_parallel=4)
    assert calls(made)["lm_head", "all-gather"] == (1, columns, columns * 3 // 4)
    made = sharded(SMALL, prefill(logits=logits), tensor_parallel=4, sequence_parallel=True)
    assert calls(made)["lm_head", "all-gather"] == (2, A + columns, (A + columns) * 3 // 4)


def test_no_logits_no_call() -> None:
    for arch, logits in ((SMALL, "none"), (replace(SMALL, head=NoHead(), tied_embeddings=False), "all")):
        for sequence in (False, True):
            made = sharded(arch, prefill(logits=logits), tensor_parallel=4, sequence_parallel=sequence)
            assert not [path for path, _ in calls(made) if path == "lm_head"]


def test_a_sum_that_does_not_divide_goes_in_parts_of_unequal_size() -> None:
    narrow = gpt("narrow", "megatron-recompute", layers=1, d_model=33, heads=3, vocab_size=30, tokens=8, d_ff=6)
    made = sharded(narrow, prefill(5, batch=1, dtypes=Dtypes(weights="fp32", activations="fp32")), tensor_parallel=3)
    assert calls(made)["embed", "all-reduce"] == (1, 165 * 4, 2 * 2 * 55 * 4)
    made = sharded(narrow, decode(5, batch=1), tensor_parallel=3)
    assert calls(made)["embed", "all-reduce"] == (1, 33 * 2, 2 * 2 * 11 * 2)
    wide = with_attention(replace(SMALL, d_model=65), head_dim=8)
    made = sharded(wide, decode(5, batch=1), tensor_parallel=8)
    assert calls(made)["embed", "all-reduce"] == (1, 65 * 2, 2 * 7 * 9 * 2)  # ceil(65 / 8) = 9


def test_stages_send_what_they_have() -> None:
    made = sharded(SMALL, prefill(), pipeline_parallel=4)
    sent = [account.collectives for account in made.stages]
    assert sent[3] == ()
    for stage in range(3):
        assert sent[stage] == (Collective(path=f"layers.{stage}", kind="send", count=1, bytes=A, wire_bytes=A),)
    made = sharded(SMALL, prefill(), tensor_parallel=4, pipeline_parallel=2)
    assert calls(made)["layers.1", "send"] == (1, A, A)
    made = sharded(SMALL, prefill(), tensor_parallel=4, sequence_parallel=True, pipeline_parallel=2)
    assert calls(made)["layers.1", "send"] == (1, A // 4, A // 4)
    assert [rank.collective_calls for rank in made.ranks] == [1 + 2 * 4 + 1, 2 * 4 + 2]


def test_replicas_and_one_rank_say_nothing() -> None:
    for sequence in (False, True):
        assert sharded(SMALL, prefill(), data_parallel=2, sequence_parallel=sequence).stages[0].collectives == ()


# --- what is refused --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arch", "workload", "degrees", "said"),
    [
        (SMALL, prefill(), {"tensor_parallel": 3}, r"n_heads \(8\) of small; use one of: 1, 2, 4, 8$"),
        (SMALL, prefill(), {"pipeline_parallel": 5}, r"more stages than the 4 layers of \S+; use at most 4$"),
        (SMALL, prefill(), {"data_parallel": 3}, r"the batch of 2; use one of: 1, 2$"),
        (
            SMALL,
            prefill(batch=3 * 2**40),
            {"data_parallel": 5},
            r"use one of: 1, 2, 3, 4, 6, .*, 768, 1024, or a larger divisor$",
        ),
        (SMALL, prefill(), {"data_parallel": 0}, r"data_parallel is 0; it must be at least 1"),
        (SMALL, prefill(), {"tensor_parallel": 8, "sequence_parallel": True}, "needs a multiple of 8 new tokens"),
        (SMALL, decode(9), {"tensor_parallel": 2, "sequence_parallel": True}, "but there are 1"),
        (with_attention(SMALL, n_heads=12, n_kv_heads=3), prefill(), {"tensor_parallel": 4}, "nor is a multiple"),
        (
            with_attention(SMALL, qk_norm=LayerNorm(), qk_norm_over="all-heads"),
            prefill(),
            {"tensor_parallel": 2},
            r"over \(all-heads\)",
        ),
        (shipped("jamba-1.5-mini"), prefill(), {"tensor_parallel": 2}, "attention of kind mamba"),
        (shipped("bert-base"), prefill(), {}, "its structure is encoder"),
    ],
)
def test_what_has_no_rule_is_named(arch: ArchSpec, workload: Workload, degrees: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        sharded(arch, workload, **degrees)
