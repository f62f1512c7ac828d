"""What a one-character change could alter without any other test seeing it.

Everything here stands outside what a confirmation compares: vector FLOPs, which nothing independent counts, the
tables of the SRAM figures, keys of the record, and shapes so small that two rules look alike.
Each expected value is worked out from docs/reference-execution.md beside the assertion.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from llmprof.predict.record import count_record
from llmprof.predict.sram import Core, shared_memory
from llmprof.predict.tiles import Shape
from llmprof.spec.arch import (
    Alibi,
    Ffn,
    Glu,
    Gqa,
    LayerNorm,
    Learned,
    LmHead,
    MlmHead,
    Mlp,
    NoHead,
    Norm,
    Residual,
    RmsNorm,
    Rope,
    Sinusoidal,
    T5Bias,
)
from llmprof.workload import Dtypes, Execution, Workload
from tests.predict_samples import FUSED, arch, decode, gpt2, layer, prefill, run, single, stack, t5_small

# --- vector FLOPs (section 10): what one element costs, by leaf -------------------------------------
# Two sequences of three tokens, d = 8, f = 6, v = 10; 6 query heads on 2 key/value heads of 4.

N, D, F, V = 2 * 3, 8, 6, 10
ATTENTION = Gqa(n_heads=6, n_kv_heads=2, head_dim=4)
Q, KV = 6 * 4, 2 * 4
ROPE = Rope(theta=10000.0)


def vector(path: str, *, around: dict[str, Any] | None = None, work: Workload | None = None, **inside: Any) -> int:
    """Vector FLOPs of one leaf. `inside` goes to the layer, `around` to the stack and the architecture."""
    options = around or {}
    residual = inside.pop("residual", None)
    made = layer(inside.pop("attention", ATTENTION), **inside)
    if residual is not None:
        made = replace(made, residual=residual)
    outer = ("head", "pooler", "embedding_scale", "types", "structure")
    frame = stack([made], **{key: value for key, value in options.items() if key not in outer})
    spec = arch(frame, d=D, v=V, **{key: value for key, value in options.items() if key in outer})
    prediction = run(spec, work or prefill(3, batch=2))
    assert path in prediction.ledger.paths()
    return sum(op.vector_flops for op in prediction.ops if op.path == path)


@pytest.mark.parametrize(
    ("rotary_dim", "expected"),
    [
        # by cos, half negated, by sin, added: 3.5 per rotated value of queries and keys
        (None, (4 + 2 + 4 + 4) * N * (6 + 2)),
        # the two values that are not rotated are only moved
        (2, (2 + 1 + 2 + 2) * N * (6 + 2)),
    ],
)
def test_a_rotation(rotary_dim: int | None, expected: int) -> None:
    assert vector("layers.0.attn.rope", position=replace(ROPE, rotary_dim=rotary_dim)) == expected


@pytest.mark.parametrize(
    ("ffn", "per_value"),
    [
        (Mlp(kind="relu", d_ff=F), 1),
        (Mlp(kind="gelu", d_ff=F), 5),
        (Mlp(kind="gelu-tanh", d_ff=F), 8),
        (Mlp(kind="swish", d_ff=F), 4),
        (Mlp(kind="swish", d_ff=F, beta=1.5), 1 + 3 + 1),
        (Glu(kind="glu", d_ff=F), 3 + 1),
        (Glu(kind="reglu", d_ff=F), 1 + 1),
        (Glu(kind="geglu", d_ff=F), 5 + 1),
        (Glu(kind="geglu-tanh", d_ff=F), 8 + 1),
        (Glu(kind="swiglu", d_ff=F), 4 + 1),
        (Glu(kind="swiglu", d_ff=F, beta=1.5), 1 + 3 + 1 + 1),
    ],
)
def test_an_activation(ffn: Ffn, per_value: int) -> None:
    assert vector("layers.0.ffn.act", ffn=ffn) == per_value * N * F


@pytest.mark.parametrize(
    ("options", "path", "per_value"),
    [
        ({}, "layers.0.attn_residual", 1),
        ({"placement": "post", "residual": Residual(alpha=2.0)}, "layers.0.attn_residual", 2),
        ({"block": "parallel"}, "layers.0.residual", 1 + 1),
        ({"norm": LayerNorm()}, "layers.0.ffn_norm", 5),
        ({"norm": RmsNorm()}, "layers.0.ffn_norm", 4),
        ({"norm": RmsNorm(), "placement": "sandwich"}, "layers.0.ffn_post_norm", 4),
    ],
)
def test_residuals_and_norms(options: dict[str, Any], path: str, per_value: int) -> None:
    assert vector(path, **options) == per_value * N * D


@pytest.mark.parametrize(("norm", "per_value"), [(LayerNorm(), 5), (RmsNorm(), 4)])
def test_head_norms(norm: Norm, per_value: int) -> None:
    attention = replace(ATTENTION, qk_norm=norm)
    assert vector("layers.0.attn.q_norm", attention=attention) == per_value * N * Q
    assert vector("layers.0.attn.k_norm", attention=attention) == per_value * N * KV


def test_biases() -> None:
    biased = replace(ATTENTION, qkv_bias=True, out_bias=True)
    assert vector("layers.0.attn.q_proj", attention=biased) == N * Q
    assert vector("layers.0.attn.v_proj", attention=biased) == N * KV
    assert vector("layers.0.attn.o_proj", attention=biased) == N * D
    assert vector("layers.0.ffn.down", ffn=Mlp(kind="relu", d_ff=F, bias=True)) == N * D
    assert vector("layers.0.ffn.up", ffn=Mlp(kind="relu", d_ff=F, bias=True)) == N * F
    assert vector("layers.0.attn.q_proj") == 0


@pytest.mark.parametrize(
    ("options", "path", "expected"),
    [
        ({}, "embed", 0),
        ({"embedding_scale": 3.0}, "embed_scale", N * D),
        ({"embedded_position": Learned(rows=9)}, "pos_embed", N * D),
        ({"embedded_position": Sinusoidal()}, "pos_embed", N * D),
        ({"embedding_norm": LayerNorm()}, "embed_norm", 5 * N * D),
        ({"final_norm": RmsNorm()}, "final_norm", 4 * N * D),
        ({"head": LmHead(bias=True)}, "lm_head", N * V),
        ({"head": LmHead(input_scale=0.5)}, "lm_head", N * D),
        ({"head": LmHead(softcap=15.0)}, "lm_head", 3 * N * V),
        ({"head": MlmHead(), "mask": "bidirectional", "structure": "encoder"}, "head.dense", N * D),
        ({"head": MlmHead(), "mask": "bidirectional", "structure": "encoder"}, "head.act", 5 * N * D),
        ({"head": MlmHead(), "mask": "bidirectional", "structure": "encoder"}, "head.norm", 5 * N * D),
        ({"types": 2, "mask": "bidirectional", "structure": "encoder"}, "type_embed", N * D),
        # The bias and tanh of one token per sequence.
        ({"pooler": True, "mask": "bidirectional", "structure": "encoder", "head": NoHead()}, "pooler", 2 * 2 * D),
    ],
)
def test_around_the_layers(options: dict[str, Any], path: str, expected: int) -> None:
    work = prefill(3, batch=2, logits="none") if isinstance(options.get("head"), NoHead) else None
    assert vector(path, around=options, work=work) == expected


W = 2 * 6 * 3 * 3
"""Scores: two sequences, six heads, three queries and three keys."""


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, (1 + 1 + 5) * W),  # `baddbmm`: mask and scale; softmax
        ({"attention": replace(ATTENTION, scale=1.0)}, (1 + 1 + 5) * W),  # "1 each per score", whatever the scale
        (
            {"attention": replace(ATTENTION, softcap=9.0)},
            2 * 3 * 6 * 4 + (3 + 1 + 5) * W,
        ),  # q scaled, cap, mask, softmax
        ({"position": Alibi()}, 2 * 3 * 6 * 4 + (1 + 5) * W),  # q scaled, bias, softmax
        ({"attention": replace(ATTENTION, scale=1.0), "position": Alibi()}, (1 + 5) * W),
    ],
)
def test_the_core(options: dict[str, Any], expected: int) -> None:
    assert vector("layers.0.attn.core", **options) == expected


def test_the_mask_is_added_to_a_t5_bias_once() -> None:
    bias = T5Bias(n_buckets=8, max_distance=16)
    assert vector("rel_bias", position=bias) == 6 * 3 * 3
    around = {"mask": "bidirectional", "structure": "encoder"}
    assert vector("rel_bias", position=bias, around=around) == 0  # nothing to mask


# --- SRAM: every row of both tables ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("head_dim", "forward", "split"),
    [
        # (compiled head_dim, Br, Bc, warps): FlashAttention-2's own tables
        (8, (32, 128, 128, 4), (32, 64, 256, 4)),
        (32, (32, 128, 128, 4), (32, 64, 256, 4)),
        (40, (64, 128, 128, 4), (64, 64, 256, 4)),
        (72, (96, 128, 64, 4), (96, 64, 128, 4)),
        (96, (96, 128, 64, 4), (96, 64, 128, 4)),
        (104, (128, 128, 64, 4), (128, 64, 128, 4)),
        (160, (192, 128, 64, 8), (192, 64, 64, 4)),
        (256, (256, 64, 64, 4), (256, 64, 64, 4)),
    ],
)
def test_the_tile_of_a_head(head_dim: int, forward: tuple[int, ...], split: tuple[int, ...]) -> None:
    for queries, expected in ((2, forward), (1, split)):
        shape = Shape(batch=1, queries=queries, keys=9, heads=1, kv_heads=1, head_dim=head_dim, value_dim=head_dim)
        tile = Core(shape, packs=True).tile
        assert tile is not None
        assert (tile.head_dim, tile.rows, tile.keys, tile.readers) == expected


def test_a_small_head_moves_whole_tiles_of_its_kernel() -> None:
    # One query tile of 128 rows and three of 128 keys, each 32 wide for a head of 8; 4 warps; bf16.
    sram = shared_memory(
        run(single(Gqa(n_heads=1, n_kv_heads=1, head_dim=8), mask="bidirectional"), prefill(257)).program
    )
    assert sram is not None
    row_tiles, tiles, keys, rows = 3, 3 * 3, 128 * 32 * 2, 128 * 32 * 2
    assert sram.nbytes == 3 * row_tiles * rows + tiles * 2 * keys + tiles * (4 * 2 * keys + rows)


def test_the_names_of_the_factors_are_those_of_the_sizes() -> None:
    sram = shared_memory(run(gpt2(), prefill(100, batch=3), FUSED).program)
    assert sram is not None
    assert "3 x layers x b x k x row tiles x Br x hp x bytes(16 bit)" in sram.formula.symbols
    assert "3 x 12 x 3 x 12 x 1 x 128 x 64 x 2" in sram.formula.numbers


# --- the record -------------------------------------------------------------------------------------


def test_a_record_says_what_was_asked() -> None:
    record = count_record(gpt2(), prefill(3, context=8, batch=2, logits="last"))
    asked = ("phase", "batch", "new_tokens", "context", "source_tokens", "prefix_tokens", "logits")
    assert [record[key] for key in asked] == ["prefill", 2, 3, 8, 0, 0, "last"]
    mixed = Dtypes(weights="int8", activations="fp16", kv_cache="fp8")
    record = count_record(t5_small(), decode(8, source=5, dtypes=mixed))
    assert [record[key] for key in asked] == ["decode", 1, 1, 8, 5, 0, "all"]
    assert [record[key] for key in ("weight_dtype", "activation_dtype", "kv_dtype")] == ["int8", "fp16", "fp8"]


# --- shapes so small that two rules look alike ---------------------------------------------------------


@pytest.mark.parametrize(
    ("tokens", "heads", "clones"),
    [(3, 2, True), (1, 2, False), (3, 1, False)],
)
@pytest.mark.parametrize("head_dim", [1, 8])
def test_heads_are_joined_by_a_clone_whatever_their_width(tokens: int, heads: int, clones: bool, head_dim: int) -> None:
    attention = Gqa(n_heads=heads, n_kv_heads=heads, head_dim=head_dim)
    prediction = run(single(attention, mask="bidirectional"), prefill(tokens), Execution(attention="unfused"))
    last = [op.kind for op in prediction.ops if op.path == "layers.0.attn.core"][-1]
    assert (last == "clone") is clones
