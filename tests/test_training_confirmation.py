"""A training pass is what was predicted, tolerance 0: forward, logits, positions with loss and backward.

One spec or variant of each structure in the catalogue under its own objective on meta, and on CPU too small models of every kind of attention,
mixer and feed-forward with every option. What these are asked pairs attention, dtypes and length; with LLMPROF_EVERY=1 every
combination is asked on both devices.
"""

from __future__ import annotations

import itertools

import pytest

from llmprof import confirm
from llmprof.errors import InputError
from llmprof.measure.training import measure_training
from llmprof.objectives import default_objective, training_workload
from llmprof.predict.api import predict
from llmprof.profiling.objective import predicted_part
from llmprof.spec.arch import ArchSpec, Attention, Gaussian, Gqa, LayerPosition, Mask, Mla, Rope
from llmprof.spec.slice import slice_arch, smallest_slice
from llmprof.twin.build import build
from llmprof.twin.core import NoFusedKernel
from llmprof.workload import Dtypes, Execution
from tests.confirming import BF16, FP32, WITHOUT_FUSED_KERNEL, catalogued, disagreements, workload
from tests.families import kinds
from tests.importing import EVERYTHING
from tests.modern import NAMES, modern
from tests.predict_samples import arch, layer, stack
from tests.structures import one_of_each

ARCHS = one_of_each(a for a in catalogued() if a.head.kind != "none")
STRUCTURE: dict[Mask, str] = {"causal": "causal-decoder", "prefix": "prefix-decoder", "bidirectional": "encoder"}
MIXED = Dtypes(weights="fp32", activations="bf16", kv_cache="bf16")


def found(spec: ArchSpec, *, text: int, way: str, device: str, dtypes: Dtypes) -> list[str]:
    """The rows of a training pass that do not agree."""
    work = training_workload(spec, default_objective(spec), text=text, batch=2, prefix_tokens=None, dtypes=dtypes)
    execution = Execution(attention=way, kernels="cpu" if device == "cpu" else "cuda")  # type: ignore[arg-type]
    measured = measure_training(build(spec, dtypes=dtypes, device=device), work, execution, text=text)
    prediction = predict(spec, work, execution)
    told, _ = predicted_part(prediction, measured.ledger)
    rows = confirm.join(prediction.ledger, told, attention=way, phase="train", witness="dispatch trace")
    quantities = {row.quantity for row in rows}
    assert {"matmul_flops", "hbm_bytes", "logits_bytes", "loss_tokens", "matmul_flops_backward"} <= quantities
    assert "kv_cache_bytes" not in quantities
    return disagreements(rows)


@pytest.mark.parametrize("spec", ARCHS, ids=lambda a: a.label)
def test_every_structure_under_its_own_objective(spec: ArchSpec) -> None:
    small = slice_arch(spec, smallest_slice(spec)).arch
    text = workload(small, "prefill", tokens=20).new_tokens
    for way, dtypes in (("fused", BF16), ("unfused", FP32)):
        try:
            differing = found(small, text=text, way=way, device="meta", dtypes=dtypes)
        except NoFusedKernel:
            assert spec.label in WITHOUT_FUSED_KERNEL
            continue
        assert differing == [], (way, dtypes)


CASES: list[tuple[Attention, LayerPosition | None]] = [
    *((attention, Rope(theta=10000.0)) for attention in kinds(n_heads=2)),
    (Gqa(n_heads=4, n_kv_heads=2, head_dim=8), Gaussian()),
    (Gqa(n_heads=4, n_kv_heads=2, head_dim=8, softcap=3.0), None),
]


EVERY = list(itertools.product(("unfused", "fused"), (FP32, MIXED), (12, 36)))
"""Lengths are multiples of every block, segment and factor; 36 rows pad the efficient kernel's to 64."""

ASKED = {
    "meta": [("unfused", FP32, 12), ("fused", MIXED, 12), ("unfused", MIXED, 36), ("fused", FP32, 36)],
    "cpu": [("fused", FP32, 12), ("unfused", MIXED, 12), ("fused", MIXED, 36), ("unfused", FP32, 36)],
}
"""On each device attention, dtypes and length meet in pairs; what the one leaves out the other has."""


def test_nothing_that_is_asked_of_a_kind_is_left_out_on_both_devices() -> None:
    assert sorted(map(repr, ASKED["meta"] + ASKED["cpu"])) == sorted(map(repr, EVERY))
    for settings in ASKED.values():
        for one, other in ((0, 1), (0, 2), (1, 2)):
            assert len({(each[one], each[other]) for each in settings}) == 4
    for name in TRAINED:
        assert {*asked(name, "cpu"), *asked(name, "meta")} == set(SETTINGS)
        for device in ("cpu", "meta"):
            assert {way for way, _, _ in asked(name, device)} == {"fused", "unfused"}


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize(("attention", "position"), CASES, ids=lambda v: getattr(v, "kind", "none"))
def test_every_kind_of_attention(attention: Attention, position: LayerPosition | None, device: str) -> None:
    for mask in attention.masks:
        if mask == "prefix":
            continue  # the prefix decoders of the catalogue stand for it
        spec = arch(stack([layer(attention, position=position)], mask=mask), d=16, v=37, structure=STRUCTURE[mask])  # type: ignore[arg-type]
        for way, dtypes, text in EVERY if EVERYTHING else ASKED[device]:
            try:
                differing = found(spec, text=text, way=way, device=device, dtypes=dtypes)
            except NoFusedKernel as reason:
                assert way == "fused"
                assert "softcap" in str(attention) or isinstance(position, Gaussian), reason
                continue
            assert differing == [], (mask, text, way, dtypes)


TRAINED = [name for name in NAMES if modern(name).head.kind != "none"]
SETTINGS = (("unfused", FP32, 9), ("fused", MIXED, 9), ("unfused", MIXED, 12), ("fused", FP32, 12))
"""9 tokens leave a last chunk of four that is ragged, 12 do not."""


def asked(name: str, device: str) -> tuple[tuple[str, Dtypes, int], ...]:
    """Both ways and both dtypes at one length; at which one the other device is asked, and the next name here."""
    if EVERYTHING:
        return SETTINGS
    return SETTINGS[:2] if (TRAINED.index(name) + (device == "cpu")) % 2 else SETTINGS[2:]


def test_the_modern_architectures_are_trained_but_for_the_headless() -> None:
    assert set(NAMES) - set(TRAINED) == {
        "embedding-width-headless",
        "encoder-moe",
        "first-layer-without-norm",
        "symmetric-window-alibi",
    }


def has_latent(spec: ArchSpec) -> bool:
    return any(isinstance(each.attention, Mla) for side in spec.stacks for each in side.layers)


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("name", TRAINED)
def test_every_modern_architecture(name: str, device: str) -> None:
    spec = modern(name)
    # A fused kernel whose values are narrower than its keys is CUDA's alone, and takes multiples of eight; that of the
    # CPU has no gradient for a learned bias.
    refusing = has_latent(spec) and (device == "cpu" or name == "mla-odd")
    refusing |= device == "cpu" and name == "t5-per-layer"
    for way, dtypes, text in asked(name, device):
        if way == "fused" and refusing:
            with pytest.raises(NoFusedKernel):
                found(spec, text=text, way=way, device=device, dtypes=dtypes)
        else:
            assert found(spec, text=text, way=way, device=device, dtypes=dtypes) == [], (way, dtypes, text)


def test_a_model_without_a_head_cannot_be_trained() -> None:
    (headless,) = (a for a in catalogued() if a.label == "structures:no-head")
    with pytest.raises(InputError, match="head"):
        training_workload(headless, "causal-lm", text=8, batch=1, prefix_tokens=None, dtypes=BF16)
