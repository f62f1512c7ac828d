"""A training pass on the twin: what is counted, that the gradients are those of the loss, and that nothing stays behind."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from llmprof.measure import ops
from llmprof.measure.ops import UnknownOp
from llmprof.measure.training import TrainingMeasured, measure_training
from llmprof.objectives import default_objective, training_workload
from llmprof.spec.arch import ArchSpec, Gaussian, LmHead, NoHead, NoPosition
from llmprof.twin.build import build
from llmprof.twin.core import NoFusedKernel
from llmprof.twin.leaf import Leaf
from llmprof.twin.model import Twin
from llmprof.twin.objectives import training_batch
from llmprof.twin.training import TrainingSession
from llmprof.workload import STRUCTURES, Dtypes, Execution, Objective, Workload, check_workload
from tests.families import kinds
from tests.unit.twin_archs import ALL, CAUSAL, MHA, bare, decoder, layer, model, stack

FP32 = Dtypes(weights="fp32", activations="fp32", kv_cache="fp32")
TEXT = 12

TRAINED = {name: arch for name, arch in ALL.items() if not isinstance(arch.head, NoHead)}


def workload(
    arch: ArchSpec,
    objective: Objective | None = None,
    *,
    text: int = TEXT,
    batch: int = 2,
    prefix: int | None = None,
    dtypes: Dtypes = FP32,
) -> Workload:
    chosen = default_objective(arch) if objective is None else objective
    return training_workload(arch, chosen, text=text, batch=batch, prefix_tokens=prefix, dtypes=dtypes)


def execution(attention: str, device: str) -> Execution:
    return Execution(attention=attention, kernels="cpu" if device == "cpu" else "cuda")  # type: ignore[arg-type]


def measured(
    arch: ArchSpec, objective: Objective | None = None, *, attention: str = "unfused", device: str = "cpu", **how: int
) -> TrainingMeasured:
    work = workload(arch, objective, **how)  # type: ignore[arg-type]
    twin = build(arch, dtypes=work.dtypes, device=device)
    return measure_training(twin, work, execution(attention, device), text=how.get("text", TEXT))


# --- counts -------------------------------------------------------------------------------------

B, N, D, V, H = 2, 12, 24, 37, 4
"""Two texts of 12 tokens; width, vocabulary and heads of 8 of the small architectures."""


def test_every_figure_of_a_small_decoder() -> None:
    arch = decoder(bare(attention=MHA))
    ledger = measured(arch).ledger
    rows = B * N
    # All positions carry loss: no rows are picked, and the logits are those of every position, in fp32.
    assert ledger.at("loss_rows", "hbm_bytes") is None
    assert ledger.at("loss", "loss_tokens") == rows
    assert ledger.at("lm_head", "logits_bytes") == 4 * rows * V
    # log-softmax reads and writes the logits; nll reads its targets and as many entries, and writes mean and weight.
    assert ledger.at("loss", "hbm_bytes") == 2 * 4 * rows * V + (8 + 4) * rows + 4 + 4
    assert (ledger.at("loss", "params"), ledger.at("loss", "matmul_flops")) == (0, 0)
    # Four projections, three of SwiGLU with 40, the core's two products, the head.
    q_width = H * 8
    forward = 2 * rows * (4 * D * q_width + 3 * D * 40 + D * V) + 2 * 2 * B * H * N * N * 8
    assert ledger.total("matmul_flops") == forward
    # Every matrix takes the gradient of its input and of itself, every product of the core those of both operands.
    assert ledger.at("", "matmul_flops_backward") == 2 * forward


def test_a_fused_backward_computes_the_scores_again() -> None:
    arch = decoder(bare(attention=MHA))
    for device in ("cpu", "meta"):
        ledger = measured(arch, attention="fused", device=device).ledger
        core = ledger.at("layers.0.attn.core", "matmul_flops")
        assert core == 2 * 2 * B * H * N * N * 8
        # Two products forward; backward the scores, and the gradients of v, weights, q and k.
        rest = ledger.total("matmul_flops") - core
        assert ledger.at("", "matmul_flops_backward") == 2 * rest + core // 2 * 5


def test_only_rows_with_loss_reach_the_head() -> None:
    ledger = measured(ALL["bert"]).ledger
    m = 2  # (3 * 12 + 10) / 20
    assert ledger.at("loss", "loss_tokens") == B * m
    assert ledger.at("loss_rows", "hbm_bytes") == 8 * B * m + 2 * B * m * D * 4
    assert ledger.at("lm_head", "logits_bytes") == B * m * V * 4
    assert ledger.at("head.dense", "matmul_flops") == 2 * B * m * D * D
    assert ledger.at("lm_head", "matmul_flops") == 2 * B * m * D * V
    assert ledger.at("pooler", "hbm_bytes") == 0, "the pooler carries no loss"
    assert ledger.at("pooler", "params") == D * D + D


def test_logits_in_16_bits_are_cast_for_the_loss() -> None:
    bf16 = Dtypes()
    arch = decoder(layer())
    ledger = measure_training(
        build(arch, dtypes=bf16), workload(arch, dtypes=bf16), execution("unfused", "meta"), text=TEXT
    ).ledger
    rows = B * N
    assert ledger.at("lm_head", "logits_bytes") == 2 * rows * V
    assert ledger.at("loss", "hbm_bytes") == (2 + 4) * rows * V + 2 * 4 * rows * V + (8 + 4) * rows + 8


def test_nothing_is_cached() -> None:
    for name in ("window", "rope pair"):
        ledger = measured(ALL[name]).ledger
        assert not [entry for entry in ledger if entry.quantity == "kv_cache_bytes"]
        caches = [path for path in ledger.paths() if path.endswith("cache")]
        assert caches
        assert all(ledger.at(path, "hbm_bytes") == 0 for path in caches)


@pytest.mark.parametrize("name", TRAINED)
def test_meta_counts_what_the_cpu_counts(name: str) -> None:
    """Unfused attention launches the same kernels everywhere, but for LayerNorm's statistics, which fp32 makes equal."""
    here, shapes = measured(TRAINED[name]), measured(TRAINED[name], device="meta")
    assert {(e.path, e.quantity): e.value for e in here.ledger} == {
        (e.path, e.quantity): e.value for e in shapes.ledger
    }
    assert here.kernels == shapes.kernels
    assert here.loss is not None
    # Small weights: all tokens are nearly equally likely.
    assert abs(here.loss - math.log(V)) < 0.3
    assert all(layer.norm is not None and layer.norm > 0 for layer in here.gradients)
    assert shapes.loss is None
    assert [(layer.path, None) for layer in here.gradients] == [(g.path, g.norm) for g in shapes.gradients]


@pytest.mark.parametrize("objective", STRUCTURES)
def test_the_measured_count_is_that_of_the_mask(objective: Objective) -> None:
    arch = next(arch for arch in TRAINED.values() if arch.structure == STRUCTURES[objective])
    big = replace(arch, vocab_size=200)
    ledger = measured(big, objective, device="meta", text=16, batch=3).ledger
    work = workload(big, objective, text=16, batch=3)
    batch = training_batch(objective, text=16, batch=3, vocab_size=200, prefix_tokens=work.prefix_tokens)
    assert ledger.at("loss", "loss_tokens") == int(batch.mask.sum())


# --- the loss and its gradients -----------------------------------------------------------------


def families() -> dict[str, ArchSpec]:
    """Every kind of attention in every stack that it goes with, besides the architectures of gqa."""
    found: dict[str, ArchSpec] = {}
    for mask, structure in (("causal", "causal-decoder"), ("bidirectional", "encoder")):
        for number, attention in enumerate(kinds()):
            spec = layer(position=NoPosition(), attention=attention)  # type: ignore[arg-type]
            arch = model(stack(spec, mask=mask), structure=structure, head=LmHead())  # type: ignore[arg-type]
            bidirectional_only = attention.kind in ("clustered", "linformer", "nystrom")
            if not (mask == "causal" and bidirectional_only):
                found[f"{structure}, {attention.kind} {number}"] = arch
        prior = bare(Gaussian(), attention=MHA)
        found[f"{structure}, gaussian"] = model(stack(prior, mask=mask), structure=structure, head=LmHead())  # type: ignore[arg-type]
    return found


FAMILIES = families()


def gradients(arch: ArchSpec, attention: str) -> dict[str, torch.Tensor]:
    """The gradients of weights that are large enough for attention to matter."""
    twin = build(arch, dtypes=FP32, device="cpu")
    _enlarge(twin)
    session = TrainingSession(twin, workload(arch), execution(attention, "cpu"), text=TEXT)
    with session.training():
        loss = session.forward().loss
        assert loss is not None
        return dict(session.gradients(loss))


def _enlarge(twin: Twin) -> None:
    with torch.no_grad():
        for name, parameter in twin.named_parameters():
            if parameter.dim() > 1 and "embed" not in name:
                parameter.mul_(8)


@pytest.mark.parametrize("name", [*TRAINED, *FAMILIES])
def test_fused_and_unfused_have_the_same_gradients(name: str) -> None:
    arch = {**TRAINED, **FAMILIES}[name]
    unfused = gradients(arch, "unfused")
    assert unfused
    try:
        fused = gradients(arch, "fused")
    except NoFusedKernel as reason:
        assert any(word in name for word in ("softcap", "t5", "gaussian")), reason
        return
    assert set(fused) == set(unfused)
    for parameter, gradient in unfused.items():
        scale = float(gradient.abs().max())
        assert torch.allclose(fused[parameter], gradient, rtol=1e-3, atol=1e-4 * scale + 1e-7), parameter


@pytest.mark.parametrize("name", [*TRAINED, *FAMILIES])
def test_the_gradients_are_the_slope_of_the_loss(name: str) -> None:
    """A step along the gradient changes the loss by the step times the gradient's norm."""
    arch = {**TRAINED, **FAMILIES}[name]
    twin = build(arch, dtypes=FP32, device="cpu")
    _enlarge(twin)
    session = TrainingSession(twin, workload(arch), execution("unfused", "cpu"), text=TEXT)

    def loss() -> torch.Tensor:
        found = session.forward().loss
        assert found is not None
        return found

    with session.training():
        slopes = session.gradients(loss())
        norm = math.sqrt(sum(float(g.double().pow(2).sum()) for g in slopes.values()))
        step = min(0.005 / norm, 0.01)  # the loss changes by a hundredth: far above rounding, near the tangent
        values = []
        for side in (1, -1):
            with torch.no_grad():
                for parameter_name, gradient in slopes.items():
                    twin.get_parameter(parameter_name).add_(gradient, alpha=side * step / norm)
                values.append(loss().double())
                for parameter_name, gradient in slopes.items():
                    twin.get_parameter(parameter_name).sub_(gradient, alpha=side * step / norm)
    slope = float((values[0] - values[1]) / (2 * step))
    assert slope == pytest.approx(norm, rel=0.02)


def test_the_loss_is_the_mean_cross_entropy_of_the_positions_with_loss() -> None:
    arch = replace(ALL["bert"], vocab_size=60)
    twin = build(arch, dtypes=FP32, device="cpu")
    session = TrainingSession(twin, workload(arch), execution("unfused", "cpu"), text=TEXT)
    with session.training():
        output = session.forward()
    assert output.logits is not None
    assert output.loss is not None
    assert output.logits.shape == (B * 2, 60)
    expected = F.cross_entropy(output.logits.detach().double(), session.batch.labels[session.batch.mask])
    assert output.loss.detach().item() == pytest.approx(float(expected), rel=1e-6)


def test_a_layer_s_norm_is_that_of_all_its_parameters() -> None:
    arch = CAUSAL["biases"]
    found = measured(arch).gradients
    twin = build(arch, dtypes=FP32, device="cpu")
    session = TrainingSession(twin, workload(arch), execution("unfused", "cpu"), text=TEXT)
    with session.training():
        loss = session.forward().loss
        assert loss is not None
        slopes = session.gradients(loss)
    assert [layer.path for layer in found] == ["layers.0", "layers.1"]
    for gradient in found:
        flat = torch.cat([g.flatten() for name, g in slopes.items() if name.startswith(f"{gradient.path}.")])
        assert gradient.norm == pytest.approx(float(flat.norm()), rel=1e-5)


# --- what stays behind, and what is refused -----------------------------------------------------


def _as_before(twin: Twin) -> bool:
    leaves = {path for path, module in twin.named_modules() if isinstance(module, Leaf)}
    untouched = all(not p.requires_grad and p.grad is None for p in twin.parameters())
    return untouched and not leaves & {"loss", "loss_rows"}


def test_the_twin_is_put_back() -> None:
    arch = ALL["bert"]
    twin = build(arch, dtypes=FP32, device="cpu")
    work = workload(arch)
    session = TrainingSession(twin, work, execution("unfused", "cpu"), text=TEXT)
    with session.training():
        assert all(p.requires_grad for p in twin.parameters())
        assert {"loss", "loss_rows"} <= {path for path, _ in twin.leaves}
    assert _as_before(twin)
    with pytest.raises(KeyError), session.training():
        raise KeyError
    assert _as_before(twin)
    measure_training(twin, work, execution("unfused", "cpu"), text=TEXT)
    assert _as_before(twin)


def test_what_torch_cannot_differentiate_is_refused_by_its_path() -> None:
    with pytest.raises(NoFusedKernel, match=r"^layers\.0\.attn\.core: .* no gradient for a learned bias") as refusal:
        measured(CAUSAL["t5"], attention="fused")
    assert refusal.value.path == "layers.0.attn.core"
    assert measured(CAUSAL["t5"], attention="fused", device="meta").kernels == {
        f"layers.{i}.attn.core": "efficient" for i in (0, 1)
    }


def test_an_op_of_the_backward_without_a_rule_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    table = {packet: kind for packet, kind in ops._KINDS.items() if packet is not torch.ops.aten.nll_loss_backward}
    monkeypatch.setattr(ops, "_KINDS", table)
    with pytest.raises(UnknownOp, match="nll_loss_backward"):
        measured(decoder(layer()))


def test_every_family_can_be_trained() -> None:
    """The lists above hold what they are meant to."""
    trained = {name.split(", ")[1].split()[0] for name in FAMILIES}
    assert trained == {"gaussian", *(attention.kind for attention in kinds())}
    for arch in FAMILIES.values():
        check_workload(arch, workload(arch))
