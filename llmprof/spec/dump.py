"""An architecture as a spec file: what `dump` writes, the loader reads back to the identical `ArchSpec`.

Everything is said, also what the language has a default for, so that a dump can be held against a paper
line by line and a variant against its base with a plain diff.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING, fields, replace
from typing import Any

from llmprof.spec.arch import ArchSpec, Ffn, LayerSpec, NoPosition, Norm, Published, Residual, Source, Stack
from llmprof.spec.document import GROUP_KEYS, Document
from llmprof.spec.emit import emit
from llmprof.spec.ffn_rules import WITH_BETA
from llmprof.spec.load import SpecFile


def dump(spec: ArchSpec | SpecFile) -> str:
    """A spec as YAML.

    An `ArchSpec` is written out in full; one that is a variant comes as the base of the file together with
    an empty variant of its name, so that ``load_text(dump(arch)).arch(arch.variant) == arch``. A `SpecFile`
    is written as its document says it, in the order of the language, aliases and variants included.
    """
    if isinstance(spec, SpecFile):
        return emit(_ordered({**spec.document(), **_variants(spec)}))
    return emit(_document(spec))


def _variants(spec: SpecFile) -> dict[str, Any]:
    written = spec.overrides()
    return {"variants": written} if written else {}


def _ordered(document: dict[str, Any]) -> dict[str, Any]:
    return {field.name: document[field.name] for field in fields(Document) if field.name in document}


def _document(arch: ArchSpec) -> dict[str, Any]:
    embedding: dict[str, Any] = {}
    if arch.embedding_scale is not None:
        embedding["scale"] = arch.embedding_scale
    if arch.embedding_width is not None:
        embedding["width"] = arch.embedding_width
    if arch.type_vocab_size:
        embedding["type_vocab_size"] = arch.type_vocab_size
    document: dict[str, Any] = {
        "name": arch.name,
        "source": [_source(source) for source in arch.sources],
        "structure": arch.structure,
        "vocab_size": arch.vocab_size,
        "d_model": arch.d_model,
        "max_context": arch.max_context,
        "tied_embeddings": arch.tied_embeddings,
    }
    if embedding:
        document["embedding"] = embedding
    for stack in arch.stacks:
        key = stack.prefix.removesuffix(".") or "layers"
        document[key] = _stack(key, stack)
    document["head"] = _said(arch.head)
    document["pooler"] = arch.pooler
    if arch.mtp is not None:
        document["mtp"] = {"count": arch.mtp.count, "like": _like(arch)}
    if arch.release is not None:
        document["release"] = _said(arch.release)
    published = {"published": _published(arch.published)} if arch.published is not None else {}
    if arch.variant is not None:
        return {**document, "variants": {arch.variant: published}}
    return {**document, **published}


def _like(arch: ArchSpec) -> str:
    """The group that the mtp layers are like, as `_stack` calls it; their own name where several groups are alike."""
    assert arch.mtp is not None
    wanted = _body(arch.mtp.layer)
    alike = [layer.group for layer in _told_apart(arch.main.layers) if _body(layer) == wanted]
    return arch.mtp.layer.group if arch.mtp.layer.group in alike else alike[0]


def _stack(key: str, stack: Stack) -> dict[str, Any]:
    runs = _runs(_told_apart(stack.layers))
    groups = {layer.group: _group(layer) for layer, _ in runs}
    lines: dict[str, Any] = {}
    if stack.embedded_position is not None:
        # Layers that add nothing of their own take `none` from a position that is added to the embeddings.
        lines["position"] = _said(stack.embedded_position)
        for layer, _ in runs:
            if isinstance(layer.position, NoPosition):
                groups[layer.group].pop("position", None)
    lines["embedding_norm"] = _norm(stack.embedding_norm)
    lines["final_norm"] = _norm(stack.final_norm)
    if stack.front is not None:
        lines["front"] = _said(stack.front)
    # A stack has one position: beside one that is added to the embeddings, the layers' own needs a group.
    if list(groups) == [key] and not (stack.embedded_position is not None and "position" in groups[key]):
        return {"count": len(stack.layers), **lines, **groups[key]}
    repeats = len(runs) > len(groups)
    shared = _shared(groups, keep=("position",) if stack.embedded_position is not None else ())
    rest = {name: {k: v for k, v in group.items() if k not in shared} for name, group in groups.items()}
    if repeats:
        names = [layer.group for layer in _each(runs)]
        return {"count": len(names), "pattern": _period(names), **lines, **shared, **rest}
    counts = {layer.group: count for layer, count in runs}
    return {**lines, **shared, **{name: {"count": counts[name], **rest[name]} for name in rest}}


def _told_apart(layers: Sequence[LayerSpec]) -> list[LayerSpec]:
    """The layers with one group per distinct layer: a name that stands for two gets a number."""
    named: dict[str, LayerSpec] = {}
    result = []
    for layer in layers:
        name, number = layer.group, 2
        while named.setdefault(name, layer) is not layer and _body(named[name]) != _body(layer):
            name, number = f"{layer.group}-{number}", number + 1
        result.append(layer if name == layer.group else replace(layer, group=name))
    return result


def _body(layer: LayerSpec) -> LayerSpec:
    return replace(layer, group="", lends_kv=False)


def _runs(layers: Sequence[LayerSpec]) -> list[tuple[LayerSpec, int]]:
    runs: list[tuple[LayerSpec, int]] = []
    for layer in layers:
        if runs and runs[-1][0].group == layer.group:
            runs[-1] = (layer, runs[-1][1] + 1)
        else:
            runs.append((layer, 1))
    return runs


def _each(runs: Sequence[tuple[LayerSpec, int]]) -> list[LayerSpec]:
    return [layer for layer, count in runs for _ in range(count)]


def _period(names: list[str]) -> list[str]:
    """The shortest list that, repeated and cut, gives these names (the failure function of Knuth, Morris and Pratt)."""
    border = [0] * len(names)
    for index in range(1, len(names)):
        length = border[index - 1]
        while length and names[index] != names[length]:
            length = border[length - 1]
        border[index] = length + (names[index] == names[length])
    return names[: len(names) - border[-1]]


def _shared(groups: dict[str, dict[str, Any]], keep: tuple[str, ...]) -> dict[str, Any]:
    """What all groups say alike, to be said once by the stack."""
    first, *others = groups.values()
    return {
        key: first[key]
        for key in GROUP_KEYS
        if key in first and key not in keep and all(other.get(key) == first[key] for other in others)
    }


def _group(layer: LayerSpec) -> dict[str, Any]:
    block = layer.block if layer.block == "serial" else ("parallel", "parallel-two-norms")[layer.parallel_norms - 1]
    said: dict[str, Any] = {
        "norm": {**_said(layer.norm), "placement": layer.placement, "first": layer.first_norm},
        "attention": _said(layer.attention),
    }
    if layer.cross_attention is not None:
        said["cross_attention"] = _said(layer.cross_attention)
    if layer.mixer is not None:
        said["mixer"] = _said(layer.mixer)
    said["ffn"] = _ffn(layer.ffn)
    said |= {"block": block, "residual": _residual(layer.residual), "position": _said(layer.position)}
    return said


def _ffn(ffn: Ffn) -> dict[str, Any]:
    said = _said(ffn)
    for expert in (said, said.get("expert", {}), said.get("shared", {})):
        if expert.get("kind") not in WITH_BETA:
            expert.pop("beta", None)
    return said


def _residual(residual: Residual) -> dict[str, Any]:
    if residual.alpha == residual.beta == 1.0:
        return {"kind": "plain", "scale": residual.scale}
    return {"kind": "deepnorm", "alpha": residual.alpha, "beta": residual.beta}


def _norm(norm: Norm | None) -> dict[str, Any] | str:
    return _said(norm) if norm is not None else "none"


def _source(source: Source) -> dict[str, Any]:
    return _said(source)


def _published(published: Published) -> dict[str, Any]:
    return {**_said(published), "source": _source(published.source)}


def _said(value: Any) -> dict[str, Any]:
    """A dataclass of the language as the mapping that stands for it; what is None is left out."""
    said = {}
    for field in fields(value):
        item = getattr(value, field.name)
        if item is not None:
            said[field.name] = _said(item) if hasattr(item, "__dataclass_fields__") else item
        elif field.default is MISSING:
            said[field.name] = None  # a null that must be written
    return said
