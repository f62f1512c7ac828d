"""Experts that see a latent width: two matrices around them (reference-experts.md, section 2, `latent`).

Shapes unless said otherwise: B = 2, T = 3, so N = 6 tokens; D = 8, L = 5, E = 4 experts of which k = 2, F = 6, bf16.
Balanced, every expert has 3 of the R = N k = 12 rows. A row of a list is a kernel with what it reads and writes.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from llmprof.predict.api import Prediction, parameters
from llmprof.predict.explain import explain
from llmprof.predict.record import count_record
from llmprof.routing import Routing
from llmprof.spec.arch import ArchSpec, Attention, Glu, Gqa, Mla, Mlp, Moe, RmsNorm, Rope
from llmprof.workload import Dtypes, Workload
from tests.predict_samples import arch, decode, layer, prefill, run, stack

FFN = "layers.0.ffn"
N, D, L, E, K, F, R, LOAD = 6, 8, 5, 4, 2, 6, 12, 3
MOE = Moe(n_experts=E, top_k=K, expert=Glu(kind="swiglu", d_ff=F), latent=L)
PROMPT = prefill(3, batch=2)
HEAD = Gqa(n_heads=1, n_kv_heads=1, head_dim=8)

Launch = tuple[str, int, int]


def model(moe: Moe, attention: Attention = HEAD) -> ArchSpec:
    position = Rope(theta=1e4) if isinstance(attention, Mla) else None
    return arch(stack([layer(attention, moe, position=position)]), d=D, v=10)


def launches(prediction: Prediction, leaf: str) -> list[Launch]:
    """Every launch of a leaf of the feed-forward, those of equal experts written out."""
    return [
        launch
        for op in prediction.ops
        if op.path == f"{FFN}.{leaf}"
        for launch in [(op.kind, op.read_bytes, op.write_bytes)] * op.count
    ]


def inside(spec: ArchSpec) -> dict[str, int]:
    """The parameters of every leaf of the feed-forward, in order."""
    found = parameters(spec).by_path.items()
    return {path.removeprefix(f"{FFN}."): n for path, n in found if path.startswith(f"{FFN}.")}


def of_one(n: int, *, output: bool = True) -> list[Launch]:
    """One SwiGLU expert on n rows of L."""
    into = ("mm", 2 * (n * L + F * L), 2 * n * F)
    weighed = ("mul_", 2 * (n * L + n), 2 * n * L)
    return [
        into,
        into,
        ("silu", 2 * n * F, 2 * n * F),
        ("mul", 2 * 2 * n * F, 2 * n * F),
        ("mm", 2 * (n * F + L * F), 2 * n * L),
        *([weighed] if output else []),
        ("index_add_", 8 * n + 2 * 2 * n * L, 2 * n * L),
    ]


def opening(rows: int, tokens: int) -> list[Launch]:
    return [("index_select", 8 * rows + 2 * rows * L, 2 * rows * L), ("zeros", 0, 2 * tokens * L)]


def test_the_leaves_and_their_parameters() -> None:
    moe = replace(MOE, shared=Glu(kind="swiglu", d_ff=10), shared_gate=True, router_bias=True)
    assert list(inside(model(moe)).items()) == [
        ("router", E * D + E),
        ("latent_down", L * D),
        ("experts", E * 3 * F * L),
        ("latent_up", D * L),
        ("shared.gate", 10 * D),
        ("shared.up", 10 * D),
        ("shared.act", 0),
        ("shared.down", D * 10),
        ("shared_gate", D),
        ("join", 0),
    ]
    # Biases are [E, F], and [E, L] behind `down`.
    biased = model(replace(MOE, expert=Mlp(kind="relu2", d_ff=F, bias=True)))
    assert inside(biased)["experts"] == E * (2 * F * L + F + L)
    assert inside(biased)["latent_up"] == D * L


def test_one_token_goes_through_both_matrices_whole() -> None:
    spec = model(replace(MOE, shared=Glu(kind="swiglu", d_ff=10)))
    count = parameters(spec)
    assert count.total - count.active == (E - K) * 3 * F * L
    assert count.embedding == 10 * D
    assert count_record(spec, decode(4))["params_active"] == count.active


def test_every_expert_runs_on_rows_of_the_latent_width() -> None:
    made = run(model(MOE), PROMPT)
    assert launches(made, "latent_down") == [("mm", 2 * (N * D + L * D), 2 * N * L)]
    assert launches(made, "latent_up") == [("mm", 2 * (N * L + D * L), 2 * N * D)]
    assert sorted(launches(made, "experts")) == sorted(opening(R, N) + E * of_one(LOAD))
    assert made.ledger.at(f"{FFN}.experts", "matmul_flops") == 2 * R * 3 * L * F
    assert made.ledger.at(f"{FFN}.latent_down", "matmul_flops") == 2 * N * D * L
    assert made.ledger.at(f"{FFN}.latent_up", "matmul_flops") == 2 * N * D * L
    assert made.ledger.at(f"{FFN}.router", "matmul_flops") == 2 * N * D * E
    order = dict.fromkeys(op.path for op in made.ops if op.path.startswith(f"{FFN}."))
    assert [path.removeprefix(f"{FFN}.") for path in order] == ["router", "latent_down", "experts", "latent_up"]
    # Per routed row: silu 4 and mul 1 over F; mul_ and index_add_ 1 each over L. The matrices around cost none.
    around = [op for op in made.ops if op.path in (f"{FFN}.latent_down", f"{FFN}.experts", f"{FFN}.latent_up")]
    assert sum(op.vector_flops * op.count for op in around) == R * (5 * F + 2 * L)


def test_the_router_and_what_runs_for_every_token_are_as_without() -> None:
    moe = replace(MOE, shared=Glu(kind="swiglu", d_ff=10), shared_gate=True, weigh="input")
    latent, plain = run(model(moe), PROMPT), run(model(replace(moe, latent=None)), PROMPT)
    for leaf in ("router", "shared.gate", "shared.up", "shared.act", "shared.down", "shared_gate", "join"):
        assert launches(latent, leaf) == launches(plain, leaf) != []


def test_weights_on_the_input() -> None:
    made = run(model(replace(MOE, weigh="input")), PROMPT)
    weighed = ("mul_", 2 * (R * L + R), 2 * R * L)
    assert sorted(launches(made, "experts")) == sorted([*opening(R, N), weighed] + E * of_one(LOAD, output=False))


def test_experts_without_tokens_launch_nothing() -> None:
    made = run(model(MOE), replace(PROMPT, routing=Routing("concentrated")))
    assert sorted(launches(made, "experts")) == sorted(opening(R, N) + 2 * of_one(N))
    assert sorted(launches(run(model(MOE), decode(7)), "experts")) == sorted(opening(K, 1) + 2 * of_one(1))


def test_as_wide_as_the_model_the_matrices_are_there_all_the_same() -> None:
    same, plain = model(replace(MOE, latent=D)), model(replace(MOE, latent=None))
    assert parameters(same).total - parameters(plain).total == 2 * D * D
    assert launches(run(same, PROMPT), "experts") == launches(run(plain, PROMPT), "experts")


def test_weights_in_another_dtype() -> None:
    made = run(model(MOE), replace(PROMPT, dtypes=Dtypes(weights="fp32")))
    assert launches(made, "latent_down")[0] == launches(made, "latent_up")[0] == ("cast", 4 * D * L, 2 * D * L)
    casts = [launch for launch in launches(made, "experts") if launch[0] == "cast"]
    assert casts == [("cast", 4 * F * L, 2 * F * L)] * (E * 3)


@pytest.mark.parametrize(
    ("weights", "down", "experts", "up"),
    [
        # L rows of D; of every expert two of F rows of L and one of L rows of F; D rows of L.
        ("fp8", L * D + 4, 3 * (F * L + 4), D * L + 4),
        ("int8", L * (D + 2), 2 * F * (L + 2) + L * (F + 2), D * (L + 2)),
        ("int4", L * (4 + 2 * 2), 2 * F * (3 + 2 * 2) + L * (3 + 2 * 2), D * (3 + 2 * 2)),
    ],
)
def test_packed_matrices(weights: str, down: int, experts: int, up: int) -> None:
    dtypes = Dtypes(weights=weights, group_size=4)  # type: ignore[arg-type]
    made = run(model(MOE), replace(PROMPT, dtypes=dtypes))
    found = [made.ledger.at(f"{FFN}.{leaf}", "weight_bytes") for leaf in ("latent_down", "experts", "latent_up")]
    assert found == [down, E * experts, up]
    assert made.ledger.at(f"{FFN}.latent_down", "hbm_bytes") == 2 * N * D + down + 2 * N * L
    assert made.ledger.at(f"{FFN}.latent_up", "hbm_bytes") == 2 * N * L + up + 2 * N * D


def test_what_lives_while_an_expert_runs() -> None:
    wide = 1000
    x, constants = 2 * N * D, 6 * 8 + 3 * 8 * 2 + 3 * 8 * R  # ids, the mask, and the three tables of the routing
    made = run(model(replace(MOE, latent=wide)), PROMPT)
    # Input, after attention, normed; the weights; z, xs and y; an expert's hidden rows and its output.
    held = 3 * x + 2 * R + 2 * N * wide + 2 * R * wide + 2 * N * wide
    assert made.peak_live_bytes == constants + held + 2 * LOAD * F + 2 * LOAD * wide


def test_neither_latent_lives_beside_what_runs_for_every_token() -> None:
    wide, shared = 1000, 5000
    x, constants = 2 * N * D, 6 * 8 + 3 * 8 * 2 + 3 * 8 * R
    made = run(model(replace(MOE, latent=wide, shared=Glu(kind="swiglu", d_ff=shared))), PROMPT)
    # Input, after attention, normed and the experts' sum; the shared gate and up, silu's result and the product.
    assert made.peak_live_bytes == constants + 4 * x + 4 * 2 * N * shared


MLA = Mla(n_heads=2, q_rank=None, kv_rank=7, nope_dim=4, rope_dim=2, value_dim=4, norm=RmsNorm())


@pytest.mark.parametrize("attention", [HEAD, MLA], ids=["gqa", "mla"])
@pytest.mark.parametrize("workload", [PROMPT, decode(9), prefill(4, dtypes=Dtypes(weights="fp8"))])
def test_formulas_come_to_the_figures(attention: Attention, workload: Workload) -> None:
    """Beside latent attention too, whose latent is another: no name has two sizes."""
    spec = model(replace(MOE, shared=Glu(kind="swiglu", d_ff=10)), attention)
    record = count_record(spec, workload)
    explained = {figure.name: figure for figure in explain(spec, workload)}
    for name, figure in explained.items():
        assert eval(figure.numbers.replace(" x ", " * ").replace("^", "**")) == figure.value == record[name], figure
    terms = explained["params_active"].formula.split(" + ")
    assert {"2 x layers x top_k x f x elatent", "layers x top_k x elatent x f"} <= set(terms)
    assert {"layers x elatent x d", "layers x d x elatent"} <= set(terms)
    for figure in explained.values():
        assert "elatent_" not in figure.formula
        assert "latent_1" not in figure.formula


def test_expected_traffic_is_less_by_experts_of_the_latent_width() -> None:
    record = count_record(model(MOE), PROMPT)
    missed = E * (1 - K / E) ** N
    assert record["experts_touched"] == E
    assert record["hbm_bytes_expected_unfused"] == pytest.approx(
        record["hbm_bytes_unfused"] - missed * 2 * 3 * F * L, rel=1e-12
    )


@pytest.mark.parametrize("weigh", ["output", "input"])
def test_every_product_has_two_gradients_in_training(weigh: str) -> None:
    moe = replace(MOE, weigh=weigh, shared=Glu(kind="swiglu", d_ff=10), shared_gate=True)  # type: ignore[arg-type]
    workload = Workload(phase="train", batch=2, new_tokens=5, context=5, objective="causal-lm", loss_tokens=5)
    made = run(model(moe), workload)
    assert made.matmul_flops_backward == 2 * made.cost.matmul_flops
