"""Which architectures docs/reference-sharding.md has rules for, and what of them decides how they can be spread.

Searches ask thousands of times, so what an architecture says once and for all is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from llmprof.spec.arch import (
    Alibi,
    ArchSpec,
    GatedDeltaNet,
    Glu,
    Gqa,
    LayerSpec,
    LmHead,
    Mamba2,
    Mla,
    Mlp,
    Moe,
    NoAttention,
    NoFfn,
    NoHead,
    NoPosition,
    Rope,
)
from llmprof.training_rules import unlike_dtypes
from llmprof.workload import QUANTISED, Workload

_KEPT = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the rules ask of an architecture, each value once. `arch` is kept, so that its identity stays its own.

    `reason`: why no rule is about it; `indivisible`: why none is about ranks that share its layers. `widths`: d_ff of
    dense feed-forwards and shared experts; `expert_widths`: of experts. `row_widths`: d_in of the matrices that are
    split by rows, but for those of experts.
    """

    arch: ArchSpec
    reason: str | None
    indivisible: str | None
    grouped: tuple[Gqa, ...]
    latent_heads: tuple[int, ...]
    recurrent: tuple[GatedDeltaNet | Mamba2, ...]
    widths: tuple[int, ...]
    expert_widths: tuple[int, ...]
    n_experts: tuple[int, ...]
    row_widths: tuple[int, ...]
    parallel_experts: bool
    latent_experts: bool
    alibi: bool


_facts: dict[int, Facts] = {}


def facts(arch: ArchSpec) -> Facts:
    """Those of `arch`, found by identity: to hash an architecture takes longer than all that is asked of it."""
    known = _facts.get(id(arch))
    if known is None or known.arch is not arch:
        if len(_facts) >= _KEPT:
            _facts.clear()
        known = _facts[id(arch)] = _find(arch)
    return known


def _find(arch: ArchSpec) -> Facts:
    layers = tuple({id(layer): layer for layer in arch.main.layers}.values())
    attentions = [layer.attention for layer in layers]
    dense = [layer.ffn for layer in layers if isinstance(layer.ffn, Mlp | Glu)]
    mixtures = [layer.ffn for layer in layers if isinstance(layer.ffn, Moe)]
    widths = [ffn.d_ff for ffn in dense] + [moe.shared.d_ff for moe in mixtures if moe.shared is not None]
    gqas = [attention for attention in attentions if isinstance(attention, Gqa)]
    mlas = [attention for attention in attentions if isinstance(attention, Mla)]
    recurrent = [attention for attention in attentions if isinstance(attention, GatedDeltaNet | Mamba2)]
    rows = [gqa.n_heads * gqa.head_dim for gqa in gqas] + [mla.n_heads * mla.value_dim for mla in mlas]
    rows += [spec.d_inner if isinstance(spec, Mamba2) else spec.n_heads * spec.value_dim for spec in recurrent]
    return Facts(
        arch=arch,
        reason=_without_rule(arch),
        indivisible=_first(arch, _indivisible),
        grouped=tuple(dict.fromkeys(gqas)),
        latent_heads=_once(mla.n_heads for mla in mlas),
        recurrent=tuple(dict.fromkeys(recurrent)),
        widths=_once(widths),
        expert_widths=_once(moe.expert.d_ff for moe in mixtures),
        n_experts=_once(moe.n_experts for moe in mixtures),
        row_widths=_once([*rows, *widths]),
        parallel_experts=any(layer.block == "parallel" and isinstance(layer.ffn, Moe) for layer in layers),
        latent_experts=any(moe.latent is not None for moe in mixtures),
        alibi=any(isinstance(layer.attention, Gqa) and isinstance(layer.position, Alibi) for layer in layers),
    )


def _once(values: Iterable[int]) -> tuple[int, ...]:
    return tuple(dict.fromkeys(values))


# --- architectures ----------------------------------------------------------------------------


def without_rule(arch: ArchSpec) -> str | None:
    """Why `arch` is none of those that the page has rules for; None where it is."""
    return facts(arch).reason


def _without_rule(arch: ArchSpec) -> str | None:
    if arch.structure != "causal-decoder":
        return f"its structure is {arch.structure}"
    if not isinstance(arch.head, LmHead | NoHead):
        return f"its head is of kind {arch.head.kind}"
    if arch.embedding_width is not None:
        return "its token table has a width of its own (embedding_width)"
    if arch.pooler or arch.type_vocab_size:
        return "it has a pooler or segments"
    return _first(arch, _of_layer)


def _first(arch: ArchSpec, reason_of: Callable[[LayerSpec], str | None]) -> str | None:
    """The first layer of which there is something to say."""
    for index, layer in enumerate(arch.main.layers):
        reason = reason_of(layer)
        if reason is not None:
            return f"layers.{index} has {reason}"
    return None


def _of_layer(layer: LayerSpec) -> str | None:
    """What of `layer` has no rule, however it is spread."""
    if layer.cross_attention is not None:
        return "a cross-attention"
    if isinstance(layer.attention, Gqa):
        if layer.attention.shared_kv:
            return "attention to the keys and values of another layer"
        if not isinstance(layer.position, Rope | Alibi | NoPosition):
            return f"positions of kind {layer.position.kind}"
    return None


def _indivisible(layer: LayerSpec) -> str | None:
    """What of `layer` ranks cannot share."""
    if layer.mixer is not None:
        return f"a mixer ({layer.mixer.kind}) beside its attention"
    if layer.block == "parallel" and not layer.first_norm:
        return "a parallel block without a first norm"
    if not isinstance(layer.attention, Gqa | Mla | GatedDeltaNet | Mamba2 | NoAttention):
        return f"attention of kind {layer.attention.kind}"
    if not isinstance(layer.ffn, Mlp | Glu | Moe | NoFfn):
        return f"a feed-forward of kind {layer.ffn.kind}"
    return None


def workload_without_rule(workload: Workload) -> str | None:
    """What of `workload` has no rule."""
    dtypes = workload.dtypes
    if workload.phase == "train":
        return "the phase is train"
    if workload.mtp:
        return "layers that predict further tokens (mtp) run"
    return None if dtypes.weights in QUANTISED else unlike_dtypes(dtypes.weights, dtypes.activations)
