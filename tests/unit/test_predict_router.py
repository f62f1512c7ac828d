"""The router of a mixture of experts: every option of it, kernel by kernel, against reference-experts.md, section 2.

Shapes unless said otherwise: B = 2, T = 3, so N = 6 tokens; D = 8, E = 4 experts of which k = 2, bf16 (2 bytes). A row
of a list is a kernel with what it reads and writes. Logits are S = N E = 24 values, chosen weights P = N k = 12.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from llmprof.predict.api import Prediction
from llmprof.spec.arch import ArchSpec, Glu, Gqa, Moe, RmsNorm
from llmprof.workload import Dtypes, Workload
from tests.predict_samples import FP32, arch, decode, layer, prefill, run, stack

ROUTER = "layers.0.ffn.router"
MOE = Moe(n_experts=4, top_k=2, expert=Glu(kind="swiglu", d_ff=6))
N, D, E, K = 6, 8, 4, 2
S, P = N * E, N * K

Launch = tuple[str, int, int]

LOGITS: list[Launch] = [("mm", 2 * (N * D + E * D), 2 * S), ("cast", 2 * S, 4 * S)]
SOFTMAX: list[Launch] = [("softmax", 4 * S, 4 * S)]
CHOICE: list[Launch] = [("topk", 4 * S, (4 + 8) * P)]
CHOSEN: list[Launch] = [("gather", (8 + 4) * P, 4 * P)]
OUT: list[Launch] = [("cast", 4 * P, 2 * P), ("index_select", (8 + 2) * P, 2 * P)]


def model(moe: Moe, layers: int = 1) -> ArchSpec:
    block = layer(Gqa(n_heads=1, n_kv_heads=1, head_dim=8), moe, norm=RmsNorm())
    return arch(stack([block] * layers), d=D, v=10)


def launches(prediction: Prediction, path: str = ROUTER) -> list[Launch]:
    return [(op.kind, op.read_bytes, op.write_bytes) for op in prediction.ops if op.path == path]


def routed(moe: Moe, workload: Workload | None = None) -> list[Launch]:
    return launches(run(model(moe), workload or prefill(3, batch=2)))


def test_softmax_over_all_experts() -> None:
    assert routed(MOE) == LOGITS + SOFTMAX + CHOICE + CHOSEN + OUT


def test_sigmoid() -> None:
    sigmoid: list[Launch] = [("sigmoid", 4 * S, 4 * S)]
    assert routed(replace(MOE, scores="sigmoid")) == LOGITS + sigmoid + CHOICE + CHOSEN + OUT


def test_softmax_over_the_chosen_alone() -> None:
    softmax: list[Launch] = [("softmax", 4 * P, 4 * P)]
    assert routed(replace(MOE, scores="softmax-chosen")) == LOGITS + CHOICE + CHOSEN + softmax + OUT


def test_one_after_another() -> None:
    one: list[Launch] = [
        ("max", 4 * S, (4 + 8) * N),
        ("abs", 4 * S, 4 * S),
        ("maximum", 4 * S + 4 * N, 4 * S),
        ("sub", 4 * S + 4 * N, 4 * S),
        ("div", 8 * S, 4 * S),
        ("gt", 4 * S, S),
        ("masked_fill", 4 * S + S, 4 * S),
        ("softmax", 4 * S, 4 * S),
        ("gather", (8 + 4) * N, 4 * N),
    ]
    between: list[Launch] = [("clone", 4 * S, 4 * S), ("scatter_", 8 * N, 4 * N)]
    both: list[Launch] = [("cat", 4 * P, 4 * P)]
    assert routed(replace(MOE, scores="sparsemixer", margin=0.01)) == LOGITS + one + between + one + both + OUT


def test_normalised_and_scaled() -> None:
    normalised: list[Launch] = [("sum", 4 * P, 4 * N), ("div", 4 * P + 4 * N, 4 * P)]
    assert routed(replace(MOE, normalise=True)) == LOGITS + SOFTMAX + CHOICE + CHOSEN + normalised + OUT
    scaled: list[Launch] = [("mul_", 4 * P, 4 * P)]
    expected = LOGITS + SOFTMAX + CHOICE + CHOSEN + normalised + scaled + OUT
    assert routed(replace(MOE, normalise=True, scale=2.5)) == expected


def test_a_bias_of_the_matrix() -> None:
    biased: list[Launch] = [("addmm", 2 * (N * D + E * D + E), 2 * S)]
    assert routed(replace(MOE, router_bias=True)) == biased + LOGITS[1:] + SOFTMAX + CHOICE + CHOSEN + OUT


def test_a_bias_of_the_choice_is_a_buffer() -> None:
    corrected: list[Launch] = [("add", 4 * S + 4 * E, 4 * S)]
    moe = replace(MOE, correction_bias=True)
    assert routed(moe) == LOGITS + SOFTMAX + corrected + CHOICE + CHOSEN + OUT
    # No parameter, and stored like one: neither weight bytes nor the peak have it.
    with_bias, without = run(model(moe, layers=3), decode(5)), run(model(MOE, layers=3), decode(5))
    assert with_bias.weight_bytes == without.weight_bytes
    assert with_bias.peak_live_bytes == without.peak_live_bytes


@pytest.mark.parametrize(("groups", "best"), [(2, 2), (4, 1)])
def test_groups(groups: int, best: int) -> None:
    """`groups` of E experts, of which a token chooses from one or two."""
    taken = 4 // groups if groups == 2 else 2
    G = N * groups
    expected: list[Launch] = [
        ("topk", 4 * S, (4 + 8) * G * best),
        ("sum", 4 * G * best, 4 * G),
        ("topk", 4 * G, (4 + 8) * N * taken),
        ("zeros", 0, 4 * G),
        ("scatter_", 8 * N * taken, 4 * N * taken),
        ("mul", 4 * S + 4 * G, 4 * S),
    ]
    moe = replace(MOE, n_groups=groups, groups_per_token=taken)
    assert routed(moe) == LOGITS + SOFTMAX + expected + CHOICE + CHOSEN + OUT


def test_fp32_casts_nothing() -> None:
    expected: list[Launch] = [
        ("mm", 4 * (N * D + E * D), 4 * S),
        ("softmax", 4 * S, 4 * S),
        *CHOICE,
        *CHOSEN,
        ("index_select", (8 + 4) * P, 4 * P),
    ]
    assert routed(MOE, prefill(3, batch=2, dtypes=FP32)) == expected
    chosen = replace(MOE, scores="softmax-chosen")
    assert [kind for kind, _, _ in routed(chosen, prefill(3, batch=2, dtypes=FP32))] == (
        ["mm", "topk", "gather", "softmax", "index_select"]
    )


def test_parameters_in_another_dtype_are_cast_and_never_packed() -> None:
    moe = replace(MOE, router_bias=True)
    casts: list[Launch] = [("cast", 4 * E * D, 2 * E * D), ("cast", 4 * E, 2 * E)]
    assert routed(moe, prefill(3, batch=2, dtypes=Dtypes(weights="fp32")))[:2] == casts
    packed = run(model(moe), prefill(3, batch=2, dtypes=Dtypes(weights="int4")))
    assert packed.ledger.at(ROUTER, "weight_bytes") == 2 * (E * D + E)


def test_one_token() -> None:
    assert routed(MOE, decode(9)) == [
        ("mm", 2 * (D + E * D), 2 * E),
        ("cast", 2 * E, 4 * E),
        ("softmax", 4 * E, 4 * E),
        ("topk", 4 * E, 12 * K),
        ("gather", 12 * K, 4 * K),
        ("cast", 4 * K, 2 * K),
        ("index_select", 10 * K, 2 * K),
    ]


def test_flops() -> None:
    prediction = run(model(replace(MOE, normalise=True, scale=2.0, correction_bias=True)), prefill(3, batch=2))
    assert prediction.ledger.at(ROUTER, "matmul_flops") == 2 * N * D * E
    # softmax 5, the correction 1 and topk 0 per score; sum, div and mul_ 1 per chosen weight.
    vector = sum(op.vector_flops for op in prediction.ops if op.path == ROUTER)
    assert vector == (5 + 1) * S + 3 * P


def test_the_peak_inside_a_router() -> None:
    """E = 4096 experts of width 1: nothing but the router is large."""
    moe = Moe(n_experts=4096, top_k=1, expert=Glu(kind="swiglu", d_ff=1))
    scores, d, n = 4 * 2 * 4096, 8, 2
    around = 3 * n * d * 2  # the layer's input, what attention made of it, and its norm: the input of `ffn`
    constants = 8 * n + 2 * 2 * 8 + 3 * 8 * n  # token ids, the mask of 2 x 8, and chosen, order, slots
    # The softmax reads the scores in fp32 and writes as many.
    assert run(model(moe), prefill(2)).peak_live_bytes == constants + around + 2 * scores
    # The choice is made beside p and c, the corrected p; the logits have died.
    corrected = run(model(replace(moe, correction_bias=True)), prefill(2))
    assert corrected.peak_live_bytes == constants + around + 2 * scores + 12 * n
    # In 64 groups of 64, the mask's product: p, c and the product, and the mask.
    grouped = run(model(replace(moe, correction_bias=True, n_groups=64, groups_per_token=2)), prefill(2))
    assert grouped.peak_live_bytes == constants + around + 3 * scores + 4 * 2 * 64
    # In 4096 groups of one, the sum over the best of each: p, c, the best with their places (8 bytes each), the sums.
    single = run(model(replace(moe, correction_bias=True, n_groups=4096, groups_per_token=2)), prefill(2))
    assert single.peak_live_bytes == constants + around + (2 + 1 + 2 + 1) * scores
