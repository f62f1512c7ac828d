"""Mixtures of experts on the twin: against a loop over tokens, in every phase, with gradients."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from mixture_layers import EXPERTS, LAYERS, MOE, ROUTINGS, SWIGLU, arch_of, session_of, weights_of, with_correction
from mixtures import choice, dense, mixture, weights_of_chosen
from torch import Tensor
from twin_archs import D, decoder, encoder_decoder, layer, model, stack
from twin_attending import CLOSE, FP32, UNFUSED, attended, loud_twin, workload

from llmprof.measure.run import measure
from llmprof.routing import Routing, choices
from llmprof.spec.arch import Expert, Moe, RmsNorm
from llmprof.twin import routes as routes_module
from llmprof.twin.build import build
from llmprof.twin.session import Session
from llmprof.twin.training import TrainingSession
from llmprof.workload import Dtypes, Execution, Workload


def check(moe: Moe, routing: Routing, *, batch: int = 2, new: int = 5) -> None:
    twin = loud_twin(arch_of(moe))
    with_correction(twin)
    x, out = attended(session_of(twin, routing, batch=batch, new=new), "layers.0.ffn")
    table = list(choices(routing, batch * new, moe.top_k, moe.n_experts))
    expected = mixture(moe, weights_of(twin), x.double().flatten(0, 1), table).view(out.shape)
    assert expected.std() > 0.01
    torch.testing.assert_close(out.double(), expected, **CLOSE)


class TestAgainstALoopOverTokens:
    @pytest.mark.parametrize("spec", EXPERTS, ids=lambda spec: f"{spec.kind}{'+bias' * spec.bias}")
    def test_every_kind_of_expert(self, spec: Expert) -> None:
        check(replace(MOE, expert=spec, shared=spec), Routing("random", 1))

    @pytest.mark.parametrize("routing", ROUTINGS, ids=str)
    @pytest.mark.parametrize("name", LAYERS)
    def test_every_layer(self, name: str, routing: Routing) -> None:
        check(LAYERS[name], routing)

    @pytest.mark.parametrize(("batch", "new"), [(1, 1), (3, 1), (1, 4)])
    def test_few_tokens(self, batch: int, new: int) -> None:
        check(LAYERS["gated"], Routing("random", 2), batch=batch, new=new)

    @pytest.mark.parametrize("spec", EXPERTS, ids=lambda spec: f"{spec.kind}{'+bias' * spec.bias}")
    def test_a_dense_layer_of_the_kind(self, spec: Expert) -> None:
        """The same activations in a feed-forward that every token goes through: a mixture of that one alone."""
        twin = loud_twin(decoder(layer(ffn=spec)))
        x, out = attended(Session(twin, workload(4), UNFUSED), "layers.0.ffn")
        weights = {f"ffn.{name}": value for name, value in weights_of(twin).items()}
        rows = [dense(spec, weights, "ffn", row) for row in x.double().flatten(0, 1)]
        torch.testing.assert_close(out.double(), torch.stack(rows).view(out.shape), **CLOSE)


class TestRouter:
    @pytest.mark.parametrize("name", LAYERS)
    def test_its_weights_and_its_own_choice(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """The weights are those of the table; what `topk` finds is what the definition would choose."""
        moe = LAYERS[name]
        twin = loud_twin(arch_of(moe))
        correction = with_correction(twin)
        found: list[Tensor] = []
        topk = torch.topk

        def seen(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
            result = topk(values, k)
            found.append(result[1])
            return result  # type: ignore[return-value]

        monkeypatch.setattr("llmprof.twin.router.torch.topk", seen)
        routing = Routing("random", 5)
        x, out = attended(session_of(twin, routing), "layers.0.ffn.router")
        weights = weights_of(twin)
        table = list(choices(routing, 10, moe.top_k, moe.n_experts))
        by_expert = sorted((e, n, j) for n, chosen in enumerate(table) for j, e in enumerate(chosen))
        taken = [weights_of_chosen(moe, weights, row.double(), chosen) for row, chosen in zip(x, table, strict=True)]
        expected = torch.tensor([taken[n][j] for _, n, j in by_expert], dtype=torch.float64)
        torch.testing.assert_close(out[:, 0].double(), expected, **CLOSE)
        for row, own in zip(x, found[-1], strict=True):
            assert set(own.tolist()) == set(choice(moe, weights, row.double(), correction))

    def test_the_correction_is_a_buffer_in_fp32_and_no_constant(self) -> None:
        twin = build(arch_of(LAYERS["groups"]), dtypes=Dtypes(), device="cpu")
        router = twin.layers[0].ffn.router  # type: ignore[index, union-attr]
        assert router.correction.dtype == torch.float32
        assert [name for name, _ in router.named_parameters()] == ["weight"]
        session = Session(twin, workload(3, dtypes=Dtypes()), UNFUSED)
        assert not any(constant is router.correction for constant in session.constants)


class TestConstants:
    @pytest.mark.parametrize("routing", ROUTINGS, ids=str)
    def test_one_table_for_all_layers_of_a_size(self, routing: Routing) -> None:
        wide = replace(MOE, n_experts=9, top_k=3)
        arch = decoder(layer(ffn=MOE), layer(ffn=replace(MOE, scale=2.0)), layer(ffn=wide))
        session = session_of(build(arch, dtypes=FP32, device="cpu"), routing)
        tables = [c for c in session.constants if c.dtype == torch.int64 and c.numel() in (20, 30)]
        assert sorted(c.numel() for c in tables) == [20, 20, 20, 30, 30, 30]
        now = session.prepared.stacks[0].prepared["layers.0.ffn"]  # type: ignore[union-attr]
        table = list(choices(routing, 10, 2, 6))
        assert now.chosen.tolist() == [list(row) for row in table]  # type: ignore[attr-defined]
        flat = [expert for row in table for expert in row]
        rows = sorted(range(20), key=lambda entry: (flat[entry], entry))
        assert now.slots.tolist() == rows  # type: ignore[attr-defined]
        assert now.order.tolist() == [entry // 2 for entry in rows]  # type: ignore[attr-defined]
        for run in now.runs:  # type: ignore[attr-defined]
            assert {flat[entry] for entry in rows[run.first : run.last]} == {run.expert}
        assert sum(run.last - run.first for run in now.runs) == 20  # type: ignore[attr-defined]

    def test_stacks_share_it_where_they_have_as_many_tokens(self) -> None:
        arch = encoder_decoder(layer(ffn=MOE), layer(ffn=MOE), depth=1)
        for source, tables in ((4, 3), (6, 6)):
            load = Workload(phase="prefill", batch=2, new_tokens=4, context=4, source_tokens=source, dtypes=FP32)
            session = Session(build(arch, dtypes=FP32, device="cpu"), load, UNFUSED)
            ids = [c for c in session.constants if c.dtype == torch.int64 and c.numel() in (16, 24)]
            assert len(ids) == tables

    def test_a_table_too_large_for_shapes_alone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Beyond the limit the loads are asked for instead: the counts are the same."""
        twin = build(arch_of(LAYERS["gated"]), dtypes=Dtypes())
        load = replace(workload(7, dtypes=Dtypes()), routing=Routing("random", 3))
        small = measure(twin, load, Execution(attention="unfused")).ledger
        monkeypatch.setattr(routes_module, "MOST_ON_META", 1)
        large = measure(twin, load, Execution(attention="unfused")).ledger
        assert [(e.path, e.quantity, e.value) for e in small] == [(e.path, e.quantity, e.value) for e in large]


class TestPasses:
    @pytest.mark.parametrize("device", ["cpu", "meta"])
    @pytest.mark.parametrize("attention", ["fused", "unfused"])
    @pytest.mark.parametrize(("new", "context"), [(5, 5), (2, 6), (1, 6), (1, 1)])
    def test_every_phase_runs(self, device: str, attention: str, new: int, context: int) -> None:
        execution = Execution(attention=attention, kernels="cpu" if device == "cpu" else "cuda")  # type: ignore[arg-type]
        for moe in LAYERS.values():
            found = measure(
                build(arch_of(moe), dtypes=Dtypes(), device=device),
                workload(context, new=new, dtypes=Dtypes(), decode=new == 1),
                execution,
            )
            assert not found.unmeasured
            assert found.ledger.at("layers.0.ffn.experts", "hbm_bytes")

    @pytest.mark.parametrize("name", LAYERS)
    def test_a_training_pass_has_a_gradient_for_what_tokens_reach(self, name: str) -> None:
        moe = LAYERS[name]
        twin = loud_twin(arch_of(moe))
        load = Workload(
            phase="train", batch=2, new_tokens=6, context=6, objective="causal-lm", loss_tokens=6, dtypes=FP32,
            routing=Routing("concentrated"),
        )  # fmt: skip
        session = TrainingSession(twin, load, UNFUSED, text=6)
        with session.training():
            loss = session.forward().loss
            assert loss is not None
            gradients = session.gradients(loss)
        down = gradients["layers.0.ffn.experts.down"]
        assert [bool(each.abs().sum() > 0) for each in down] == [e < moe.top_k for e in range(moe.n_experts)]
        assert gradients["layers.0.ffn.router.weight"].abs().sum() > 0 or name == "one expert"

    def test_gradients_are_those_of_finite_differences(self) -> None:
        twin = loud_twin(arch_of(LAYERS["gated"])).double()
        twin.material = replace(twin.material, weights=torch.float64, activations=torch.float64)
        ffn = twin.layers[0].ffn  # type: ignore[index]
        now = routes_module.Routes(
            chosen=torch.tensor([[0, 3], [3, 5], [0, 1]]),
            order=torch.tensor([0, 2, 2, 0, 1, 1]),
            slots=torch.tensor([0, 4, 5, 1, 2, 3]),
            runs=tuple(
                routes_module.Runs(expert=e, first=a, last=b)
                for e, a, b in ((0, 0, 2), (1, 2, 3), (3, 3, 5), (5, 5, 6))
            ),
        )
        x = torch.randn(3, D, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
        weights = torch.rand(6, 1, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(lambda x, w: ffn.experts(x, w, now), (x, weights))  # type: ignore[operator, union-attr]


def test_sparsemixer_is_that_of_transformers() -> None:
    """Where the workload sends tokens to the experts that it chooses itself, the weights are those that it computes."""
    from transformers.models.phimoe.modeling_phimoe import sparsemixer

    from llmprof.twin.leaf import material
    from llmprof.twin.router import Router

    moe = replace(MOE, n_experts=6, top_k=2, scores="sparsemixer", margin=0.2)
    router = Router(moe, D, material(FP32, torch.device("cpu")))
    generator = torch.Generator().manual_seed(3)
    router.weight.normal_(generator=generator)
    x = torch.randn(40, D, generator=generator)
    expected, chosen = sparsemixer(x @ router.weight.T, moe.margin, training=False)
    slots = torch.argsort(chosen.flatten(), stable=True)
    now = routes_module.Routes(chosen=chosen, order=slots // 2, slots=slots, runs=())
    torch.testing.assert_close(router(x, now), expected.flatten()[slots].unsqueeze(1))
    assert expected.min() < 0.9 < expected.max(), "some experts come near the best, and others do not"


def test_a_norm_and_a_model_around_it() -> None:
    """Two layers of unlike sizes: prefill and then decode give the logits of one prefill, token by token."""
    wide = replace(MOE, n_experts=4, top_k=4)
    arch = model(stack(layer(ffn=wide, norm=RmsNorm()), layer(ffn=replace(wide, shared=SWIGLU))))
    twin = loud_twin(arch)
    whole = Session(twin, workload(6), UNFUSED)
    logits = whole.run().logits
    assert logits is not None
    step = Session(twin, workload(6, new=1, decode=True), UNFUSED)
    for path, cache in step.caches.items():
        cache.copy_(whole.caches[path])
    step.inputs["tokens"].copy_(whole.inputs["tokens"][:, -1:])
    last = step.run().logits
    assert last is not None
    torch.testing.assert_close(last[:, 0], logits[:, -1], **CLOSE)
