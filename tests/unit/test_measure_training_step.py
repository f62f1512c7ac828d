"""A training step on small twins: bytes of backward and optimiser, what is saved and the peak, by hand; what is dropped
and what runs again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from llmprof.errors import InputError
from llmprof.ledger import Ledger
from llmprof.measure.bytes import ByteCounter
from llmprof.measure.live import LiveBytes
from llmprof.measure.trace import tracing_step
from llmprof.measure.training import measure_training
from llmprof.objectives import default_objective, training_workload
from llmprof.spec.arch import ArchSpec, LayerNorm, Moe, NoAttention
from llmprof.twin.build import build
from llmprof.twin.core import NoFusedKernel
from llmprof.twin.optimizer import AdamW
from llmprof.twin.training import TrainingSession
from llmprof.workload import Dtypes, Execution, Recompute, Workload, check_workload
from tests.faults import planted
from tests.unit.twin_archs import ALL, GQA, MHA, RELU, SWIGLU, T5, bare, decoder, encoder_decoder, layer, model, stack

FP32 = Dtypes(weights="fp32", activations="fp32", kv_cache="fp32")
BF16 = Dtypes()
TEXT = 12


def workload(arch: ArchSpec, *, dtypes: Dtypes = FP32, recompute: Recompute = "none", dropout: float = 0.0) -> Workload:
    return training_workload(
        arch,
        default_objective(arch),
        text=TEXT,
        batch=2,
        prefix_tokens=None,
        dtypes=dtypes,
        recompute=recompute,
        dropout=dropout,
    )


def measured(arch: ArchSpec, *, attention: str = "unfused", device: str = "cpu", **how: object) -> Ledger:
    work = workload(arch, **how)  # type: ignore[arg-type]
    twin = build(arch, dtypes=work.dtypes, device=device)
    execution = Execution(attention=attention, kernels="cpu" if device == "cpu" else "cuda")  # type: ignore[arg-type]
    return measure_training(twin, work, execution, text=TEXT).ledger


def saved(ledger: Ledger) -> dict[str, int]:
    """What the paths that save something save."""
    return {entry.path: entry.value for entry in ledger if entry.quantity == "saved_bytes" and entry.value}


# --- bytes of single kernels --------------------------------------------------------------------

_aten = torch.ops.aten
IDS = torch.tensor([[0, 1], [1, 3]])
STEPS = torch.zeros(())
ADAMW: dict[str, object] = dict(
    lr=1e-3, beta1=0.9, beta2=0.999, weight_decay=0.0, eps=1e-8, amsgrad=False, maximize=False
)


def fp32(*shape: int) -> Tensor:
    return torch.ones(shape)


KERNELS: dict[str, tuple[Callable[..., object], tuple[object, ...], dict[str, object], int]] = {
    # 5 rows of 3 zeros; 4 ids; 4 rows of the gradient, each read and added to a row of the table
    "a table": (_aten.embedding_dense_backward, (fp32(2, 2, 3), IDS, 5, -1, False), {}, 60 + 32 + 3 * 48),
    # the loss's gradient, 2 targets, the total weight; zeros into [2, 3], and one entry a row
    "the loss": (
        _aten.nll_loss_backward,
        (fp32(), fp32(2, 3), torch.tensor([0, 2]), None, 1, -100, fp32()),
        {},
        4 + 16 + 4 + 24 + 8,
    ),
    # 6 values, into 12 zeros
    "a slice": (_aten.slice_backward, (fp32(2, 3), [2, 6], 1, 3, 6, 1), {}, 24 + 48 + 24),
    "a half": (_aten.select_backward, (fp32(2, 3), [2, 2, 3], 1, 0), {}, 24 + 48 + 24),
    # gradient, rows, two statistics and the weight; the gradients of rows, weight and bias. The bias is not read.
    "a norm": (
        _aten.native_layer_norm_backward,
        (fp32(2, 3), fp32(2, 3), [3], fp32(2, 1), fp32(2, 1), fp32(3), fp32(3), [True, True, True]),
        {},
        24 + 24 + 16 + 12 + 24 + 12 + 12,
    ),
    "a norm without weights": (
        _aten.native_layer_norm_backward,
        (fp32(2, 3), fp32(2, 3), [3], fp32(2, 1), fp32(2, 1), None, None, [True, False, False]),
        {},
        24 + 24 + 16 + 24,
    ),
    # written, and not read
    "new zeros": (_aten.new_zeros, (fp32(2, 3), [4]), {}, 16),
    "ones": (_aten.ones_like, (fp32(5),), {}, 20),
    # x read; x and a mask of a byte per value written; in backward gradient and mask read
    "dropout": (_aten.native_dropout, (fp32(2, 3), 0.5, True), {}, 24 + 24 + 6),
    "its backward": (_aten.native_dropout_backward, (fp32(2, 3), fp32(2, 3).bool(), 2.0), {}, 24 + 6 + 24),
    # 6 + 2 values: weights, gradients and moments read, weights and moments written; the count of steps read once
    "the optimiser": (
        _aten._fused_adamw_,
        (*([fp32(6), fp32(2)] for _ in range(4)), [], [STEPS, STEPS]),
        ADAMW,
        4 * 32 + 4 + 3 * 32,
    ),
}


@pytest.mark.parametrize("name", KERNELS)
def test_what_a_kernel_reads_and_writes(name: str) -> None:
    kernel, operands, options, expected = KERNELS[name]
    traffic = ByteCounter()
    with tracing_step((traffic,)):
        kernel(*operands, **options)
    assert sum(traffic.by_path.values()) == expected


# --- a whole step -------------------------------------------------------------------------------

N, D, V, FF = 2 * TEXT, 24, 200, 40
"""Rows of a batch, width, vocabulary and width of the feed-forward; all of fp32."""

PLAIN = model(stack(bare(attention=NoAttention(), ffn=RELU, norm=LayerNorm()), final_norm=LayerNorm()), vocab_size=V)
"""Token table, norm, two matrices around relu, residual, norm, head."""
VALUES = 2 * V * D + 2 * D * FF + 2 * 2 * D
"""Its parameters: table and head, two matrices, two norms."""


def test_every_figure_of_a_step() -> None:
    ledger = measured(PLAIN)
    rows, wide, scores = 4 * N * D, 4 * N * FF, 4 * N * V
    assert saved(ledger) == {
        "layers.0.ffn_norm": rows + 8 * N,
        "layers.0.ffn.up": rows,
        "layers.0.ffn.act": wide,  # relu's result, which `down` reads
        "final_norm": rows + 8 * N,
        "lm_head": rows,
        "loss": scores + 4,
    }
    norm = 2 * rows + 8 * N + 4 * D + rows + 8 * D
    matrix = (wide + rows + 4 * D * FF) + (4 * D * FF + wide + rows)  # its own gradient, and that of its input
    assert ledger.at("", "hbm_bytes_backward") == (
        4  # where backward starts
        + (4 + 4 + 8 * N + scores + 4 * N)  # the loss
        + 3 * scores  # log-softmax
        + (scores + rows + 4 * V * D)
        + (scores + 4 * V * D + rows)  # the head
        + 2 * norm
        + 2 * matrix
        + 3 * wide  # relu
        + 3 * rows  # the gradients of the residual and of its block are added
        + (4 * V * D + 8 * N + 3 * rows)  # the table
    )
    # The log-softmax's backward: all that is saved but the total weight; tokens, targets; logits, loss, where backward
    # started; two gradients of the logits.
    assert ledger.at("", "peak_live_bytes") == (4 * rows + 16 * N + wide + scores) + 16 * N + scores + 8 + 2 * scores
    assert ledger.total("gradient_bytes") == 4 * VALUES
    assert ledger.at("layers.0.ffn.up", "gradient_bytes") == 4 * D * FF
    assert ledger.total("optimizer_bytes") == 8 * VALUES
    assert ledger.at("", "optimizer_peak_bytes") == 4 * VALUES  # the gradients
    assert ledger.at("", "hbm_bytes_optimizer") == 12 + 28 * VALUES
    assert ledger.at("loss", "gradient_bytes") == 0


def test_a_step_in_16_bits() -> None:
    """fp32 copies around the norms and the loss; master weights and casts of gradients in the optimiser."""
    ledger = measured(replace(PLAIN, tied_embeddings=True), dtypes=BF16, device="meta")
    rows, wide = 2 * N * D, 2 * N * FF
    assert saved(ledger) == {
        "layers.0.ffn_norm": rows + 8 * N,  # statistics in fp32 on cuda, and so on meta
        "layers.0.ffn.up": rows,
        "layers.0.ffn.act": wide,
        "final_norm": rows + 8 * N,
        "lm_head": rows,
        "loss": 4 * N * V + 4,
    }
    values = VALUES - V * D
    assert ledger.at("embed", "gradient_bytes") == 2 * V * D
    assert ledger.at("lm_head", "gradient_bytes") == 0, "tied: it counts once"
    assert ledger.at("lm_head", "optimizer_bytes") == 0
    assert ledger.at("embed", "optimizer_bytes") == 12 * V * D
    assert ledger.total("optimizer_bytes") == 12 * values
    assert ledger.at("", "optimizer_peak_bytes") == (2 + 4) * values  # the gradients, and their casts
    assert ledger.at("", "hbm_bytes_optimizer") == 12 + 40 * values


def test_a_pooler_has_neither_gradient_nor_state() -> None:
    ledger = measured(ALL["bert"], device="meta")
    assert (ledger.at("pooler", "gradient_bytes"), ledger.at("pooler", "optimizer_bytes")) == (0, 0)
    assert ledger.at("head.dense", "gradient_bytes") == 4 * (24 * 24 + 24)


# --- what runs again ----------------------------------------------------------------------------

HEADS = bare(attention=MHA, ffn=RELU, norm=LayerNorm())
QKV = 4 * N * 4 * 8
"""q, k or v of 4 heads of 8, fp32."""


def test_what_an_attention_saves() -> None:
    found = saved(measured(decoder(HEADS)))
    scores = 4 * 2 * 4 * TEXT * TEXT
    # Two sequences: q, k and v are cloned into the order of heads.
    assert found["layers.0.attn.core"] == 3 * QKV + scores
    assert found["layers.0.attn.o_proj"] == QKV
    assert found["layers.0.attn.q_proj"] == 4 * N * D
    assert "layers.0.attn.k_proj" not in found, "the same input"
    fused = saved(measured(decoder(HEADS), attention="fused"))
    # q, k, v, the result and its log-sum-exp: `o_proj` reads the result.
    assert fused["layers.0.attn.core"] == 4 * QKV + 4 * 2 * 4 * TEXT
    assert "layers.0.attn.o_proj" not in fused


def test_selective_recomputation_keeps_what_goes_into_the_core() -> None:
    plain, again = measured(decoder(HEADS)), measured(decoder(HEADS), recompute="selective")
    assert saved(again) == {**saved(plain), "layers.0.attn.core": 3 * QKV}
    core = plain.at("layers.0.attn.core", "matmul_flops")
    assert core is not None
    assert again.at("", "matmul_flops_backward") == (plain.at("", "matmul_flops_backward") or 0) + core
    moved = plain.at("layers.0.attn.core", "hbm_bytes")
    assert again.at("", "hbm_bytes_backward") == (plain.at("", "hbm_bytes_backward") or 0) + (moved or 0)


def test_full_recomputation_keeps_what_goes_into_a_layer() -> None:
    arch = decoder(HEADS, HEADS)
    plain, again = measured(arch), measured(arch, recompute="full")
    rows = 4 * N * D
    kept = {path: size for path, size in saved(plain).items() if not path.startswith("layers.")}
    assert saved(again) == {"layers.0": rows, "layers.1": rows, **kept}
    inside = plain.subtree("layers")
    for backward, forward in (("matmul_flops_backward", "matmul_flops"), ("hbm_bytes_backward", "hbm_bytes")):
        assert again.at("", backward) == (plain.at("", backward) or 0) + inside.total(forward)  # type: ignore[arg-type]
        assert again.total(forward) == plain.total(forward)  # type: ignore[arg-type]
    assert (again.at("", "peak_live_bytes") or 0) < (plain.at("", "peak_live_bytes") or 0)


def test_layers_share_a_memory_and_a_bias() -> None:
    arch = encoder_decoder(bare(T5, ffn=RELU), bare(T5, ffn=RELU))
    found = saved(measured(arch, recompute="full", device="meta", attention="fused", dtypes=BF16))
    work = workload(arch)
    target, source = (2 * 2 * 24 * t for t in (work.new_tokens, work.source_tokens))

    def bias(length: int) -> int:
        return 2 * 4 * length * (-(-length // 8) * 8)  # rows are aligned to 8

    assert found["encoder.layers.0"] == source + bias(work.source_tokens)
    assert found["encoder.layers.1"] == source
    assert found["decoder.layers.0"] == target + source + bias(work.new_tokens)
    assert found["decoder.layers.1"] == target


@pytest.mark.parametrize("recompute", ["selective", "full"])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_what_runs_again_changes_no_gradient(recompute: Recompute, dropout: float) -> None:
    """The same values are dropped in backward as in forward."""
    for name in ("gqa", "bert", "t5 pair"):
        slopes = [_gradients(ALL[name], again, dropout) for again in ("none", recompute)]
        assert slopes[0].keys() == slopes[1].keys()
        for parameter, gradient in slopes[0].items():
            assert torch.equal(gradient, slopes[1][parameter]), (name, parameter)


def _gradients(arch: ArchSpec, recompute: Recompute, dropout: float) -> dict[str, Tensor]:
    twin = build(arch, dtypes=FP32, device="cpu")
    work = workload(arch, recompute=recompute, dropout=dropout)
    session = TrainingSession(twin, work, Execution(attention="unfused", kernels="cpu"), text=TEXT)
    torch.manual_seed(5)
    with session.training():
        loss = session.forward().loss
        assert loss is not None
        return dict(session.gradients(loss))


def test_stopping_early_would_leave_kernels_out() -> None:
    from llmprof.twin import recompute as twin_recompute

    whole = measured(decoder(HEADS), recompute="full").at("", "hbm_bytes_backward")
    with planted(twin_recompute.computed_again, "early_stop(False)", "early_stop(True)"):
        stopped = measured(decoder(HEADS), recompute="full").at("", "hbm_bytes_backward")
    rows = 4 * N * D
    # The second matrix's product and the residual behind it have nothing more to save.
    assert whole is not None
    assert stopped == whole - ((4 * N * FF + 4 * D * FF + rows) + 3 * rows)


# --- dropout ------------------------------------------------------------------------------------


def test_dropout_has_leaves_of_its_own() -> None:
    arch = decoder(HEADS)
    ledger = measured(arch, dropout=0.25)
    values, scores = N * D, 2 * 4 * TEXT * TEXT
    for path in ("embed_dropout", "layers.0.attn_dropout", "layers.0.ffn_dropout"):
        assert (ledger.at(path, "hbm_bytes"), ledger.at(path, "saved_bytes")) == (9 * values, values), path
        assert (ledger.at(path, "params"), ledger.at(path, "matmul_flops")) == (0, 0)
    plain = measured(arch)
    core = "layers.0.attn.core"
    assert (ledger.at(core, "hbm_bytes") or 0) - (plain.at(core, "hbm_bytes") or 0) == 9 * scores
    # The mask, and the weights as the values see them.
    assert (ledger.at(core, "saved_bytes") or 0) - (plain.at(core, "saved_bytes") or 0) == scores + 4 * scores
    # Each reads its gradient and its mask once more.
    more = (ledger.at("", "hbm_bytes_backward") or 0) - (plain.at("", "hbm_bytes_backward") or 0)
    assert more == 9 * (3 * values + scores)
    assert not [path for path in plain.paths() if path.endswith("dropout")]
    crossed = measured(ALL["t5 pair"], dropout=0.25, device="meta")
    assert crossed.at("decoder.layers.1.cross_dropout", "hbm_bytes")
    assert crossed.at("encoder.embed_dropout", "hbm_bytes")


def test_dropout_drops() -> None:
    twin = build(PLAIN, dtypes=FP32, device="cpu")
    session = TrainingSession(
        twin, workload(PLAIN, dropout=0.5), Execution(attention="unfused", kernels="cpu"), text=TEXT
    )
    torch.manual_seed(0)
    with session.training():
        x = torch.ones(64, 64)
        dropped = dict(twin.named_modules())["embed_dropout"](x)
    assert set(dropped.unique().tolist()) == {0.0, 2.0}
    assert abs(float((dropped == 0).float().mean()) - 0.5) < 0.05
    assert "embed_dropout" not in dict(twin.named_modules()), "the leaves are gone again"
    assert all(module is None or "dropout" not in name for name, module in twin._modules.items())


def test_the_kernel_of_the_cpu_drops_nothing() -> None:
    with pytest.raises(NoFusedKernel, match=r"^layers\.0\.attn\.core: .* no dropout"):
        measured(decoder(layer()), attention="fused", dropout=0.1)
    # The kernels of a GPU do, and move no more for it.
    fused, plain = (measured(decoder(layer()), attention="fused", device="meta", dropout=p) for p in (0.1, 0.0))
    assert fused.at("layers.0.attn.core", "hbm_bytes") == plain.at("layers.0.attn.core", "hbm_bytes")


def test_what_no_rule_is_about_is_refused() -> None:
    mixture = decoder(layer(ffn=Moe(n_experts=4, top_k=2, expert=SWIGLU)))
    for how in ({"dropout": 0.1}, {"recompute": "full"}):
        with pytest.raises(InputError, match=r"layers\.0: a feed-forward of kind moe, for which no rule"):
            workload(mixture, **how)
    assert workload(mixture).recompute == "none"
    lent = decoder(layer(lends_kv=True), layer(attention=replace(GQA, shared_kv=True)))
    with pytest.raises(InputError, match=r"layers\.1: keys and values of another layer"):
        workload(lent, recompute="full")
    assert workload(lent, recompute="selective", dropout=0.1).dropout == 0.1
    for probability in (1.0, -0.1):
        with pytest.raises(InputError, match=r"dropout is .*; it must be at least 0 and below 1"):
            workload(PLAIN, dropout=probability)
    inference = Workload(phase="prefill", batch=1, new_tokens=4, context=4, dropout=0.1)
    with pytest.raises(InputError, match="belong to the phase train, but the phase is prefill"):
        check_workload(PLAIN, inference)


# --- the optimiser ------------------------------------------------------------------------------


def _steps(parameters: dict[str, Tensor], gradients: list[dict[str, Tensor]]) -> None:
    optimizer = AdamW(parameters)
    for each in gradients:
        optimizer.step(each)


def test_a_step_is_that_of_torch() -> None:
    generator = torch.Generator().manual_seed(3)
    shapes = {"a": (5, 7), "b": (7,)}
    start = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    gradients = [{n: torch.randn(shape, generator=generator) for n, shape in shapes.items()} for _ in range(3)]
    ours = {name: value.clone() for name, value in start.items()}
    theirs = {name: torch.nn.Parameter(value.clone()) for name, value in start.items()}
    _steps(ours, gradients)
    reference = torch.optim.AdamW(theirs.values(), fused=True)
    for each in gradients:
        for name, parameter in theirs.items():
            parameter.grad = each[name].clone()
        reference.step()
    for name, value in start.items():
        assert torch.equal(ours[name], theirs[name].detach())
        assert not torch.equal(ours[name], value)


def test_16_bits_follow_their_master() -> None:
    """Steps too small for bf16 add up in fp32."""
    generator = torch.Generator().manual_seed(3)
    start = torch.randn(6, 4, generator=generator).to(torch.bfloat16)
    gradients = [{"a": torch.randn(6, 4, generator=generator).to(torch.bfloat16)} for _ in range(3)]
    ours = {"a": start.clone()}
    _steps(ours, gradients)
    master = {"a": start.to(torch.float32)}
    _steps(master, [{"a": each["a"].to(torch.float32)} for each in gradients])
    assert torch.equal(ours["a"], master["a"].to(torch.bfloat16))
    assert not torch.equal(ours["a"], start)


@pytest.mark.parametrize(("dtype", "casts"), [(torch.float32, 0), (torch.bfloat16, 4)])
def test_what_lives_in_a_step_beside_weights_and_states(dtype: torch.dtype, casts: int) -> None:
    """The gradients, and fp32 copies of all of them where they have 16 bits."""
    shapes = {"a": (5, 7), "b": (7,)}
    optimizer = AdamW({name: torch.ones(shape, dtype=dtype) for name, shape in shapes.items()})
    gradients = {name: torch.ones(shape, dtype=dtype) for name, shape in shapes.items()}
    live = LiveBytes(excluded=optimizer.tensors, constants=gradients.values())
    with tracing_step((live,)):
        optimizer.step(gradients)
    values = 5 * 7 + 7
    assert live.live == values * dtype.itemsize
    assert live.peak == values * (dtype.itemsize + casts)


def test_measuring_changes_no_weight() -> None:
    twin = build(PLAIN, dtypes=FP32, device="cpu")
    before = {name: parameter.clone() for name, parameter in twin.named_parameters()}
    measure_training(twin, workload(PLAIN), Execution(attention="unfused", kernels="cpu"), text=TEXT)
    assert all(torch.equal(before[name], parameter) for name, parameter in twin.named_parameters())


# --- that what is counted is all that there is --------------------------------------------------


def test_what_is_kept_in_secret_is_found() -> None:
    """After forward there live what hooks saw, constants, logits and loss, and nothing else."""
    from llmprof.twin.ffn import Act

    kept: list[Tensor] = []
    Act.kept = kept  # type: ignore[attr-defined]
    try:
        with (
            planted(Act.forward, "return self.function(x)", "self.kept.append(x)\n    return self.function(x)"),
            pytest.raises(RuntimeError, match="bytes are live after forward, but autograd and the caller keep"),
        ):
            measured(PLAIN)
    finally:
        del Act.kept  # type: ignore[attr-defined]


def test_backward_launches_the_same_kernels_either_way() -> None:
    """`.backward()` and `torch.autograd.grad`: the same gradients in the same order of kernels."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Names(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()  # type: ignore[no-untyped-call]
            self.seen: list[str] = []

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            out = func(*args, **(kwargs or {}))
            if "detach" not in func.name():
                self.seen.append(func.name())
            return out

    found = []
    for way in ("grad", "backward"):
        twin = build(ALL["gqa"], dtypes=FP32, device="cpu")
        session = TrainingSession(twin, workload(ALL["gqa"]), Execution(attention="unfused", kernels="cpu"), text=TEXT)
        with session.training():
            loss = session.forward().loss
            assert loss is not None
            with Names() as names:
                if way == "grad":
                    slopes = dict(session.gradients(loss))
                else:
                    torch.autograd.backward(loss)
                    slopes = {n: p.grad for n, p in twin.named_parameters() if p.grad is not None}
        found.append((names.seen, slopes))
    assert found[0][0] == found[1][0]
    for name, slope in found[0][1].items():
        assert torch.equal(slope, found[1][1][name])
