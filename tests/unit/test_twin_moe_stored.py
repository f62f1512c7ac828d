"""Experts on the twin that hold others' numbers: matrices stored packed, and the weights of transformers' layers."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from mixture_layers import CLAMPED, LAYERS, MOE, SWIGLU, arch_of, weights_of, with_correction
from mixtures import choice
from torch import Tensor
from twin_archs import D
from twin_attending import CLOSE, loud_twin, workload

from llmprof.measure.run import measure
from llmprof.spec.arch import Mlp, Moe
from llmprof.twin import routes as routes_module
from llmprof.twin.build import build
from llmprof.twin.model import Twin
from llmprof.twin.packed import Packed, Quantised, unpack_matrix
from llmprof.workload import Dtypes, Execution


class TestPackedExperts:
    @pytest.mark.parametrize("form", ["fp8", "int8", "int4"])
    @pytest.mark.parametrize("device", ["cpu", "meta"])
    def test_each_expert_is_packed_by_itself(self, form: Quantised, device: str) -> None:
        dtypes = Dtypes(weights=form, activations="fp32", kv_cache="fp32", group_size=16)
        moe = replace(MOE, expert=replace(CLAMPED, d_ff=9))
        twin = build(arch_of(moe), dtypes=dtypes, device=device)
        execution = Execution(attention="unfused", kernels="cpu" if device == "cpu" else "cuda")
        found = measure(twin, workload(4, dtypes=dtypes), execution)
        e, f = 6, 9
        values, scales = {
            "fp8": (2 * f * D + D * f, 4 * 3),
            "int8": (2 * f * D + D * f, 2 * (2 * f + D)),
            "int4": (2 * f * (D // 2) + D * 5, 2 * (2 * f * 2 + D * 1)),  # ceil(9 / 2) = 5; ceil(24 / 16) = 2
        }[form]
        biases = 4 * (2 * f + D)
        assert found.ledger.at("layers.0.ffn.experts", "weight_bytes") == e * (values + scales + biases)
        assert found.ledger.at("layers.0.ffn.experts", "params") == e * (3 * f * D + 2 * f + D)
        assert found.ledger.at("layers.0.ffn.router", "weight_bytes") == 4 * e * D
        assert ("layers.0.ffn.experts", "hbm_bytes") in found.unmeasured
        assert ("layers.0.ffn.router", "hbm_bytes") not in found.unmeasured

    @pytest.mark.parametrize(
        ("form", "down", "up", "experts"),
        # L = 9, D = 24, E = 6, F = 10: weights [9, 24], [24, 9], six of [10, 9], [10, 9] and [9, 10].
        [
            ("fp8", 216 + 4, 216 + 4, 6 * 3 * (90 + 4)),
            ("int8", 216 + 9 * 2, 216 + 24 * 2, 6 * (2 * (90 + 10 * 2) + 90 + 9 * 2)),
            # ceil(24 / 2) = 12 bytes and ceil(24 / 16) = 2 scales to a row; ceil(9 / 2) = 5 and 1; 10 / 2 = 5 and 1.
            ("int4", 9 * (12 + 2 * 2), 24 * (5 + 2), 6 * (2 * 10 * (5 + 2) + 9 * (5 + 2))),
        ],
    )
    def test_the_matrices_around_a_latent_are_packed_too(
        self, form: Quantised, down: int, up: int, experts: int
    ) -> None:
        dtypes = Dtypes(weights=form, activations="fp32", kv_cache="fp32", group_size=16)
        twin = build(arch_of(LAYERS["latent"]), dtypes=dtypes)
        found = measure(twin, workload(4, dtypes=dtypes), Execution(attention="unfused"))
        for name, size in {"latent_down": down, "latent_up": up, "experts": experts}.items():
            path = f"layers.0.ffn.{name}"
            assert found.ledger.at(path, "weight_bytes") == size, name
            assert (path, "hbm_bytes") in found.unmeasured

    @pytest.mark.parametrize("form", ["fp8", "int8", "int4"])
    def test_it_computes_with_what_it_stores(self, form: Quantised) -> None:
        dtypes = Dtypes(weights=form, activations="fp32", kv_cache="fp32", group_size=16)
        twin = build(arch_of(MOE), dtypes=dtypes, device="cpu")
        experts = twin.layers[0].ffn.experts  # type: ignore[index, union-attr]
        for name in ("gate", "up", "down"):
            matrices = experts.get(name)
            for e in range(6):
                values, scales = experts.get(f"{name}_values")[e], experts.get(f"{name}_scales")[e]
                single = unpack_matrix(Packed(values, scales), form, matrices.shape[-1], 16, torch.float32)
                torch.testing.assert_close(matrices[e], single)
            assert matrices.std() > 0.01


class TestAgainstTransformers:
    def test_mixtral(self) -> None:
        from transformers.models.mixtral.configuration_mixtral import MixtralConfig
        from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock

        moe = replace(MOE, normalise=True)
        twin = loud_twin(arch_of(moe))
        block = MixtralSparseMoeBlock(
            MixtralConfig(hidden_size=D, intermediate_size=10, num_local_experts=6, num_experts_per_tok=2)
        ).eval()
        ffn = twin.layers[0].ffn  # type: ignore[index]
        with torch.no_grad():
            block.gate.weight.copy_(ffn.router.weight)  # type: ignore[union-attr, arg-type]
        _copy_experts(block.experts, ffn.experts)  # type: ignore[arg-type]
        self._check(twin, moe, block, None)

    def test_deepseek_v3(self) -> None:
        from transformers.models.deepseek_v3.configuration_deepseek_v3 import DeepseekV3Config
        from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3MoE

        moe = replace(LAYERS["groups"], normalise=True, shared=replace(SWIGLU, d_ff=20))
        twin = loud_twin(arch_of(moe))
        block = DeepseekV3MoE(
            DeepseekV3Config(
                hidden_size=D, moe_intermediate_size=10, n_routed_experts=6, num_experts_per_tok=2, n_shared_experts=2,
                n_group=3, topk_group=2, norm_topk_prob=True, routed_scaling_factor=1.5,
            )
        ).eval()  # fmt: skip
        ffn = twin.layers[0].ffn  # type: ignore[index]
        correction = with_correction(twin)
        assert correction is not None
        with torch.no_grad():
            block.gate.weight.copy_(ffn.router.weight)  # type: ignore[union-attr, arg-type]
            block.gate.e_score_correction_bias.copy_(correction)
            for name in ("gate", "up", "down"):
                getattr(block.shared_experts, f"{name}_proj").weight.copy_(getattr(ffn.shared, name).weight)  # type: ignore[union-attr]
        _copy_experts(block.experts, ffn.experts)  # type: ignore[arg-type]
        self._check(twin, moe, block, correction)

    def test_nemotron_h_with_a_latent(self) -> None:
        """Experts that see 8 of 24 values, the router and the shared expert all of them (transformers 5.23.0)."""
        from transformers.models.nemotron_h.configuration_nemotron_h import NemotronHConfig
        from transformers.models.nemotron_h.modeling_nemotron_h import NemotronHMoE

        relu2 = Mlp(kind="relu2", d_ff=10)
        moe = replace(LAYERS["groups"], normalise=True, expert=relu2, shared=replace(relu2, d_ff=14), latent=8)
        twin = loud_twin(arch_of(moe))
        block = NemotronHMoE(
            NemotronHConfig(
                hidden_size=D, moe_intermediate_size=10, moe_shared_expert_intermediate_size=14, moe_latent_size=8,
                n_routed_experts=6, num_experts_per_tok=2, n_group=3, topk_group=2, norm_topk_prob=True,
                routed_scaling_factor=1.5, mlp_hidden_act="relu2", mlp_bias=False,
            )
        ).eval()  # fmt: skip
        ffn = twin.layers[0].ffn  # type: ignore[index]
        correction = with_correction(twin)
        assert correction is not None
        theirs = dict(block.named_parameters()) | dict(block.named_buffers())
        copies = {
            "gate.weight": ffn.router.weight,  # type: ignore[union-attr]
            "gate.e_score_correction_bias": correction,
            "fc1_latent_proj.weight": ffn.latent_down.weight,  # type: ignore[union-attr]
            "fc2_latent_proj.weight": ffn.latent_up.weight,  # type: ignore[union-attr]
            "experts.up_proj": ffn.experts.up,  # type: ignore[union-attr]
            "experts.down_proj": ffn.experts.down,  # type: ignore[union-attr]
            "shared_experts.up_proj.weight": ffn.shared.up.weight,  # type: ignore[union-attr]
            "shared_experts.down_proj.weight": ffn.shared.down.weight,  # type: ignore[union-attr]
        }
        assert copies.keys() == theirs.keys()
        with torch.no_grad():
            for name, value in copies.items():
                assert theirs[name].shape == value.shape, name  # type: ignore[union-attr]
                theirs[name].copy_(value)  # type: ignore[arg-type]
        self._check(twin, moe, block, correction)

    def _check(self, twin: Twin, moe: Moe, block: torch.nn.Module, correction: Tensor | None) -> None:
        """The block's output, with the table set to what the router itself chooses."""
        ffn = twin.layers[0].ffn  # type: ignore[index]
        x = torch.randn(2, 5, D, generator=torch.Generator().manual_seed(7))
        weights = weights_of(twin)
        table = torch.tensor([choice(moe, weights, row.double(), correction) for row in x.flatten(0, 1)])
        slots = torch.argsort(table.flatten(), stable=True)
        counts = torch.bincount(table.flatten(), minlength=6)
        ends = counts.cumsum(0).tolist()
        runs = tuple(
            routes_module.Runs(expert=e, first=end - int(counts[e]), last=end)
            for e, end in enumerate(ends)
            if counts[e]
        )
        now = routes_module.Routes(chosen=table, order=slots // 2, slots=slots, runs=runs)
        with torch.no_grad():
            rows = x.flatten(0, 1)
            seen = rows if moe.latent is None else ffn.latent_down(rows)  # type: ignore[operator, union-attr]
            y = ffn.experts(seen, ffn.router(rows, now), now)  # type: ignore[operator, union-attr]
            if moe.latent is not None:
                y = ffn.latent_up(y)  # type: ignore[operator, union-attr]
            if moe.shared is not None:
                y = ffn.join(y, ffn.shared(rows, None))  # type: ignore[operator, union-attr]
            expected = block(x)
        assert expected.std() > 0.01
        torch.testing.assert_close(y.view(x.shape), expected, **CLOSE)


def _copy_experts(theirs: torch.nn.Module, ours: torch.nn.Module) -> None:
    with torch.no_grad():
        theirs.gate_up_proj.copy_(torch.cat((ours.gate, ours.up), dim=1))  # type: ignore[arg-type, operator]
        theirs.down_proj.copy_(ours.down)  # type: ignore[arg-type, operator]
