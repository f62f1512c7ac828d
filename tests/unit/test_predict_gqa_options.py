"""Options of `gqa` that change what is around its core: biases, norms over other widths, a gate on the output.

docs/reference-options.md, section 3. B = 2, T = 3, so N = 6 rows; d 8, H = 6, K = 2, h = 8: rows of 48 and 16 values.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from llmprof.predict.api import Prediction, parameters
from llmprof.spec.arch import Gqa, LayerNorm, Norm, RmsNorm, Rope
from llmprof.workload import Dtypes
from tests.predict_samples import FP32, arch, at, decode, kinds, layer, prefill, run, single, stack

HEADS = Gqa(n_heads=6, n_kv_heads=2, head_dim=8)
N, D, Q, KV, H, K, WIDTH = 6, 8, 48, 16, 6, 2, 8
ATTN = "layers.0.attn"
MIXED = Dtypes(weights="fp32", activations="bf16", kv_cache="bf16")


def made(spec: Gqa, dtypes: Dtypes | None = None) -> Prediction:
    return run(single(spec, d=D), prefill(3, batch=2, dtypes=dtypes))


def flops(prediction: Prediction, leaf: str) -> int:
    return sum(op.vector_flops for op in prediction.ops if op.path == f"{ATTN}.{leaf}")


def held(spec: Gqa) -> dict[str, int]:
    """The parameters of each leaf below `attn`."""
    paths = parameters(single(spec, d=D)).by_path
    return {path.removeprefix(f"{ATTN}."): count for path, count in paths.items() if path.startswith(f"{ATTN}.")}


@pytest.mark.parametrize(
    ("qkv_bias", "k_bias", "biases"),
    [
        (False, None, (0, 0, 0)),
        (True, None, (Q, KV, KV)),
        (True, False, (Q, 0, KV)),  # Whisper
        (False, True, (0, KV, 0)),
    ],
)
def test_the_keys_may_have_a_bias_of_their_own(
    qkv_bias: bool, k_bias: bool | None, biases: tuple[int, int, int]
) -> None:
    spec = replace(HEADS, qkv_bias=qkv_bias, k_bias=k_bias)
    counts = held(spec)
    assert (counts["q_proj"], counts["k_proj"], counts["v_proj"]) == (
        D * Q + biases[0], D * KV + biases[1], D * KV + biases[2],
    )  # fmt: skip
    kernels = [kinds(made(spec), f"{ATTN}.{name}_proj") for name in "qkv"]
    assert kernels == [["addmm" if bias else "mm"] for bias in biases]
    assert at(made(spec), f"{ATTN}.k_proj") == 2 * (N * D + D * KV + N * KV + biases[1])


def test_a_clip_is_a_kernel_on_each_projection() -> None:
    spec = replace(HEADS, qkv_clip=8.0)
    assert kinds(made(spec), f"{ATTN}.clip") == ["clamp_"] * 3
    assert at(made(spec), f"{ATTN}.clip") == 2 * 2 * N * (Q + 2 * KV)  # read and written, 2 bytes each
    assert flops(made(spec), "clip") == 2 * N * (Q + 2 * KV)  # both sides
    assert held(spec) == {**held(HEADS), "clip": 0}


LAYERNORM, RMSNORM, PLAIN = LayerNorm(), RmsNorm(), LayerNorm(bias=False)


@pytest.mark.parametrize(
    ("norm", "over", "q_weights", "k_weights"),
    [
        (RMSNORM, "head", 8, 8),
        (LAYERNORM, "head", 16, 16),
        (RMSNORM, "all-heads", Q, KV),
        (LAYERNORM, "all-heads", 2 * Q, 2 * KV),
        (RMSNORM, "each-head", H * 8, K * 8),
        (LAYERNORM, "each-head", 2 * H * 8, 2 * K * 8),
        (PLAIN, "each-head", H * 8, K * 8),
        (RmsNorm(weight=False), "each-head", 0, 0),
        (LayerNorm(weight=False, bias=False), "all-heads", 0, 0),
        (RmsNorm(unit_offset=True), "all-heads", Q, KV),
    ],
)
def test_how_many_weights_a_norm_of_queries_and_keys_has(norm: Norm, over: str, q_weights: int, k_weights: int) -> None:
    counts = held(replace(HEADS, qk_norm=norm, qk_norm_over=over))  # type: ignore[arg-type]
    assert (counts["q_norm"], counts["k_norm"]) == (q_weights, k_weights)


def test_a_norm_over_all_heads_has_one_row_per_token() -> None:
    spec = replace(HEADS, qk_norm=RMSNORM, qk_norm_over="all-heads")
    # 16-bit: cast, pow, mean, eps, rsqrt, mul, cast, mul by the weight, over 6 rows of 48.
    rows, values = N, N * Q
    by_hand = 6 * values + 8 * values + 4 * (values + rows) + 16 * rows + (8 * values + 4 * rows) + 6 * values
    assert at(made(spec), f"{ATTN}.q_norm") == by_hand + 4 * values + 2 * Q
    assert flops(made(spec), "q_norm") == 4 * N * Q
    of_layer = replace(HEADS, qk_norm=LAYERNORM, qk_norm_over="all-heads")
    assert kinds(made(of_layer), f"{ATTN}.k_norm") == ["layer_norm"]
    assert at(made(of_layer), f"{ATTN}.k_norm") == 2 * (2 * N * KV + 2 * KV) + 2 * N * 4


def test_an_rmsnorm_with_a_weight_per_head_ends_with_a_wider_weight() -> None:
    one, each = (replace(HEADS, qk_norm=RMSNORM, qk_norm_over=over) for over in ("head", "each-head"))
    assert kinds(made(one), f"{ATTN}.q_norm") == kinds(made(each), f"{ATTN}.q_norm")
    # The same rows of 8; the weight has 6 x 8 values in place of 8.
    assert at(made(each), f"{ATTN}.q_norm") - at(made(one), f"{ATTN}.q_norm") == 2 * (H * 8 - 8)
    assert at(made(each), f"{ATTN}.k_norm") - at(made(one), f"{ATTN}.k_norm") == 2 * (K * 8 - 8)
    assert flops(made(one), "q_norm") == flops(made(each), "q_norm") == 4 * N * Q


@pytest.mark.parametrize(
    ("norm", "launched"),
    [
        (LAYERNORM, ["layer_norm", "mul", "add"]),
        (PLAIN, ["layer_norm", "mul"]),
        (LayerNorm(weight=False, bias=False), ["layer_norm"]),
    ],
)
def test_a_layernorm_with_a_weight_per_head_multiplies_and_adds_apart(norm: LayerNorm, launched: list[str]) -> None:
    spec = replace(HEADS, qk_norm=norm, qk_norm_over="each-head")
    assert kinds(made(spec), f"{ATTN}.q_norm") == launched
    bare = 2 * 2 * N * Q + 2 * N * H * 4  # read and written, and two statistics of 36 rows
    assert at(made(spec), f"{ATTN}.q_norm") == bare + (len(launched) - 1) * 2 * (2 * N * Q + Q)
    # Weight and bias are part of the published 5 per element.
    assert flops(made(spec), "q_norm") == 5 * N * Q


def test_weights_of_norms_of_heads_are_cast_like_all_others() -> None:
    spec = replace(HEADS, qk_norm=LAYERNORM, qk_norm_over="each-head")
    assert kinds(made(spec, MIXED), f"{ATTN}.q_norm") == ["cast", "cast", "layer_norm", "mul", "add"]
    offset = replace(HEADS, qk_norm=RmsNorm(unit_offset=True), qk_norm_over="each-head")
    assert kinds(made(offset), f"{ATTN}.k_norm") == [
        "cast",
        "cast",
        "pow",
        "mean",
        "add",
        "rsqrt",
        "mul",
        "add",
        "mul",
        "cast",
    ]
    assert flops(made(offset), "k_norm") == 4 * N * KV + KV  # a 1 for each of 2 x 8 weights


def test_queries_and_keys_are_rotated_after_any_of_these_norms() -> None:
    for over in ("head", "each-head", "all-heads"):
        spec = replace(HEADS, qk_norm=RMSNORM, qk_norm_over=over)
        order = [op.path.rpartition(".")[2] for op in run(single(spec, position=Rope(theta=1e4)), prefill(3)).ops]
        assert order.index("v_proj") < order.index("q_norm") < order.index("k_norm") < order.index("rope")


# --- the gate ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("per", "width"), [("value", Q), ("head", H)])
def test_a_gate_has_a_projection_and_multiplies_the_output(per: str, width: int) -> None:
    spec = replace(HEADS, output_gate=per)  # type: ignore[arg-type]
    assert held(spec)["gate_proj"] == D * width
    assert held(spec)["gate"] == 0
    prediction = made(spec)
    assert kinds(prediction, f"{ATTN}.gate_proj") == ["mm"]
    assert at(prediction, f"{ATTN}.gate_proj") == 2 * (N * D + D * width + N * width)
    assert prediction.ledger.at(f"{ATTN}.gate_proj", "matmul_flops") == 2 * N * D * width
    assert kinds(prediction, f"{ATTN}.gate") == ["sigmoid", "mul"]
    assert at(prediction, f"{ATTN}.gate") == 2 * (2 * N * width) + 2 * (N * Q + N * width + N * Q)
    assert flops(prediction, "gate") == 3 * N * width + N * Q


def test_the_leaves_stand_where_they_are_called() -> None:
    spec = replace(HEADS, output_gate="value", qk_norm=RMSNORM)
    assert list(held(spec)) == [
        "q_proj", "k_proj", "v_proj", "gate_proj", "q_norm", "k_norm", "cache", "core", "gate", "o_proj",
    ]  # fmt: skip
    order = list(dict.fromkeys(op.path.rpartition(".")[2] for op in made(spec).ops if ".attn." in op.path))
    assert order == list(held(spec))


def test_the_gate_is_alive_from_its_projection_until_it_is_used() -> None:
    # In the core of a long prompt the peak is at the scores: gated, g is there too.
    spec = single(HEADS)
    plain, gated = run(spec, prefill(300)), run(single(replace(HEADS, output_gate="value")), prefill(300))
    assert gated.peak_live_bytes - plain.peak_live_bytes == 300 * Q * 2
    slim = run(single(replace(HEADS, output_gate="head")), prefill(300))
    assert slim.peak_live_bytes - plain.peak_live_bytes == 300 * H * 2


def test_the_gates_projection_is_packed_with_the_other_matrices() -> None:
    wide = Gqa(n_heads=2, n_kv_heads=1, head_dim=8, output_gate="value")
    packed = Dtypes(weights="int8", activations="bf16", kv_cache="bf16")
    prediction = run(single(wide, d=D), decode(4, dtypes=packed))
    assert prediction.ledger.at(f"{ATTN}.gate_proj", "weight_bytes") == 16 * (8 + 2)
    assert run(single(wide), decode(4, dtypes=FP32)).ledger.at(f"{ATTN}.gate_proj", "weight_bytes") == 4 * 8 * 16


def test_cross_attention_takes_the_norms_too() -> None:
    cross = replace(HEADS, qk_norm=RMSNORM, qk_norm_over="all-heads", qkv_bias=True, k_bias=False)
    spec = arch(
        stack([layer(HEADS)], prefix="encoder.", mask="bidirectional"),
        stack([layer(HEADS, cross=cross)], prefix="decoder."),
        d=D,
        v=10,
        structure="encoder-decoder",
    )
    counts = parameters(spec).by_path
    path = "decoder.layers.0.cross_attn"
    assert (counts[f"{path}.q_norm"], counts[f"{path}.k_norm"], counts[f"{path}.k_proj"]) == (Q, KV, D * KV)
    prefilled, decoded = run(spec, prefill(3, source=5)), run(spec, decode(3, source=5))
    assert kinds(prefilled, f"{path}.k_norm") == kinds(prefilled, f"{path}.q_norm")
    assert kinds(decoded, f"{path}.k_norm") == []
    assert kinds(decoded, f"{path}.q_norm") == kinds(prefilled, f"{path}.q_norm")
