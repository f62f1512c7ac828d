"""Bytes of the leaves of experts, against the lists of section 2 of docs/reference-experts.md, by hand.

B = 2, T = 3, d_model D = 24, E = 6 experts, k = 2, d_ff F = 10, bf16 (e = 2). N k = 12 rows, `balanced`: 2 of each expert.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from twin_archs import decoder, layer

from llmprof.measure.run import measure
from llmprof.routing import Routing
from llmprof.spec.arch import Glu, Mlp, Moe
from llmprof.twin.build import build
from llmprof.workload import Dtypes, Execution, Workload

D, E, k, F, e = 24, 6, 2, 10, 2
N = 2 * 3
MOE = Moe(n_experts=E, top_k=k, expert=Glu(kind="swiglu", d_ff=F))
LOGITS = (N * D + E * D + N * E) * e
CAST = N * E * e + 4 * N * E
SCORES = 2 * 4 * N * E
TOPK = 4 * N * E + 12 * N * k
GATHER = 8 * N * k + 2 * 4 * N * k
FINISH = 4 * N * k + N * k * e + 8 * N * k + 2 * N * k * e
ROUTER = LOGITS + CAST + SCORES + TOPK + GATHER + FINISH


def counted(moe: Moe, *, routing: str = "balanced", batch: int = 2, new: int = 3, dtypes: Dtypes = Dtypes()):  # type: ignore[no-untyped-def]  # noqa: B008
    load = Workload(
        phase="prefill", batch=batch, new_tokens=new, context=new, dtypes=dtypes, routing=Routing(routing)  # type: ignore[arg-type]
    )  # fmt: skip
    return measure(build(decoder(layer(ffn=moe)), dtypes=dtypes), load, Execution(attention="unfused")).ledger


def traffic(moe: Moe, **load: object) -> Mapping[str, int]:
    """hbm_bytes by path below `ffn`."""
    ledger = counted(moe, **load)  # type: ignore[arg-type]
    start = "layers.0.ffn."
    return {x.path.removeprefix(start): x.value for x in ledger if x.quantity == "hbm_bytes" and start in x.path}


class TestRouter:
    @pytest.mark.parametrize(
        ("change", "more"),
        [
            ({}, 0),
            ({"scores": "sigmoid"}, 0),
            ({"scores": "softmax-chosen"}, -SCORES + 2 * 4 * N * k),
            ({"router_bias": True}, E * e),
            ({"normalise": True}, (4 * N * k + 4 * N) + (2 * 4 * N * k + 4 * N)),
            ({"scale": 2.5}, 2 * 4 * N * k),
            ({"correction_bias": True}, 2 * 4 * N * E + 4 * E),
            (
                {"n_groups": 3, "groups_per_token": 2},
                # topk 2 of each group, their sum, topk 2 of the groups, zeros, 1 at those, scores times that.
                (4 * N * E + 12 * N * 3 * 2) + (4 * N * 3 * 2 + 4 * N * 3) + (4 * N * 3 + 12 * N * 2) + 4 * N * 3
                + (8 * N * 2 + 4 * N * 2) + (2 * 4 * N * E + 4 * N * 3),
            ),
        ],
    )  # fmt: skip
    def test_every_option(self, change: dict[str, object], more: int) -> None:
        assert traffic(replace(MOE, **change))["router"] == ROUTER + more  # type: ignore[arg-type]

    def test_in_fp32_nothing_is_cast(self) -> None:
        dtypes = Dtypes(weights="fp32", activations="fp32", kv_cache="fp32")
        in_fp32 = 2 * LOGITS + SCORES + TOPK + GATHER + 8 * N * k + 2 * N * k * 4
        assert traffic(MOE, dtypes=dtypes)["router"] == in_fp32


def experts(
    loads: list[int], *, matrices: int = 3, act: int = 5, biases: bool = False, cast: bool = False, width: int = D
) -> int:
    """Rows gathered, zeros, and for each expert its linears, activation, weights and sum; `act` per element of d_ff."""
    total = (8 * N * k + 2 * N * k * width * e) + N * width * e
    for n in filter(None, loads):
        owned = matrices * F * width + (biases * ((matrices - 1) * F + width))
        total += (cast * owned * (4 + 2)) + owned * e
        total += ((matrices - 1) * (n * width + n * F) + (n * F + n * width)) * e
        total += act * n * F * e
        total += (2 * n * width + n) * e
        total += 8 * n + 3 * n * width * e
    return total


class TestExperts:
    def test_equal_loads(self) -> None:
        assert traffic(MOE)["experts"] == experts([2] * 6)

    def test_an_expert_without_tokens_costs_nothing(self) -> None:
        assert traffic(MOE, routing="concentrated")["experts"] == experts([6, 6])

    @pytest.mark.parametrize(
        ("expert", "matrices", "act"),
        [
            (Mlp(kind="relu", d_ff=F), 2, 2),
            (Mlp(kind="relu2", d_ff=F), 2, 2 + 2),
            (Mlp(kind="swish", d_ff=F, beta=1.5), 2, 2 + 2 + 3),
            (Glu(kind="geglu", d_ff=F), 3, 2 + 3),
            # Two clamps, times beta, sigmoid, times the gate, plus 1, times up.
            (Glu(kind="swiglu-clamped", d_ff=F, limit=7.0), 3, 2 + 2 + 2 + 2 + 3 + 2 + 3),
        ],
    )
    @pytest.mark.parametrize("biases", [False, True])
    def test_every_kind(self, expert: Mlp | Glu, matrices: int, act: int, biases: bool) -> None:
        found = traffic(replace(MOE, expert=replace(expert, bias=biases)))["experts"]
        assert found == experts([2] * 6, matrices=matrices, act=act, biases=biases)

    def test_what_runs_is_cast_where_the_dtypes_differ(self) -> None:
        dtypes = Dtypes(weights="fp32", activations="bf16", kv_cache="bf16")
        moe = replace(MOE, expert=replace(MOE.expert, bias=True))
        assert traffic(moe, dtypes=dtypes)["experts"] == experts([2] * 6, biases=True, cast=True)
        few = traffic(moe, dtypes=dtypes, routing="concentrated")["experts"]
        assert few == experts([6, 6], biases=True, cast=True)

    def test_weights_of_the_input_are_one_kernel(self) -> None:
        once = (2 * 12 * D + 12) * e
        each = 6 * (2 * 2 * D + 2) * e
        assert traffic(replace(MOE, weigh="input"))["experts"] == experts([2] * 6) - each + once

    def test_contractions_and_parameters(self) -> None:
        ledger = counted(MOE, routing="concentrated")
        assert ledger.at("layers.0.ffn.router", "matmul_flops") == 2 * N * D * E
        assert ledger.at("layers.0.ffn.experts", "matmul_flops") == 2 * N * k * 3 * D * F
        assert ledger.at("layers.0.ffn.experts", "params") == 3 * E * D * F
        assert ledger.at("layers.0.ffn.router", "params") == E * D


def test_what_every_token_goes_through() -> None:
    shared = Mlp(kind="relu2", d_ff=7)
    at = traffic(replace(MOE, shared=shared, shared_gate=True))
    assert list(at) == ["router", "experts", "shared.up", "shared.act", "shared.down", "shared_gate", "join"]
    assert at["shared.up"] == (N * D + 7 * D + N * 7) * e
    assert at["shared.act"] == 4 * N * 7 * e
    assert at["shared_gate"] == (N * D + D + N) * e + 2 * N * e + (2 * N * D + N) * e
    assert at["join"] == 3 * N * D * e


class TestLatent:
    """Experts that see L = 9 of 24 values: in their bytes every D is an L, and a matrix stands on either side."""

    L = 9
    MOE = replace(MOE, latent=L, shared=Mlp(kind="relu2", d_ff=7), shared_gate=True)

    def test_bytes(self) -> None:
        at, plain, L = traffic(self.MOE), traffic(replace(self.MOE, latent=None)), self.L
        assert list(at) == [
            *("router", "latent_down", "experts", "latent_up"),
            *("shared.up", "shared.act", "shared.down", "shared_gate", "join"),
        ]
        assert at["latent_down"] == (N * D + L * D + N * L) * e
        assert at["experts"] == experts([2] * 6, width=L)
        assert at["latent_up"] == (N * L + D * L + N * D) * e
        for path in ("router", "shared.up", "shared.act", "shared.down", "shared_gate", "join"):
            assert at[path] == plain[path]

    def test_inputs_that_are_weighted_are_latents(self) -> None:
        once, each = (2 * 12 * self.L + 12) * e, 6 * (2 * 2 * self.L + 2) * e
        found = traffic(replace(self.MOE, weigh="input"))["experts"]
        assert found == experts([2] * 6, width=self.L) - each + once

    def test_biases_and_casts(self) -> None:
        """A bias of `down` is L wide; the matrices on either side have none and are cast whole."""
        dtypes = Dtypes(weights="fp32", activations="bf16", kv_cache="bf16")
        at, L = traffic(replace(self.MOE, expert=replace(MOE.expert, bias=True)), dtypes=dtypes), self.L
        assert at["experts"] == experts([2] * 6, width=L, biases=True, cast=True)
        assert at["latent_down"] == L * D * (4 + e) + (N * D + L * D + N * L) * e
        assert at["latent_up"] == D * L * (4 + e) + (N * L + D * L + N * D) * e

    def test_contractions_and_parameters(self) -> None:
        ledger, L = counted(self.MOE, routing="concentrated"), self.L
        for name, flops, params in (
            ("router", 2 * 6 * 24 * 6, 6 * 24),
            ("latent_down", 2 * 6 * 24 * 9, 9 * 24),
            ("experts", 2 * 6 * 2 * 3 * 9 * 10, 3 * 6 * 9 * 10),
            ("latent_up", 2 * 6 * 9 * 24, 24 * 9),
            ("shared.up", 2 * 6 * 24 * 7, 7 * 24),
        ):
            path = f"layers.0.ffn.{name}"
            assert ledger.at(path, "matmul_flops") == ledger.at(path, "matmul_flops_causal") == flops, name
            assert ledger.at(path, "params") == params, name
        biased = counted(replace(self.MOE, expert=replace(MOE.expert, bias=True)))
        assert biased.at("layers.0.ffn.experts", "params") == 3 * E * L * F + E * (2 * F + L)


def test_the_peak_of_a_pass_counts_tables_and_no_buffer() -> None:
    """Per model three tables of N k entries; the correction is stored like a weight, which no peak counts."""
    plain, corrected = replace(MOE, scores="sigmoid"), replace(MOE, scores="sigmoid", correction_bias=True)

    def peak(*layers: Moe) -> int:
        load = Workload(phase="prefill", batch=2, new_tokens=3, context=3)
        twin = build(decoder(*(layer(ffn=moe) for moe in layers), vocab_size=4000), dtypes=Dtypes())
        found = measure(twin, load, Execution(attention="unfused")).ledger.at("", "peak_live_bytes")
        assert found is not None
        return found

    # With 4,000 tokens to choose from the peak stands at the logits, where of the layers only constants are left.
    assert peak(corrected, corrected) == peak(plain, plain)
    assert peak(plain, replace(plain, n_experts=7)) - peak(plain, plain) == 3 * 8 * N * k
