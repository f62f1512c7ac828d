"""Which architectures and which degrees docs/reference-sharding.md has rules for: what has none is refused here.

Searches ask thousands of times, so what an architecture says once and for all is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from llmprof.errors import InputError
from llmprof.spec.arch import (
    Alibi,
    ArchSpec,
    Glu,
    Gqa,
    LayerSpec,
    LmHead,
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
from llmprof.workload import QUANTISED, Dtypes, Workload

LISTED = 1024
"""The largest degree that a message lists: a batch may have more divisors than anybody reads."""
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
    widths: tuple[int, ...]
    expert_widths: tuple[int, ...]
    n_experts: tuple[int, ...]
    row_widths: tuple[int, ...]
    parallel_experts: bool
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
    rows = [gqa.n_heads * gqa.head_dim for gqa in gqas] + [mla.n_heads * mla.value_dim for mla in mlas]
    return Facts(
        arch=arch,
        reason=_without_rule(arch),
        indivisible=_first(arch, _indivisible),
        grouped=tuple(dict.fromkeys(gqas)),
        latent_heads=_once(mla.n_heads for mla in mlas),
        widths=_once(widths),
        expert_widths=_once(moe.expert.d_ff for moe in mixtures),
        n_experts=_once(moe.n_experts for moe in mixtures),
        row_widths=_once([*rows, *widths]),
        parallel_experts=any(layer.block == "parallel" and isinstance(layer.ffn, Moe) for layer in layers),
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
    if not isinstance(layer.attention, Gqa | Mla | NoAttention):
        return f"attention of kind {layer.attention.kind}"
    if isinstance(layer.ffn, Moe) and layer.ffn.latent is not None:
        return "experts that see a latent"
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


# --- degrees ----------------------------------------------------------------------------------


def tensor_parallel_degrees(
    arch: ArchSpec, *, expert_parallel: int = 1, dtypes: Dtypes | None = None
) -> tuple[int, ...]:
    """The degrees that fit every layer of `arch`, an architecture that the page has rules for.

    `expert_parallel` of the ranks share the experts of each layer; those alone are listed that it divides. `dtypes`:
    those that the parts of packed matrices allow.
    """
    known = facts(arch)
    if known.indivisible is not None:
        return (1,) if expert_parallel == 1 else ()
    heads = [*(gqa.n_heads for gqa in known.grouped), *known.latent_heads]
    most = min(heads or known.widths or known.expert_widths, default=1)
    return tuple(
        n
        for n in range(expert_parallel, most + 1, expert_parallel)
        if tensor_misfit(arch, n, columns=n // expert_parallel, dtypes=dtypes) is None
    )


def tensor_misfit(arch: ArchSpec, n: int, *, columns: int, dtypes: Dtypes | None = None) -> str | None:
    """Why n ranks cannot share the layers of `arch`, `columns` of them those of one expert; None where they can."""
    known = facts(arch)
    for gqa in known.grouped:
        if gqa.n_heads % n:
            return f"it does not divide n_heads ({gqa.n_heads})"
        if gqa.n_kv_heads % n and n % gqa.n_kv_heads:
            return f"it neither divides n_kv_heads ({gqa.n_kv_heads}) nor is a multiple of them"
        if n > 1 and gqa.qk_norm is not None and gqa.qk_norm_over == "all-heads":
            return "it divides the heads that one norm of queries or keys runs over (all-heads), in layers"
    for n_heads in known.latent_heads:
        if n_heads % n:
            return f"it does not divide n_heads ({n_heads})"
    for d_ff in known.widths:
        if d_ff % n:
            return f"it does not divide d_ff ({d_ff})"
    for d_ff in known.expert_widths:
        if d_ff % columns:
            each = "it does" if columns == n else f"the {columns} ranks that share each expert do"
            return f"{each} not divide the d_ff of an expert ({d_ff})"
    if dtypes is not None and dtypes.weights == "int4":
        return _split_groups(known, n, columns, dtypes.group_size)
    return None


def _split_groups(known: Facts, n: int, columns: int, group_size: int) -> str | None:
    """Where a part of the inputs of an int4 matrix would be no whole number of groups, or of bytes."""
    for widths, ranks in ((known.row_widths, n), (known.expert_widths, columns)):
        for width in widths if ranks > 1 else ():
            if width // ranks % group_size or width // ranks % 2:
                return (
                    f"the {width // ranks} inputs that a rank has of {width} are no whole number of int4 groups of "
                    f"{group_size}"
                )
    return None


def expert_misfit(arch: ArchSpec, x: int, *, tensor: int, data: int) -> str | None:
    """Why x > 1 of the ranks cannot share the experts of `arch`, `tensor` of them in each of `data` replicas."""
    known = facts(arch)
    if not known.n_experts:
        return f"{arch.label} has no experts"
    if tensor % x and not (data > 1 and x == tensor * data):
        others = f", nor all ranks of {data} replicas ({tensor * data})" if data > 1 else ""
        return f"it is no divisor of tensor_parallel ({tensor}){others}"
    for number in known.n_experts:
        if number % x:
            return f"it does not divide n_experts ({number}) of {arch.label}"
    for d_ff in known.expert_widths if tensor % x == 0 else ():
        if d_ff % (tensor // x):
            return f"the {tensor // x} ranks that share each expert do not divide d_ff ({d_ff}) of {arch.label}"
    return None


def check_context_parallel(arch: ArchSpec, workload: Workload, c: int) -> None:
    """Raise InputError where c > 1 ranks cannot share the tokens of a sequence."""
    w, known = workload, facts(arch)
    without = f"context_parallel is {c}, but"
    if w.phase != "prefill" or w.new_tokens != w.context:
        what = "the phase is decode" if w.phase == "decode" else f"{w.context - w.new_tokens} tokens came before"
        raise InputError(f"{without} {what}: ranks share the tokens of a fresh prompt alone; leave it at 1")
    if w.new_tokens % (2 * c):
        works = list_of(
            n for n in range(1, min(w.new_tokens // 2, LISTED) + 1) if n == 1 or w.new_tokens % (2 * n) == 0
        )
        raise InputError(
            f"{without} {2 * c} chunks, two for each rank, do not divide the {w.new_tokens} new tokens; use one of: "
            f"{works}"
        )
    if known.latent_heads:
        raise InputError(
            f"{without} {arch.label} has attention of kind mla, for which rings have no rule; leave it at 1"
        )
    if known.alibi:
        raise InputError(
            f"{without} {arch.label} has positions of kind alibi, for which rings have no rule; leave it at 1"
        )
    multiple = 4 if w.dtypes.activations in ("fp32", "tf32") else 8
    for gqa in known.grouped:
        if gqa.sinks:
            raise InputError(f"{without} {arch.label} has sinks, which no rule of a ring is about; leave it at 1")
        if gqa.softcap is not None:
            raise InputError(f"{without} {arch.label} caps its scores (softcap), which no kernel of a ring does")
        for name, reach in (("window", gqa.window), ("chunk", gqa.chunk)):
            if reach is not None and reach < w.context:
                raise InputError(
                    f"{without} {arch.label} has a {name} of {reach}, shorter than the {w.context} tokens, for which "
                    "rings have no rule; leave it at 1"
                )
        if gqa.head_dim % multiple:
            raise InputError(
                f"{without} no fused kernel takes a head_dim of {gqa.head_dim} in {w.dtypes.activations}, which is no "
                f"multiple of {multiple}; leave it at 1"
            )


def check_divides(name: str, degree: int, whole: int, what: str) -> None:
    """Raise InputError where `degree` does not divide `whole`, which is called `what`."""
    if whole % degree:
        works = list_of(n for n in range(1, min(whole, LISTED) + 1) if whole % n == 0)
        more = ", or a larger divisor" if whole > LISTED else ""
        raise InputError(f"{name} is {degree}, which does not divide {what}; use one of: {works}{more}")


def list_of(degrees: Iterable[int]) -> str:
    """``1, 2, 4``."""
    return ", ".join(map(str, degrees))
