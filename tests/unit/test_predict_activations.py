"""Activations that are more than one kernel: the square of ReLU, and GPT-OSS's clamped SwiGLU (reference-experts.md, 2).

Shapes: B = 2, T = 3, so N = 6 tokens; D = 8, F = 6, bf16 (2 bytes). A row of a list is a kernel with what it reads and
writes.
"""

from __future__ import annotations

from dataclasses import replace

from llmprof.predict.api import Prediction, parameters
from llmprof.spec.arch import ArchSpec, Ffn, Glu, Gqa, Mlp, Moe
from tests.predict_samples import arch, layer, prefill, run, stack

FFN = "layers.0.ffn"
N, F = 6, 6

Launch = tuple[str, int, int]


def small(ffn: Ffn) -> ArchSpec:
    return arch(stack([layer(Gqa(n_heads=1, n_kv_heads=1, head_dim=8), ffn)]), d=8, v=10)


def launches(prediction: Prediction, path: str) -> list[Launch]:
    """Every launch, those of equal experts written out."""
    return [
        launch
        for op in prediction.ops
        if op.path == path
        for launch in [(op.kind, op.read_bytes, op.write_bytes)] * op.count
    ]


def test_squared_relu() -> None:
    prediction = run(small(Mlp(kind="relu2", d_ff=6)), prefill(3, batch=2))
    one = 2 * N * F
    assert launches(prediction, f"{FFN}.act") == [("relu", one, one), ("square", one, one)]
    assert sum(op.vector_flops for op in prediction.ops if op.path == f"{FFN}.act") == 2 * N * F


def test_clamped_swiglu() -> None:
    clamped = Glu(kind="swiglu-clamped", d_ff=6, limit=7.0, beta=1.702)
    prediction = run(small(clamped), prefill(3, batch=2))
    one = 2 * N * F
    act: list[Launch] = [
        ("clamp", one, one),
        ("clamp", one, one),
        ("mul", one, one),
        ("sigmoid", one, one),
        ("mul", 2 * one, one),
        ("add", one, one),
        ("mul", 2 * one, one),
    ]
    assert launches(prediction, f"{FFN}.act") == act
    assert (
        sum(op.vector_flops for op in prediction.ops if op.path == f"{FFN}.act") == (1 + 2 + 1 + 3 + 1 + 1 + 1) * N * F
    )
    # The same with beta 1, and inside experts.
    assert launches(run(small(replace(clamped, beta=1.0)), prefill(3, batch=2)), f"{FFN}.act") == act
    experts = Moe(n_experts=4, top_k=2, expert=clamped)
    inside = launches(run(small(experts), prefill(3, batch=2)), f"{FFN}.experts")
    n = 2 * 3 * F  # 12 rows on 4 experts
    assert inside.count(("clamp", n, n)) == 2 * 4


def test_xielu_has_two_numbers_of_its_own() -> None:
    prediction = run(small(Mlp(kind="xielu", d_ff=6)), prefill(3, batch=2))
    one, number = 2 * N * F, 2
    assert launches(prediction, f"{FFN}.act") == [
        ("softplus", number, number),
        ("softplus", number, number),
        ("add", number, number),
        ("mul", one, one),
        ("square", one, one),
        ("mul", one + number, one),
        ("clamp", one, one),
        ("expm1", one, one),
        ("sub", 2 * one, one),
        ("mul", one + number, one),
        ("gt", one, N * F),
        ("where", N * F + 2 * one, one),
        ("add", 2 * one, one),
    ]
    # mul, square, mul; clamp, expm1, sub, mul; gt, add: one each; and softplus, softplus, add of single numbers.
    flops = sum(op.vector_flops for op in prediction.ops if op.path == f"{FFN}.act")
    assert flops == 9 * N * F + 3 + 3 + 1
    assert parameters(prediction.arch).by_path[f"{FFN}.act"] == 2


def test_the_peak_of_the_clamped_form() -> None:
    """Width 1000: what `act` takes is there until it returns."""
    n, wide = 6, 2 * 6 * 1000
    prediction = run(small(Glu(kind="swiglu-clamped", d_ff=1000, limit=7.0)), prefill(3, batch=2))
    around = 8 * n + 3 * 8 * 2 + 3 * 2 * n * 8  # ids, the mask, and the layer's input, attention's output and its norm
    # gate, up; g, u; beta g and its sigmoid, of which the first dies: the sigmoid is written beside five others.
    assert prediction.peak_live_bytes == around + 6 * wide
