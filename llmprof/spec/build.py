"""From the document tree to an `ArchSpec`: everything expanded, every default made explicit."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

from llmprof.spec.arch import (
    ArchSpec,
    Gqa,
    Head,
    LayerNorm,
    LayerPosition,
    LayerSpec,
    Learned,
    LmHead,
    Mask,
    Mtp,
    Norm,
    RmsNorm,
    Sinusoidal,
    Stack,
    Structure,
    T5Bias,
)
from llmprof.spec.cross_rules import check_heads_alone
from llmprof.spec.document import (
    STACK_KEYS,
    Document,
    Group,
    NoNorm,
)
from llmprof.spec.groups import MAX_LAYERS, Plan, plan
from llmprof.spec.lenders import with_lenders
from llmprof.spec.nodes import Map, Scalar
from llmprof.spec.problems import Report
from llmprof.spec.residuals import residual_of
from llmprof.spec.rules import check_document, check_group, check_sizes, check_stack
from llmprof.spec.validate import check

MAX_MTP = 1_000
"""Far beyond any model: released ones have one to three."""

_STACKS: dict[str, tuple[tuple[str, str, Mask], ...]] = {
    "causal-decoder": (("layers", "", "causal"),),
    "prefix-decoder": (("layers", "", "prefix"),),
    "encoder": (("layers", "", "bidirectional"),),
    "encoder-decoder": (("encoder", "encoder.", "bidirectional"), ("decoder", "decoder.", "causal")),
}

# Where the structure is misspelt, the stacks are still read, each as what its key says.
_GUESSED: dict[str, Mask] = {"layers": "causal", "encoder": "bidirectional", "decoder": "causal"}


def build(node: Map, variant: str | None, report: Report) -> tuple[Document, ArchSpec] | None:
    """One architecture from its resolved document, or None with every problem reported."""
    check_sizes(node, report)
    document = check(Document, node, report)
    structure = _structure(node)
    expected = _STACKS[structure] if structure is not None else ()
    if structure is not None:
        _right_stacks(node, structure, report)
    masks: dict[str, Mask] = {key: mask for key, _, mask in expected} or _GUESSED
    plans = {
        key: made
        for key in masks
        if key in node.items and (made := plan(key, node.items[key], node, report)) is not None
    }
    groups = {key: _groups(key, made, report) for key, made in plans.items()}
    for key, made in plans.items():
        if document is not None and structure is not None:
            check_stack(made, groups[key], masks[key], document.max_context, report)
    if document is not None and structure is not None:
        check_document(document, node, structure, report)
        _few_enough(plans, report)
    if report or document is None or structure is None:
        return None
    depths = {key: made.n_layers for key, made in plans.items()}
    built = tuple(
        _stack(key, prefix, mask, plans[key], groups[key], document, depths, report) for key, prefix, mask in expected
    )
    mtp = _mtp(document, node, built[-1], report)
    if report:
        return None
    return document, ArchSpec(
        name=document.name,
        variant=variant,
        structure=structure,
        sources=document.source,
        d_model=document.d_model,
        vocab_size=document.vocab_size,
        max_context=document.max_context,
        tied_embeddings=document.tied_embeddings,
        stacks=built,
        head=_head(document),
        pooler=document.pooler,
        embedding_scale=document.embedding.scale,
        embedding_width=document.embedding.width,
        type_vocab_size=document.embedding.type_vocab_size,
        mtp=mtp,
        published=document.published,
        release=document.release,
        # The names are those of the base's weights; a variant is another model.
        aliases=document.aliases if variant is None else (),
    )


def _mtp(document: Document, node: Map, stack: Stack, report: Report) -> Mtp | None:
    """The layers that predict further tokens; they stand in a causal decoder alone."""
    said = document.mtp
    if said is None:
        return None
    written = node.items["mtp"]
    assert isinstance(written, Map)
    if document.structure != "causal-decoder" or not isinstance(_head(document), LmHead):
        report.key(node, "mtp", "mtp layers", "mtp layers in a causal-decoder with a head of kind lm only")
        return None
    if said.count > MAX_MTP:
        report.value(written.items["count"], f"at most {MAX_MTP:,} layers that predict further tokens")
        return None
    layers = {layer.group: layer for layer in stack.layers}
    layer = layers.get(said.like)
    if layer is None:
        report.value(written.items["like"], f"the name of a group of layers: {', '.join(layers)}")
        return None
    if isinstance(layer.attention, Gqa) and layer.attention.shared_kv:
        report.value(
            written.items["like"],
            "a group that has keys and values of its own",
            "the layers that could lend theirs are not before an mtp layer",
        )
        return None
    if isinstance(layer.position, T5Bias):
        report.value(
            written.items["like"], "a group without a t5-bias", "its table is made for the layers of the stack alone"
        )
        return None
    return Mtp(count=said.count, layer=replace(layer, lends_kv=False), norm=layer.norm)


def _structure(node: Map) -> Structure | None:
    written = node.get("structure")
    for structure in get_args(Structure):
        if isinstance(written, Scalar) and written.value == structure:
            found: Structure = structure
            return found
    return None


def _right_stacks(node: Map, structure: Structure, report: Report) -> None:
    wanted = tuple(key for key, _, _ in _STACKS[structure])
    article = "an" if structure[0] == "e" else "a"
    for key in STACK_KEYS:
        if key in wanted and key not in node.items:
            report.missing(node, key, f"the {'layers' if key == 'layers' else key + ' stack'} of {article} {structure}")
        elif key not in wanted and key in node.items:
            report.key(node, key, f"found {key!r} in {article} {structure}", " and ".join(map(repr, wanted)))


def _few_enough(plans: dict[str, Plan], report: Report) -> None:
    """A bound on all stacks together; each alone is bounded where it is laid out."""
    total = sum(made.n_layers for made in plans.values())
    if total > MAX_LAYERS:
        last = list(plans.values())[-1].node
        report.value(last, f"at most {MAX_LAYERS:,} layers in all", found=f"found {total:,} layers with this stack")


def _groups(key: str, made: Plan, report: Report) -> dict[str, Group]:
    read = {}
    for name, node in made.groups.items():
        group = check(Group, node, report)
        if group is not None:
            read[name] = group
            check_group(key, group, node, report)
        else:
            check_heads_alone(node, report)
    return read


def _stack(
    key: str,
    prefix: str,
    mask: Mask,
    made: Plan,
    groups: dict[str, Group],
    document: Document,
    depths: dict[str, int],
    report: Report,
) -> Stack:
    # One LayerSpec per group, shared by all its layers: equal layers are the same object.
    specs = {name: _layer(name, group, key, depths) for name, group in groups.items()}
    layers = with_lenders(made, tuple(spec for name, count in made.runs for spec in (specs[name],) * count), report)
    own = made.frame.embedding_norm
    return Stack(
        prefix=prefix,
        mask=mask,
        layers=layers,
        embedded_position=made.frame.position,
        embedding_norm=_norm(own if own is not None else document.embedding.norm),
        final_norm=_final_norm(made, specs, report),
        front=made.frame.front,
    )


def _layer(name: str, group: Group, stack: str, depths: dict[str, int]) -> LayerSpec:
    norm = _norm(group.norm)
    assert norm is not None
    assert not isinstance(group.position, Learned | Sinusoidal)
    position: LayerPosition = group.position
    return LayerSpec(
        group=name,
        attention=group.attention,
        ffn=group.ffn,
        norm=norm,
        placement=group.norm.placement,
        position=position,
        block="serial" if group.block == "serial" else "parallel",
        parallel_norms=2 if group.block == "parallel-two-norms" else 1,
        residual=residual_of(group.residual, stack, depths),
        cross_attention=group.cross_attention,
        mixer=group.mixer,
        first_norm=group.norm.first,
    )


def _final_norm(made: Plan, specs: dict[str, LayerSpec], report: Report) -> Norm | None:
    if made.frame.final_norm is not None:
        return _norm(made.frame.final_norm)
    defaults = {(layer.norm if layer.placement != "post" else None) for layer in specs.values()}
    if len(defaults) > 1:
        report.missing(made.node, "final_norm", "a norm or none, stated where the groups' norms differ")
        return None
    return defaults.pop()


def _norm(said: LayerNorm | RmsNorm | NoNorm | None) -> Norm | None:
    match said:
        case LayerNorm():
            return LayerNorm(weight=said.weight, bias=said.bias, eps=said.eps)
        case RmsNorm():
            return RmsNorm(weight=said.weight, unit_offset=said.unit_offset, eps=said.eps)
        case _:
            return None


def _head(document: Document) -> Head:
    # `rules.check_document` has refused an encoder that does not say.
    return document.head if document.head is not None else LmHead()
