"""The backward of a training pass: which contractions it launches, by hand and by the rules of the analysis.

The small model: d 8, 2 heads of 2 (so queries of width 4), a SwiGLU of 6, vocabulary 10, one layer. For N rows its
projections take 4 x 2 N 8 4 = 256 N FLOPs, its feed-forward 3 x 2 N 8 6 = 288 N, the output matrix 2 m 8 10 = 160 m for m
rows with loss, and one product of an attention core 2 x 2 heads x queries x keys x 2, for each sequence.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from llmprof import catalog
from llmprof.objectives import default_objective, training_workload
from llmprof.predict.api import Prediction, predict
from llmprof.predict.backward import backward_flops
from llmprof.predict.formats import BF16, INT64
from llmprof.predict.tape import Tape
from llmprof.predict.tensor import Home, Tensor, new
from llmprof.spec.arch import (
    ArchSpec,
    Clustered,
    Gqa,
    LmHead,
    NoHead,
    Performer,
    RmsNorm,
    Rope,
    T5Bias,
)
from llmprof.workload import Dtypes, Objective
from tests.predict_samples import FUSED, UNFUSED, arch, layer, single, stack

HEADS = Gqa(n_heads=2, n_kv_heads=2, head_dim=2)


def both(spec: ArchSpec, objective: Objective, text: int) -> tuple[Prediction, Prediction]:
    """Unfused, then fused."""
    workload = training_workload(spec, objective, text=text, batch=1, prefix_tokens=None, dtypes=Dtypes())
    return predict(spec, workload, UNFUSED), predict(spec, workload, FUSED)


def backward(spec: ArchSpec, dtypes: Dtypes | None = None) -> int:
    """Backward FLOPs of a causal model on five tokens, unfused."""
    workload = training_workload(spec, "causal-lm", text=5, batch=1, prefix_tokens=None, dtypes=dtypes or Dtypes())
    return predict(spec, workload, UNFUSED).matmul_flops_backward


# --- of a model -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("entry", catalog.entries(), ids=lambda entry: str(entry.name))
def test_the_backward_of_a_released_model_is_twice_its_forward(entry: catalog.Entry) -> None:
    spec = entry.load().base
    # A mixer that is taken by chunks has a state after its last one, which nothing reads: less than twice.
    only_gqa = all(isinstance(each.attention, Gqa) and not each.mixer for side in spec.stacks for each in side.layers)
    if isinstance(spec.head, NoHead) or not only_gqa:
        pytest.skip("not trained, or with contractions of constants")
    unfused, fused = both(spec, default_objective(spec), 64)
    # Sound takes no gradient, so what is made of it does not pass one on.
    sound = sum(op.matmul_flops for op in unfused.ops if op.path == "encoder.conv1")
    assert unfused.matmul_flops_backward == 2 * unfused.cost.matmul_flops - sound
    cores = sum(op.count * op.matmul_flops for op in fused.ops if op.path.endswith(".core"))
    assert fused.matmul_flops_backward == 2 * fused.cost.matmul_flops + cores // 2 - sound


def test_layers_count_as_often_as_they_stand() -> None:
    one, three = (backward(arch(stack([layer(HEADS)] * n), d=8, v=10)) for n in (1, 3))
    # per layer and N = 5: 256 x 5 + 288 x 5 + two products of 200
    assert three - one == 2 * 2 * (1280 + 1440 + 400)


def test_what_is_no_contraction_costs_nothing() -> None:
    for spec in (
        single(replace(HEADS, qkv_bias=True, out_bias=True, qk_norm=RmsNorm())),
        single(HEADS, position=Rope(theta=10000.0)),
        single(HEADS, position=T5Bias(n_buckets=4, max_distance=8)),
        replace(single(HEADS), head=LmHead(bias=True, softcap=30.0)),
    ):
        assert backward(spec) == backward(single(HEADS))


def test_weights_that_are_cast_take_their_gradient_through_the_cast() -> None:
    mixed = Dtypes(weights="fp32", activations="bf16", kv_cache="bf16")
    assert backward(single(HEADS), mixed) == backward(single(HEADS))


def test_grouped_queries_are_counted_as_they_are_launched() -> None:
    spec = single(replace(HEADS, n_kv_heads=1))
    unfused, fused = both(spec, "causal-lm", 5)
    assert unfused.matmul_flops_backward == 2 * unfused.cost.matmul_flops
    assert fused.matmul_flops_backward == 2 * fused.cost.matmul_flops + 2 * 2 * 5 * 5 * 2


def test_random_features_take_no_gradient() -> None:
    spec = single(Performer(n_heads=2, head_dim=2, chunk=2, n_features=3))
    unfused, _ = both(spec, "causal-lm", 4)
    features = 2 * (2 * 4 * 2 * 2 * 3)  # q and k, 4 rows of 2 heads of 2, times [2, 3]
    core = 2 * 2 * 4 * 3 * 2 + 2 * 2 * 4 * 3  # queries with states of [3, 2], and with norms of [3]
    assert unfused.cost.matmul_flops == 256 * 4 + 288 * 4 + 160 * 4 + features + core
    assert unfused.matmul_flops_backward == 2 * (256 * 4 + 288 * 4 + 160 * 4 + core) + features


def test_clusters_are_chosen_without_a_gradient() -> None:
    spec = single(Clustered(n_heads=2, head_dim=2, n_clusters=2, n_bits=3, iterations=1), mask="bidirectional")
    unfused, fused = both(spec, "masked-lm", 4)
    # Codes 2 x 4 x 2 heads x 2 x 3; likeness twice and new middles once, each 2 x 2 x 4 x 2 x 3; centres 2 x 2 x 2 x 4 x 2
    chosen, centres = 96 + 3 * 96, 64
    product = 2 * 2 * 2 * 4 * 2  # 2 centres over 4 keys
    learned = 256 * 4 + 288 * 4 + 160 + 2 * product
    assert unfused.cost.matmul_flops == learned + chosen + centres
    # The means are of queries, which are learned, by members, which are not.
    assert unfused.matmul_flops_backward == 2 * learned + centres
    assert fused.matmul_flops_backward == 2 * learned + centres + product


# --- the analysis itself --------------------------------------------------------------------------------


def tape() -> Tape:
    return Tape(BF16, lambda path: ())


def tensor(home: Home, **axes: int) -> Tensor:
    return new(home.value, axes, BF16, home)


X = {"t": 3, "d": 5}


def test_an_operand_that_is_a_constant_takes_no_gradient() -> None:
    for left, right, products in (
        (Home.INPUT, Home.WEIGHT, 2),
        (Home.CONSTANT, Home.WEIGHT, 1),
        (Home.INPUT, Home.CONSTANT, 1),
        (Home.CONSTANT, Home.CONSTANT, 0),
    ):
        t = tape()
        y = t.contract(tensor(left, **X), tensor(right, f=7, d=5), "t f", kind="mm")
        assert backward_flops(t.items, (y,)) == products * 2 * 3 * 5 * 7


def test_what_does_not_lead_to_the_result_takes_no_gradient() -> None:
    t = tape()
    x, w = tensor(Home.INPUT, **X), tensor(Home.WEIGHT, f=7, d=5)
    t.contract(x, w, "t f", kind="mm")
    y = t.run("relu", x)
    assert backward_flops(t.items, (y,)) == 0


@pytest.mark.parametrize("through", ["argmax", "sign_"])
def test_no_gradient_goes_through_a_choice(through: str) -> None:
    t = tape()
    x, w = tensor(Home.INPUT, **X), tensor(Home.WEIGHT, f=7, d=5)
    codes = t.contract(x, w, "t f", kind="mm")
    if through == "sign_":
        t.in_place("sign_", codes)
        chosen = codes
    else:
        chosen = t.cast(t.run("argmax", codes, axes={"t": 3, "f": 7}, fmt=INT64))
    y = t.contract(chosen, tensor(Home.WEIGHT, g=2, f=7), "t g", kind="mm")
    # The second weight takes a gradient; what was chosen does not, and so neither operand of the first product.
    assert backward_flops(t.items, (y,)) == 2 * 3 * 7 * 2


def test_what_is_written_in_place_is_followed() -> None:
    t = tape()
    scores = t.run("mul", tensor(Home.CONSTANT, **X))
    t.in_place("mul_", scores, tensor(Home.WEIGHT, d=5))
    y = t.contract(scores, tensor(Home.CONSTANT, f=7, d=5), "t f", kind="mm")
    assert backward_flops(t.items, (y,)) == 2 * 3 * 5 * 7


def test_a_gathered_row_leads_back_to_its_table() -> None:
    t = tape()
    ids = new("ids", {"t": 3}, INT64, Home.CONSTANT)
    rows = t.gather("index_select", tensor(Home.WEIGHT, v=9, d=5), ids, X)
    y = t.contract(rows, tensor(Home.CONSTANT, f=7, d=5), "t f", kind="mm")
    assert backward_flops(t.items, (y,)) == 2 * 3 * 5 * 7
