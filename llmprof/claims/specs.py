"""What the checks ask of specs: structure as the specs state it, and parameters as `llmprof.predict` counts them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache

from llmprof import catalog
from llmprof.predict.api import parameters
from llmprof.spec.arch import ArchSpec, Glu, Gqa, LayerSpec, Mlp
from llmprof.spec.load import SpecFile, load_text

ADDED: Mapping[str, Mapping[str, object]] = {
    "bart-large:deepnet": {
        "encoder.residual": {"kind": "deepnorm", "rule": "deepnet"},
        "decoder.residual": {"kind": "deepnorm", "rule": "deepnet"},
    },
}
"""Variants that a check needs and no file states: nobody released an encoder-decoder with DeepNorm."""


class Specs:
    """Finds the specs that a check asks for and remembers them: they are what its figures rest on."""

    def __init__(self, find: Callable[[str], ArchSpec] | None = None) -> None:
        self._find = shipped if find is None else find
        self.used: dict[str, ArchSpec] = {}

    def __call__(self, ref: str) -> ArchSpec:
        """The architecture that a name, or name:variant, of the catalogue stands for."""
        arch = self._find(ref)
        self.used[arch.label] = arch
        return arch

    def all(self, refs: Iterable[str]) -> list[ArchSpec]:
        """The same for several."""
        return [self(ref) for ref in refs]


def shipped(ref: str) -> ArchSpec:
    """A spec of the catalogue, or one of `ADDED`. Raises InputError and SpecError as the catalogue does."""
    name, variant = catalog.split(ref)
    if ref not in ADDED:
        return _file(name).arch(variant)
    assert variant is not None
    document = _file(name).document()
    return load_text(json.dumps({**document, "variants": {variant: ADDED[ref]}}), ref).arch(variant)


@cache
def _file(name: str) -> SpecFile:
    return catalog.find(name)


def folded(archs: Sequence[ArchSpec]) -> str:
    """The names of several models as one: ``t5-{small,base}``."""
    labels = [arch.label for arch in archs]
    if len(labels) == 1:
        return labels[0]
    stem = labels[0].rpartition("-")[0] + "-"
    assert all(label.startswith(stem) for label in labels), f"one family has one stem: {labels}"
    return f"{stem}{{{','.join(label.removeprefix(stem) for label in labels)}}}"


# --- structure --------------------------------------------------------------------------------


def layers(arch: ArchSpec) -> Iterator[LayerSpec]:
    """Every layer of every stack."""
    for stack in arch.stacks:
        yield from stack.layers


def norm_kinds(archs: Iterable[ArchSpec]) -> list[str]:
    """The kinds of norm in the layers of these models."""
    return list(dict.fromkeys(layer.norm.kind for arch in archs for layer in layers(arch)))


def ffn_kinds(archs: Iterable[ArchSpec]) -> list[str]:
    """The kinds of feed-forward part in the layers of these models."""
    return list(dict.fromkeys(layer.ffn.kind for arch in archs for layer in layers(arch)))


def d_ff(arch: ArchSpec) -> int:
    """The feed-forward width, the same in all layers."""
    (width,) = {plain_ffn(layer).d_ff for layer in layers(arch)}
    return width


def plain_ffn(layer: LayerSpec) -> Mlp | Glu:
    """The feed-forward part of a layer that has one, and no experts."""
    assert isinstance(layer.ffn, Mlp | Glu), f"{layer.ffn.kind}: the checks know feed-forward parts of one width"
    return layer.ffn


def attention(arch: ArchSpec) -> Gqa:
    """The attention, the same in all layers."""
    (found,) = {layer.attention for layer in layers(arch)}
    assert isinstance(found, Gqa), f"{arch.label}: the checks know multi-head, grouped and multi-query attention"
    return found


def changed(arch: ArchSpec, change: Callable[[LayerSpec], LayerSpec]) -> ArchSpec:
    """`arch` with every layer changed."""
    stacks = tuple(replace(stack, layers=tuple(map(change, stack.layers))) for stack in arch.stacks)
    return replace(arch, stacks=stacks)


def with_kv_heads(arch: ArchSpec, n_kv_heads: int) -> ArchSpec:
    """`arch` with another number of key/value heads in every layer."""
    now = replace(attention(arch), n_kv_heads=n_kv_heads)
    return changed(arch, lambda layer: replace(layer, attention=now))


def with_d_ff(arch: ArchSpec, width: int) -> ArchSpec:
    """`arch` with another feed-forward width in every layer."""
    return changed(arch, lambda layer: replace(layer, ffn=replace(plain_ffn(layer), d_ff=width)))


# --- parameters -------------------------------------------------------------------------------


def layer_params(arch: ArchSpec, part: str) -> int:
    """The parameters of one part, ``attn`` or ``ffn``, of the first layer of the main stack."""
    start = f"{arch.main.prefix}layers.0.{part}."
    return sum(count for path, count in parameters(arch).by_path.items() if path.startswith(start))


def ffn_matrices(arch: ArchSpec) -> int:
    """How many matrices the feed-forward part of the first layer has."""
    start = f"{arch.main.prefix}layers.0.ffn."
    return sum(1 for path, count in parameters(arch).by_path.items() if path.startswith(start) and count)
