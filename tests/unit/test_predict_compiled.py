"""The grouping `compiled` by hand: what each leaf of a group is charged, and which layers are no longer equal.

d = 24, batch 2, 3 tokens, bf16: a row of all tokens is N·D·e = 2·3·24·2 bytes. 4 query heads on 2, head_dim 8.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from llmprof.errors import InputError
from llmprof.predict.api import Prediction, predict
from llmprof.predict.explain import explain
from llmprof.predict.record import count_record
from llmprof.spec.arch import ArchSpec, Gqa, LayerNorm, LayerSpec, MlmHead, Mlp, RmsNorm, Rope
from llmprof.workload import Dtypes, Execution
from tests.predict_samples import arch, decode, layer, llama_3_8b, prefill, single, stack

GQA = Gqa(n_heads=4, n_kv_heads=2, head_dim=8)
ROPE = Rope(theta=1e4)
ROW, WEIGHT = 2 * 3 * 24 * 2, 24 * 2
QUERIES, KEYS, TABLES = 2 * 3 * 4 * 8 * 2, 2 * 3 * 2 * 8 * 2, 2 * 3 * 8 * 2
COMPILED = Execution(attention="unfused", grouping="compiled")


def run(spec: ArchSpec, **options: object) -> Prediction:
    return predict(spec, prefill(3, batch=2, **options), COMPILED)  # type: ignore[arg-type]


def charged(found: Prediction, path: str) -> tuple[int, int]:
    """Bytes that a leaf reads and writes."""
    for group in found.program.groups:
        for index in group.indices:
            ops = [op for op in group.ops if f"{group.prefix}layers.{index}.{op.path}" == path]
            if ops:
                return sum(op.read_bytes for op in ops), sum(op.write_bytes for op in ops)
    ops = [op for op in found.program.ops if op.path == path]
    assert ops, path
    return sum(op.read_bytes for op in ops), sum(op.write_bytes for op in ops)


def model(*layers: LayerSpec) -> ArchSpec:
    return arch(stack(layers, final_norm=RmsNorm()), d=24, v=37)


def test_norms_and_residuals_of_pre_norm_layers() -> None:
    found = run(model(*[layer(GQA, position=ROPE)] * 3))
    assert charged(found, "layers.0.attn_norm") == (ROW + WEIGHT, ROW)
    for index in (1, 2):  # its input was made by the kernel that it is in
        assert charged(found, f"layers.{index}.attn_norm") == (WEIGHT, ROW)
    for index in (0, 1, 2):
        assert charged(found, f"layers.{index}.attn_residual") == (2 * ROW, ROW)
        assert charged(found, f"layers.{index}.ffn_norm") == (WEIGHT, ROW)
    assert charged(found, "layers.0.ffn_residual") == charged(found, "layers.1.ffn_residual") == (2 * ROW, ROW)
    assert charged(found, "layers.2.ffn_residual") == (2 * ROW, 0)  # the final norm alone takes it
    assert charged(found, "final_norm") == (WEIGHT, ROW)
    assert [list(group.indices) for group in found.program.groups] == [[0], [1], [2]]
    assert charged(found, "layers.1.ffn.act") == (2 * 2 * 3 * 6 * 2, 2 * 3 * 6 * 2)


def test_equal_layers_stay_one_group() -> None:
    found = predict(llama_3_8b(), decode(100), COMPILED)
    assert [group.folded_path for group in found.program.groups] == ["layers.0", "layers.{1-30}", "layers.31"]


def test_post_norm_writes_no_sum() -> None:
    block = layer(GQA, Mlp(kind="gelu", d_ff=10), placement="post", norm=LayerNorm())
    found = run(model(block, block))
    assert charged(found, "layers.0.attn_residual") == (2 * ROW, 0)
    assert charged(found, "layers.0.attn_norm") == (2 * WEIGHT, ROW)  # weight and bias; no statistics
    assert charged(found, "layers.1.ffn_norm") == (2 * WEIGHT, 0)  # the final norm follows at once
    assert charged(found, "final_norm") == (WEIGHT, ROW)


def test_sandwiched_and_parallel_layers() -> None:
    found = run(model(layer(GQA, placement="sandwich")))
    assert charged(found, "layers.0.attn_post_norm") == (ROW + WEIGHT, 0)
    assert charged(found, "layers.0.attn_residual") == (ROW, ROW)
    assert charged(found, "layers.0.ffn_norm") == (WEIGHT, ROW)
    beside = run(model(*[layer(GQA, block="parallel")] * 2))
    assert charged(beside, "layers.0.residual") == (3 * ROW, ROW)
    assert charged(beside, "layers.1.attn_norm") == (WEIGHT, ROW)
    two = run(model(*[layer(GQA, block="parallel", parallel_norms=2)] * 2))
    assert charged(two, "layers.1.ffn_norm") == (ROW + WEIGHT, ROW)


def test_heads_are_normalised_where_they_are_turned() -> None:
    normed = replace(GQA, qk_norm=RmsNorm())
    found = run(model(layer(normed, position=ROPE)))
    assert charged(found, "layers.0.attn.q_norm") == (QUERIES + 8 * 2, 0)
    assert charged(found, "layers.0.attn.k_norm") == (KEYS + 8 * 2, 0)
    assert charged(found, "layers.0.attn.rope") == (2 * TABLES, QUERIES + KEYS)
    plain = run(model(layer(GQA, position=ROPE)))
    assert charged(plain, "layers.0.attn.rope") == (QUERIES + KEYS + 2 * TABLES, QUERIES + KEYS)
    # A part of each head is turned alone: halves as wide, and norms that write.
    part = run(model(layer(normed, position=Rope(theta=1e4, rotary_dim=4))))
    assert charged(part, "layers.0.attn.q_norm") == (QUERIES + 8 * 2, QUERIES)
    assert charged(part, "layers.0.attn.rope") == (QUERIES + KEYS + TABLES, QUERIES + KEYS)


def test_as_many_keys_as_queries_are_turned_in_one_kernel() -> None:
    """h = 8: 2·3 tokens of 4 heads of 8 are 384 bytes of queries, and as many of keys; each table is 3·8·2 bytes."""
    mha = Gqa(n_heads=4, n_kv_heads=4, head_dim=8)
    plain = run(model(layer(mha, position=ROPE)))
    assert charged(plain, "layers.0.attn.rope") == (384 + 384 + 2 * 48, 384 + 384)  # the tables once, not twice
    normed = run(model(layer(replace(mha, qk_norm=RmsNorm()), position=ROPE)))
    for name in ("q_norm", "k_norm"):  # 8 weights of 2 bytes; what they make stays on chip
        assert charged(normed, f"layers.0.attn.{name}") == (384 + 16, 0)
    assert charged(normed, "layers.0.attn.rope") == (2 * 48, 384 + 384)
    # r = 4: tables half as wide, in the one kernel of rope alone; the norms write.
    part = run(model(layer(replace(mha, qk_norm=RmsNorm()), position=Rope(theta=1e4, rotary_dim=4))))
    assert charged(part, "layers.0.attn.k_norm") == (384 + 16, 384)
    assert charged(part, "layers.0.attn.rope") == (384 + 384 + 2 * 24, 384 + 384)


def test_norms_of_heads_with_a_bias_are_alone() -> None:
    """8 weights and 8 biases of 2 bytes; 4 heads of queries, 2 of keys: rope is two kernels, with both tables each."""
    found = run(model(layer(replace(GQA, qk_norm=LayerNorm()), position=ROPE)))
    assert charged(found, "layers.0.attn.q_norm") == (384 + 32, 384)
    assert charged(found, "layers.0.attn.k_norm") == (192 + 32, 192)
    assert charged(found, "layers.0.attn.rope") == (384 + 192 + 2 * 2 * 48, 384 + 192)
    without = run(model(layer(replace(GQA, qk_norm=LayerNorm(bias=False)), position=ROPE)))
    assert charged(without, "layers.0.attn.q_norm") == (384 + 16, 0)


def test_norms_around_the_layers() -> None:
    masked = arch(
        stack([layer(GQA)], mask="bidirectional", embedding_norm=RmsNorm()),
        d=24,
        v=37,
        structure="encoder",
        head=MlmHead(),
    )
    found = run(masked)
    assert charged(found, "embed_norm") == (ROW + WEIGHT, ROW)  # the residual takes it too
    assert charged(found, "layers.0.attn_norm") == (WEIGHT, ROW)
    assert charged(found, "head.act") == (ROW, 0)
    assert charged(found, "head.norm") == (2 * WEIGHT, ROW)


def test_a_parameter_is_read_as_it_is_stored() -> None:
    found = run(model(layer(GQA)), dtypes=Dtypes(weights="fp32", activations="bf16", kv_cache="bf16"))
    assert charged(found, "layers.0.attn_norm") == (ROW + 24 * 4, ROW)


def test_flops_and_everything_else_stay() -> None:
    spec = model(*[layer(replace(GQA, qk_norm=RmsNorm()), position=ROPE)] * 2)
    eager = predict(spec, prefill(3, batch=2), Execution(attention="unfused"))
    found = run(spec)
    for quantity in ("params", "weight_bytes", "matmul_flops", "matmul_flops_causal", "kv_cache_bytes"):
        assert found.ledger.total(quantity) == eager.ledger.total(quantity)
    assert found.cost.vector_flops == eager.cost.vector_flops
    for path in ("layers.1.attn.core", "layers.0.attn.q_proj", "layers.1.attn.cache", "embed", "lm_head"):
        assert charged(found, path) == charged(eager, path)
    assert found.cost.hbm_bytes < eager.cost.hbm_bytes


def test_the_record_has_no_peak_and_says_what_confirms_it() -> None:
    record = count_record(llama_3_8b(), prefill(64), COMPILED)
    assert record["grouping"] == "compiled"
    for key in ("activation_peak_bytes_fused", "activation_peak_bytes_unfused", "total_bytes_fused"):
        assert record[key] is None
        assert key not in record["unconfirmed"]
    assert "inductor" in record["unconfirmed"]["hbm_bytes_fused"]
    assert count_record(llama_3_8b(), prefill(64))["hbm_bytes_fused"] > record["hbm_bytes_fused"]
    explained = {figure.name: figure for figure in explain(llama_3_8b(), prefill(64), COMPILED)}
    assert explained["hbm_bytes_fused"].value == record["hbm_bytes_fused"]
    assert "total_bytes_fused" not in explained


def test_where_it_is_not_defined() -> None:
    with pytest.raises(InputError, match="of CUDA kernels; found those of cpu"):
        predict(single(GQA), prefill(3), replace(COMPILED, kernels="cpu"))
