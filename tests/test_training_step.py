"""A whole training step is what was predicted, tolerance 0: backward, saved activations, peak, gradients and optimiser.

One small architecture of each structure, fused and unfused, whatever runs again in backward, on meta and on CPU; that
every kind of norm, position and feed-forward agrees is tests/test_training_confirmation.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import pytest

from llmprof import confirm
from llmprof.ledger import Row, Verdict
from llmprof.measure import live, own_rules, saved, training
from llmprof.measure.training import measure_training
from llmprof.objectives import default_objective, training_workload
from llmprof.predict.api import predict
from llmprof.profiling.objective import STEP, predicted_part
from llmprof.spec.arch import ArchSpec, Glu, Gqa, LayerNorm, Learned, LmHead, Mask, MlmHead, Mlp, RmsNorm, Rope, Stack
from llmprof.twin import loss as twin_loss
from llmprof.twin import optimizer as twin_optimizer
from llmprof.twin import positions as twin_positions
from llmprof.twin import recompute as twin_recompute
from llmprof.twin.block import Layer
from llmprof.twin.build import build
from llmprof.twin.core import NoFusedKernel
from llmprof.twin.training import TrainingSession
from llmprof.workload import RECOMPUTE, Dtypes, Execution, Recompute
from tests.confirming import BF16, FP32
from tests.faults import planted
from tests.modern import modern
from tests.unit.twin_archs import GQA, MHA, T5, bare, encoder_decoder, layer, model, stack

TEXT = 12
BIASED = Gqa(n_heads=4, n_kv_heads=4, head_dim=8, qkv_bias=True, out_bias=True)
GELU = Mlp(kind="gelu", d_ff=40, bias=True)
LN = LayerNorm()


def _post_norm(*, mask: Mask, prefix: str = "", **rest: object) -> Stack:
    """Two post-norm layers behind learned positions and a norm."""
    return stack(
        *[bare(attention=BIASED, norm=LN, placement="post", ffn=GELU, **rest)] * 2,  # type: ignore[arg-type]
        prefix=prefix,
        mask=mask,
        position=Learned(rows=32),
        embedding_norm=LN,
        final_norm=None,
    )


ARCHS: dict[str, ArchSpec] = {
    "gpt2": model(
        stack(
            *[bare(attention=BIASED, ffn=Mlp(kind="gelu-tanh", d_ff=40, bias=True), norm=LN)] * 2,
            position=Learned(rows=32),
            final_norm=LN,
        ),
        tied=True,
    ),
    "llama": model(stack(*[layer(attention=GQA, ffn=Glu(kind="swiglu", d_ff=40), norm=RmsNorm())] * 2)),
    "chatglm": model(
        stack(
            *[layer(attention=BIASED, position=Rope(theta=10000.0, axes=2), norm=LN, ffn=GELU)] * 2,
            mask="prefix",
            final_norm=LN,
        ),
        structure="prefix-decoder",
    ),
    "t5": encoder_decoder(
        bare(T5, attention=MHA, ffn=Mlp(kind="relu", d_ff=40)),
        bare(T5, attention=MHA, ffn=Glu(kind="geglu-tanh", d_ff=40)),
        tied=True,
        head=LmHead(input_scale=0.2),
    ),
    "bart": model(
        _post_norm(prefix="encoder.", mask="bidirectional"),
        _post_norm(prefix="decoder.", mask="causal", cross_attention=BIASED),
        structure="encoder-decoder",
        tied=True,
    ),
    "bert": model(
        _post_norm(mask="bidirectional"),
        structure="encoder",
        head=MlmHead(),
        tied=True,
        type_vocab_size=2,
        pooler=True,
    ),
}

Attention = Literal["fused", "unfused"]


def rows(
    arch: ArchSpec,
    *,
    attention: Attention = "unfused",
    device: str = "meta",
    batch: int = 2,
    dtypes: Dtypes = BF16,
    recompute: Recompute = "none",
    dropout: float = 0.0,
) -> list[Row]:
    """Every row of one step. NoFusedKernel passes through."""
    work = training_workload(
        arch,
        default_objective(arch),
        text=TEXT,
        batch=batch,
        prefix_tokens=None,
        dtypes=dtypes,
        recompute=recompute,
        dropout=dropout,
    )
    execution = Execution(attention=attention, kernels="cpu" if device == "cpu" else "cuda")
    measured = measure_training(build(arch, dtypes=dtypes, device=device), work, execution, text=TEXT)
    prediction = predict(arch, work, execution)
    told, notes = predicted_part(prediction, measured.ledger)
    assert notes == []
    return confirm.join(prediction.ledger, told, attention=attention, phase="train", witness="dispatch trace")


def differing(found: list[Row]) -> list[tuple[str, str, object, object]]:
    return [(r.path, r.quantity, r.predicted, r.measured) for r in found if r.verdict is not Verdict.AGREES]


@pytest.mark.parametrize("recompute", RECOMPUTE)
@pytest.mark.parametrize("attention", ["fused", "unfused"])
@pytest.mark.parametrize("name", ARCHS)
def test_a_step_of_every_structure(name: str, attention: Attention, recompute: Recompute) -> None:
    for device, batch, dtypes, dropout in (("meta", 2, BF16, 0.1), ("cpu", 1, FP32, 0.0)):
        if attention == "fused" and name == "t5" and device == "cpu":
            continue  # that kernel has no gradient for a learned bias
        found = rows(
            ARCHS[name],
            attention=attention,
            device=device,
            batch=batch,
            dtypes=dtypes,
            recompute=recompute,
            dropout=dropout,
        )
        assert differing(found) == [], (device, batch)
        assert {row.quantity for row in found} >= set(STEP)
        assert confirm.outcome(found) == "confirmed"


@pytest.mark.parametrize("name", ["llama", "t5", "bert"])
def test_sizes_that_decide_which_gradients_are_copied(name: str) -> None:
    """One sequence or several, and dropout in CPU tensors of 16 bits."""
    for batch, device, dtypes in ((1, "meta", BF16), (2, "cpu", BF16), (2, "meta", FP32)):
        found = rows(ARCHS[name], batch=batch, device=device, dtypes=dtypes, dropout=0.2)
        assert differing(found) == [], (batch, device)
    # In fp32 the peak stands where the gradient of a learned bias does.
    assert differing(rows(ARCHS[name], attention="fused", dtypes=FP32)) == []


def test_what_has_no_rule_is_measured_and_noted() -> None:
    arch = modern("sinks")
    work = training_workload(arch, default_objective(arch), text=TEXT, batch=1, prefix_tokens=None, dtypes=BF16)
    execution = Execution(attention="unfused")
    measured = measure_training(build(arch, dtypes=BF16), work, execution, text=TEXT).ledger
    prediction = predict(arch, work, execution)
    told, (note,) = predicted_part(prediction, measured)
    assert note.startswith("measured, not predicted: hbm_bytes_backward, saved_bytes, peak_live_bytes (layers.0: ")
    silent = {"hbm_bytes_backward", "saved_bytes", "peak_live_bytes"}
    assert not silent & {entry.quantity for entry in told}
    assert silent < {entry.quantity for entry in measured}
    joined = confirm.join(prediction.ledger, told, attention="unfused", phase="train", witness="dispatch trace")
    assert differing(joined) == []
    assert {"gradient_bytes", "optimizer_bytes", "hbm_bytes_optimizer"} <= {row.quantity for row in joined}


# --- planted faults -----------------------------------------------------------------------------

FAULTS: dict[str, tuple[Callable[..., Any], str, str, str, dict[str, Any]]] = {
    "a graph that is kept": (
        TrainingSession.gradients, "allow_unused=True", "allow_unused=True, retain_graph=True", "peak_live_bytes", {},
    ),
    "a peak of forward alone": (
        live.LiveBytes.observe, "if launch.is_kernel:", 'if launch.path != "backward":', "peak_live_bytes", {},
    ),
    "storage that the last leaf saves": (
        saved.SavedBytes._settle, "self._found.setdefault(saved.storage._cdata, saved)",
        "self._found[saved.storage._cdata] = saved", "saved_bytes", {},
    ),
    "a table whose rows are not read": (own_rules._table, "3 * distinct", "2 * distinct", "hbm_bytes_backward", {}),
    "a bias that is read": (
        own_rules._layer_norm, "(gradient, rows, mean, root, weight)", "(gradient, rows, mean, root, weight, *_[:1])",
        "hbm_bytes_backward", {},
    ),
    "early stop": (
        twin_recompute.computed_again, "early_stop(False)", "early_stop(True)", "hbm_bytes_backward",
        {"recompute": "full"},
    ),
    "a layer that does not run again": (
        Layer.forward, "if run.layers_again:", "if False:", "saved_bytes", {"recompute": "full"},
    ),
    "no master weights": (
        twin_optimizer._kept, "None if parameter.dtype == torch.float32 else", "None if True else",
        "optimizer_bytes", {},
    ),
    "gradients that are counted in fp32": (
        training._nbytes, "tensor.element_size()", "4", "gradient_bytes", {},
    ),
    "rows that get a copy of all gradients": (
        twin_loss._Chosen.backward, ".index_add_(", ".clone().index_add_(", "hbm_bytes_backward", {},
    ),
    "a T5 bias whose gradient is copied": (
        twin_positions._LaidOut.backward, ".permute(1, 2, 0)", ".permute(1, 2, 0).contiguous()",
        "hbm_bytes_backward", {},
    ),
}  # fmt: skip
SHOWN_BY = {"a T5 bias whose gradient is copied": "t5", "early stop": "llama"}
"""Others than bert, whose layers end with a kernel that saves something."""


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_the_measurement_differs(fault: str) -> None:
    function, old, new, quantity, how = FAULTS[fault]
    arch = ARCHS[SHOWN_BY.get(fault, "bert")]
    with planted(function, old, new):
        found = rows(arch, **how)
    assert quantity in {row.quantity for row in found if row.verdict is Verdict.DIFFERS}


def test_the_cpu_cannot_train_a_learned_bias_fused() -> None:
    with pytest.raises(NoFusedKernel):
        rows(ARCHS["t5"], attention="fused", device="cpu")
