"""Decoding with fewer key/value heads: the printed times of MQA and GQA beside the bytes that a step moves.

Bytes are no times. What they bound, and what they leave open, is said; nothing is fitted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

from llmprof.claims.papers.figure import EXACT, Figure, Outcome, Study
from llmprof.claims.papers.shapes import architecture
from llmprof.claims.specs import shipped
from llmprof.predict.api import Prediction, predict
from llmprof.predict.parameters import parameters
from llmprof.spec.arch import ArchSpec, Gqa, LayerSpec
from llmprof.workload import Execution, Workload

# --- Shazeer 2019, table 2 ------------------------------------------------------------------------

SEQUENCES, LENGTH = 128, 128
"""Per core of a TPUv2: 1,024 sequences on eight of them; source and target are as long (section 4.1)."""

HEADS = 8

MULTI_HEAD_US, MULTI_QUERY_US = 46.0, 3.8
"""Microseconds of the decoder per output token, greedy, as printed."""


def _shazeer(name: str, kv_heads: int, d_ff: int) -> ArchSpec:
    """The translation model: 6 + 6 layers, 1,024 wide, 8 heads of 128 (section 4.1)."""

    def stack(**more: Any) -> dict[str, Any]:
        return {
            "count": 6,
            "norm": {"kind": "layernorm", "placement": "pre"},
            "attention": {"kind": "gqa", "n_heads": HEADS, "n_kv_heads": kv_heads, "head_dim": 128},
            "ffn": {"kind": "relu", "d_ff": d_ff},
            **more,
        }

    cross = {"kind": "gqa", "n_heads": HEADS, "n_kv_heads": kv_heads, "head_dim": 128}
    return architecture(
        name,
        "shazeer-2019",
        structure="encoder-decoder",
        vocab_size=32_000,
        d_model=1024,
        max_context=LENGTH,
        position={"kind": "sinusoidal"},
        encoder=stack(),
        decoder=stack(cross_attention=cross),
    )


def _multi_query() -> Outcome:
    steps = {
        "multi-head": _shazeer("shazeer-multi-head", HEADS, 4096),
        "multi-query": _shazeer("shazeer-multi-query", 1, 5440),
    }
    moved = {name: _mean_step(arch, SEQUENCES, LENGTH, LENGTH) for name, arch in steps.items()}
    cached = {name: _caches(arch, SEQUENCES, LENGTH, LENGTH) for name, arch in steps.items()}
    ratio = moved["multi-head"] / moved["multi-query"]
    printed = MULTI_HEAD_US / MULTI_QUERY_US
    figures = (
        Figure(of="multi-head over multi-query, a decoder step", printed=printed, ours=ratio, unit="x", tolerance=None),
        _ordered("multi-query takes less, as printed", (moved["multi-head"], moved["multi-query"])),
        Figure(
            of="parameters, multi-query over multi-head",
            printed=1,
            ours=parameters(steps["multi-query"]).total / parameters(steps["multi-head"]).total,
            unit="x",
            tolerance=EXACT,
        ),
    )
    remark = (
        f"A mean step moves {moved['multi-head'] / 1e6:.0f} MB with {HEADS} key/value heads and "
        f"{moved['multi-query'] / 1e6:.0f} MB with one: weights and activations stay, the caches fall from "
        f"{cached['multi-head'] / 1e6:.0f} to {cached['multi-query'] / 1e6:.0f} MB. No count of bytes gives the "
        f"printed {printed:.1f}: caches alone would give {cached['multi-head'] / cached['multi-query']:.0f}. The rest "
        "is how that implementation read keys and values on a TPUv2, which the paper does not say."
    )
    return Outcome(figures=figures, remarks=(remark,))


# --- Ainslie et al. 2023, table 1 -----------------------------------------------------------------

XXL = "t5-v1_1-xxl"
BATCH, SOURCE, TARGET = 32, 1024, 256
"""Assumed: the table is a mean over data sets of different lengths, which it does not print."""

SECONDS = {"MHA-XXL": (64, 1.51), "GQA-8-XXL": (8, 0.28), "MQA-XXL": (1, 0.24)}
"""Key/value heads, and seconds per sample as printed."""


def _grouped() -> Outcome:
    archs = {name: _with_kv_heads(shipped(XXL), heads) for name, (heads, _) in SECONDS.items()}
    moved = {name: _mean_step(arch, BATCH, SOURCE, TARGET) for name, arch in archs.items()}
    needed = {name: _weights_and_caches(arch, BATCH, SOURCE, TARGET) for name, arch in archs.items()}
    last = "MQA-XXL"
    figures = [
        Figure(
            of=f"{name} over {last}, {what}",
            printed=SECONDS[name][1] / SECONDS[last][1],
            ours=each[name] / each[last],
            unit="x",
            tolerance=None,
        )
        for name in ("MHA-XXL", "GQA-8-XXL")
        for what, each in (("op level", moved), ("weights and caches once", needed))
    ]
    figures.append(_ordered("MHA, GQA-8, MQA in the order of the printed times", tuple(moved.values())))
    seconds = {name: printed for name, (_, printed) in SECONDS.items()}
    remark = (
        f"Of what one key/value head saves, eight save {_saved(seconds):.0%} of the printed seconds, "
        f"{_saved(needed):.0%} of weights and caches, and {_saved(moved):.0%} at op level, where torch's kernel for "
        "T5's bias takes keys and values of every query head, which eight have to be copied for. Seconds per sample "
        "hold the encoder too, and data sets whose lengths the table does not print."
    )
    return Outcome(figures=tuple(figures), remarks=(remark,))


def _saved(of: Mapping[str, float]) -> float:
    """What eight key/value heads save of what one saves."""
    return (of["MHA-XXL"] - of["GQA-8-XXL"]) / (of["MHA-XXL"] - of["MQA-XXL"])


def _with_kv_heads(arch: ArchSpec, heads: int) -> ArchSpec:
    """`arch` with so many key/value heads in the self- and cross-attention of its decoder; the encoder stays."""

    def changed(layer: LayerSpec) -> LayerSpec:
        attention, cross = layer.attention, layer.cross_attention
        assert isinstance(attention, Gqa), layer
        assert cross is not None, layer
        return replace(
            layer,
            attention=replace(attention, n_kv_heads=heads),
            cross_attention=replace(cross, n_kv_heads=heads),
        )

    *encoders, decoder = arch.stacks
    return replace(arch, stacks=(*encoders, replace(decoder, layers=tuple(map(changed, decoder.layers)))))


# --- both -----------------------------------------------------------------------------------------


def _step(arch: ArchSpec, batch: int, source: int, context: int) -> Prediction:
    workload = Workload(phase="decode", batch=batch, new_tokens=1, context=context, source_tokens=source)
    return predict(arch, workload, Execution(attention="fused"))


def _mean_step(arch: ArchSpec, batch: int, source: int, target: int) -> float:
    """Op-level bytes of a decode step, the mean over a target of so many tokens: they grow evenly from step to step."""
    return (_step(arch, batch, source, 1).cost.hbm_bytes + _step(arch, batch, source, target).cost.hbm_bytes) / 2


def _weights_and_caches(arch: ArchSpec, batch: int, source: int, target: int) -> float:
    """Bytes of the decoder's layers and of the output matrix, and of the caches: each once, the mean over the steps."""
    ledger = _step(arch, batch, source, 1).ledger
    weights = ledger.subtree("decoder").total("weight_bytes") + (ledger.at("lm_head", "weight_bytes") or 0)
    return weights + _caches(arch, batch, source, target)


def _caches(arch: ArchSpec, batch: int, source: int, target: int) -> float:
    """Bytes of the caches, the mean over the same steps."""
    return (_step(arch, batch, source, 1).kv_cache_bytes + _step(arch, batch, source, target).kv_cache_bytes) / 2


def _ordered(of: str, sizes: tuple[float, ...]) -> Figure:
    """Whether `sizes` fall from one to the next: 1 where they do."""
    falls = all(one > other for one, other in pairwise(sizes))
    return Figure(of=of, printed=1, ours=int(falls), unit="holds", tolerance=EXACT)


MULTI_QUERY = Study(
    key="multi-query-decode",
    title="Multi-query attention, table 2: a decode step",
    subject="traffic",
    sources=("shazeer-2019",),
    assumptions=(
        f"{SEQUENCES} sequences per core, source and target of {LENGTH} tokens, bf16; the mean step of a target",
        "op-level bytes with fused attention; a time follows from them only where memory alone is waited for",
        "no biases; d_ff is 4,096, and 5,440 with one key/value head, to make parameters equal",
    ),
    compute=_multi_query,
)

GROUPED = Study(
    key="grouped-query-decode",
    title="Grouped-query attention, table 1: T5-XXL",
    subject="traffic",
    sources=("gqa",),
    assumptions=(
        f"a decode step of {XXL} in bf16, {BATCH} sequences, a source of {SOURCE:,} and a target of {TARGET} tokens",
        "key/value heads change in the decoder alone, in self- and in cross-attention",
        "op-level bytes with fused attention; the encoder's pass is left out",
    ),
    compute=_grouped,
)
