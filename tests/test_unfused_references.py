"""The named unfused references and the compiled grouping, prediction against witness (docs/reference-unfused.md).

Every row of every pass is equal: parameters, FLOPs, bytes of every leaf, caches and the peak of live bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from llmprof.errors import InputError
from llmprof.measure.groups import compiled_groups
from llmprof.measure.run import measure
from llmprof.predict.api import predict
from llmprof.spec.arch import (
    Alibi,
    ArchSpec,
    ChannelMix,
    Glu,
    Gqa,
    LayerNorm,
    LayerSpec,
    Mask,
    MlmHead,
    Mlp,
    RmsNorm,
    Rope,
    Sinusoidal,
    Structure,
    T5Bias,
)
from llmprof.twin.build import build
from llmprof.twin.session import Session
from llmprof.twin.unfused import NoReference
from llmprof.workload import UNFUSED_REFERENCES, Dtypes, Execution, UnfusedReference, Workload
from tests.confirming import disagreements, rows
from tests.importing import EVERYTHING
from tests.predict_samples import arch, decode, layer, prefill, stack

BF16 = Dtypes()
FP16 = Dtypes(weights="fp16", activations="fp16", kv_cache="fp16")
FP32 = Dtypes(weights="fp32", activations="fp32", kv_cache="fp32")
MIXED = Dtypes(weights="fp32", activations="bf16", kv_cache="fp16")
MHA, GQA, MQA = (Gqa(n_heads=4, n_kv_heads=k, head_dim=8) for k in (4, 2, 1))
ONE = Gqa(n_heads=1, n_kv_heads=1, head_dim=8)
ROPE = Rope(theta=1e4)
_STRUCTURES: dict[Mask, Structure] = {
    "causal": "causal-decoder",
    "prefix": "prefix-decoder",
    "bidirectional": "encoder",
}


def model(*layers: LayerSpec, mask: Mask = "causal") -> ArchSpec:
    return arch(stack(layers, mask=mask, final_norm=RmsNorm()), d=24, v=37, structure=_STRUCTURES[mask])


ENCODER_DECODER = arch(
    stack([layer(GQA), layer(replace(GQA, window=4))], prefix="encoder.", mask="bidirectional", final_norm=RmsNorm()),
    stack([layer(MHA, cross=GQA), layer(MQA, cross=MHA)], prefix="decoder.", final_norm=RmsNorm()),
    d=24,
    v=37,
    structure="encoder-decoder",
)
ARCHS: dict[str, ArchSpec] = {
    "mha": model(layer(MHA, position=ROPE), layer(MHA)),
    "gqa": model(layer(GQA, position=ROPE), layer(replace(GQA, scale=1.0))),
    "mqa": model(layer(MQA), layer(ONE)),
    "windows": model(layer(replace(GQA, window=3)), layer(MHA), layer(replace(MQA, window=4)), layer(GQA)),
    "chunk": model(layer(replace(GQA, chunk=4)), layer(replace(MHA, chunk=4))),
    "options": model(
        layer(replace(GQA, qk_norm=RmsNorm(), qkv_bias=True, output_gate="head"), position=ROPE),
        layer(replace(GQA, shared_kv=True, qk_norm=RmsNorm(), qkv_bias=True), position=ROPE),
    ),
    "prefix": model(layer(GQA), layer(MHA), mask="prefix"),
    "bidirectional": model(layer(GQA), layer(replace(MHA, window=4)), layer(MQA), mask="bidirectional"),
    "encoder-decoder": ENCODER_DECODER,
}
OF_ONE: dict[str, tuple[UnfusedReference, ArchSpec]] = {
    "softcap": ("hf-eager", model(layer(replace(GQA, softcap=20.0)), layer(replace(MHA, softcap=20.0, window=3)))),
    "sinks": ("hf-eager", model(layer(replace(GQA, sinks=True)), layer(replace(MQA, sinks=True, window=3)))),
    "alibi": ("sdpa-math", model(layer(GQA, position=Alibi()), layer(MHA, position=Alibi()))),
    "t5": ("sdpa-math", model(*[layer(GQA, position=T5Bias(n_buckets=8, max_distance=20))] * 2)),
}


def passes(spec: ArchSpec, dtypes: Dtypes) -> Iterator[Workload]:
    """A whole prompt, a part of one, one of a single token, and a step of decode, for one sequence and for two."""
    source = 5 if spec.structure == "encoder-decoder" else 0
    prefixes = (0, 2, 7) if spec.structure == "prefix-decoder" else (0,)
    for batch in (1, 2):
        for prefix in prefixes:
            yield prefill(7, batch=batch, source=source, prefix=prefix, dtypes=dtypes)
            if spec.structure == "encoder":
                continue
            if not source:
                yield prefill(3, batch=batch, context=7, prefix=prefix, dtypes=dtypes)
                if batch == 2:
                    yield prefill(1, batch=batch, context=7, prefix=prefix, dtypes=dtypes)
            yield decode(7, batch=batch, source=source, prefix=prefix, dtypes=dtypes)


def fewer(spec: ArchSpec, dtypes: Dtypes) -> Iterator[Workload]:
    """Every kind of pass of two sequences, and the whole prompt of one; of no prefix and a whole one the prompt alone."""
    prefix = 2 if spec.structure == "prefix-decoder" else 0
    for work in passes(spec, dtypes):
        whole = work.new_tokens == work.context
        if EVERYTHING or (work.batch == 2 and whole) or (work.prefix_tokens == prefix and (work.batch == 2 or whole)):
            yield work


def confirm(
    spec: ArchSpec, reference: UnfusedReference, dtypes: Dtypes, device: str, run: Callable[..., Iterator[Workload]]
) -> None:
    """Every row of every pass that `run` yields agrees."""
    kernels = "cpu" if device == "cpu" else "cuda"
    execution = Execution(attention="unfused", kernels=kernels, reference=reference)  # type: ignore[arg-type]
    for work in run(spec, dtypes):
        assert disagreements(rows(spec, work, execution, device=device)) == [], work


NAMED: tuple[UnfusedReference, ...] = ("hf-eager", "sdpa-math")
"""Those beside `lean-eager`, which every other confirmation runs."""


@pytest.mark.parametrize("reference", NAMED)
@pytest.mark.parametrize("name", ARCHS)
def test_every_row_on_meta(name: str, reference: UnfusedReference) -> None:
    confirm(ARCHS[name], reference, BF16, "meta", passes if name in ("mha", "gqa") else fewer)


@pytest.mark.parametrize("dtypes", [FP16, FP32, MIXED], ids=["fp16", "fp32", "mixed"])
@pytest.mark.parametrize("reference", NAMED)
@pytest.mark.parametrize("name", ["mha", "gqa", "mqa"])
def test_every_row_in_other_dtypes(name: str, reference: UnfusedReference, dtypes: Dtypes) -> None:
    confirm(ARCHS[name], reference, dtypes, "meta", fewer)


@pytest.mark.parametrize("dtypes", [FP16, FP32], ids=["fp16", "fp32"])
@pytest.mark.parametrize("reference", NAMED)
@pytest.mark.parametrize("name", ["gqa"])
def test_every_row_on_the_cpu(name: str, reference: UnfusedReference, dtypes: Dtypes) -> None:
    confirm(ARCHS[name], reference, dtypes, "cpu", fewer)


@pytest.mark.parametrize("name", OF_ONE)
def test_options_that_one_of_them_has(name: str) -> None:
    confirm(OF_ONE[name][1], OF_ONE[name][0], MIXED, "meta", fewer)


@pytest.mark.parametrize("name", OF_ONE)
def test_both_halves_refuse_them_of_the_other(name: str) -> None:
    owner, spec = OF_ONE[name]
    (other,) = set(NAMED) - {owner}
    execution = Execution(attention="unfused", reference=other)
    with pytest.raises(InputError, match=f"layers.0.attn.*{other}"):
        predict(spec, prefill(7), execution)
    with pytest.raises(NoReference, match=f"layers.0.attn.*{other}"):
        measure(build(spec, dtypes=BF16), prefill(7), execution)


def test_matmul_flops_are_those_of_every_reference() -> None:
    for work in passes(ARCHS["gqa"], BF16):
        found = {
            tuple(
                predict(ARCHS["gqa"], work, Execution(attention="unfused", reference=name)).ledger.total(quantity)
                for quantity in ("matmul_flops", "matmul_flops_causal")
            )
            for name in UNFUSED_REFERENCES
        }
        assert len(found) == 1


def one_layer_each(spec: ArchSpec) -> ArchSpec:
    return replace(spec, stacks=tuple(replace(each, layers=each.layers[:1]) for each in spec.stacks))


COMPILED: dict[str, ArchSpec] = {
    "pre": ARCHS["gqa"],
    "options": ARCHS["options"],
    "post": model(layer(MHA, placement="post", norm=LayerNorm(), ffn=Mlp(kind="gelu", d_ff=40, bias=True))),
    "sandwich": model(layer(GQA, placement="sandwich", norm=RmsNorm(unit_offset=True))),
    "reordered": model(layer(replace(GQA, qk_norm=RmsNorm(), qk_norm_over="all-heads"), placement="reordered", position=ROPE)),
    "parallel": model(*[layer(GQA, block="parallel", norm=LayerNorm(), position=Rope(theta=1e4, rotary_dim=4))] * 2),
    "parallel, two norms": model(layer(GQA, block="parallel", parallel_norms=2)),
    "part of a head": model(layer(replace(GQA, qk_norm=RmsNorm()), position=Rope(theta=1e4, rotary_dim=4))),
    "as many keys as queries": model(layer(MHA, position=ROPE), layer(replace(MHA, qk_norm=RmsNorm()), position=ROPE)),
    "norms with a bias": model(layer(replace(MHA, qk_norm=LayerNorm()), position=ROPE), layer(replace(GQA, qk_norm=LayerNorm()), position=ROPE)),
    "channel mix": model(layer(GQA, ffn=ChannelMix(d_ff=40))),
    "masked": arch(
        stack([layer(GQA, norm=LayerNorm())], mask="bidirectional", embedding_norm=LayerNorm()),
        d=24, v=37, structure="encoder", head=MlmHead(norm=LayerNorm()),
    ),
    "sinusoids": arch(stack([layer(GQA, ffn=Glu(kind="swiglu-clamped", d_ff=8, limit=2.0))], embedded_position=Sinusoidal()), d=24, v=37),
    "encoder-decoder": one_layer_each(ENCODER_DECODER),
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "dtypes", "which"),
    [
        *(pytest.param(name, BF16, 0, id=name) for name in COMPILED),
        pytest.param("options", MIXED, -1, id="options, mixed dtypes, decode"),
        pytest.param("encoder-decoder", MIXED, -1, id="encoder-decoder, mixed dtypes, decode"),
    ],
)
def test_compiled_groups_are_what_inductor_counts(name: str, dtypes: Dtypes, which: int) -> None:
    """The bytes of the leaves of a group add up to what inductor's scheduler counts for it; no other leaf changes."""
    spec = COMPILED[name]
    work = list(passes(spec, dtypes))[which]
    eager = predict(spec, work, Execution(attention="unfused")).ledger
    compiled = predict(spec, work, Execution(attention="unfused", grouping="compiled")).ledger
    groups = compiled_groups(Session(build(spec, dtypes=dtypes), work, Execution(attention="unfused")))
    assert groups
    told = {group.paths: sum(compiled.at(path, "hbm_bytes") or 0 for path in group.paths) for group in groups}
    assert told == {group.paths: group.counted.bytes for group in groups}
    grouped = {path for group in groups for path in group.paths}
    others = [entry for entry in eager if entry.quantity == "hbm_bytes" and entry.path not in grouped]
    assert others
    assert [compiled.at(entry.path, "hbm_bytes") for entry in others] == [entry.value for entry in others]
    assert compiled.total("matmul_flops") == eager.total("matmul_flops")
