"""What architectures are made of, sizes aside: the kinds that their layers use, and what stands around them."""

from __future__ import annotations

from collections.abc import Iterable

from llmprof.spec.arch import ArchSpec, LayerSpec, Moe


def kinds_of(layer: LayerSpec) -> tuple[object, ...]:
    """What a layer is made of, without its sizes."""
    attention, ffn = layer.attention, layer.ffn
    options = (
        "window",
        "chunk",
        "sinks",
        "qkv_clip",
        "output_gate",
        "qk_norm",
        "softcap",
        "qkv_bias",
        "indexer",
        "q_rank",
    )
    return (
        layer.block,
        layer.norm.kind,
        layer.placement,
        layer.position.kind,
        attention.kind,
        *(bool(getattr(attention, name, None)) for name in options),
        layer.cross_attention is not None,
        None if layer.mixer is None else layer.mixer.kind,
        ffn.kind,
        (ffn.expert.kind, ffn.shared is not None, ffn.latent is not None) if isinstance(ffn, Moe) else None,
    )


def structure_of(arch: ArchSpec) -> tuple[object, ...]:
    """What an architecture is made of: the kinds that its layers use, and what stands around them."""
    around = (arch.structure, arch.head.kind, arch.tied_embeddings, arch.embedding_width is None, arch.mtp is None)
    return (*around, frozenset(kinds_of(layer) for stack in arch.stacks for layer in stack.layers))


def one_of_each(archs: Iterable[ArchSpec]) -> list[ArchSpec]:
    """The shallowest of each structure, for tests to which another size of the same kinds says nothing new."""
    found: dict[object, ArchSpec] = {}
    for arch in sorted(archs, key=lambda a: a.n_layers):
        found.setdefault(structure_of(arch), arch)
    return list(found.values())
