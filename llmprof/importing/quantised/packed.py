"""What a ``quantization_config`` says is packed, as the `release` of a spec."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, fields
from typing import Any

from llmprof.importing.document import Doc
from llmprof.importing.quantised.methods import Method, method
from llmprof.importing.quantised.names import ALONE, IN_A_TOWER, SEPARATE
from llmprof.importing.quantised.spared import spared
from llmprof.importing.quantised.unsure import Unsure
from llmprof.spec.arch import ArchSpec
from llmprof.spec.release import FloatDtype, Packing


def packed(
    quantised: Any, arch: Callable[[], ArchSpec], dtype: FloatDtype | None, family: Any, *, in_a_tower: bool
) -> tuple[Doc, str | None]:
    """The release, and what the reader of the spec should know. Raises Unsure where the config leaves it open."""
    if not isinstance(quantised, dict):
        raise Unsure("it is no object")
    if dtype is None:
        raise Unsure("the config does not say the dtype of what is not packed")
    if not isinstance(family, str) or family not in SEPARATE:
        raise Unsure(f"how the files of the family {family} keep their matrices is not known here")
    how = method(quantised, dtype, family)
    without = _spared(arch(), how, IN_A_TOWER if in_a_tower else ALONE)
    doc: Doc = {"dtype": dtype, "packing": _said(how.packing)}
    return doc | ({"spared": list(without)} if without else {}), how.note


def _spared(arch: ArchSpec, how: Method, prefixes: tuple[str, ...]) -> tuple[str, ...]:
    if how.experts_alone:
        return ("layers.*.attn.*",) if _all_experts(arch) else _no_experts()
    # A class that is given no list packs every matrix of its layers but routers, and no output matrix.
    listed = how.patterns is not None
    return spared(arch, how.patterns or (), how.rule, prefixes=prefixes, router_must_be=listed, head_must_be=how.head)


def _all_experts(arch: ArchSpec) -> bool:
    return all(layer.ffn.kind == "moe" and layer.ffn.shared is None for layer in arch.main.layers)


def _no_experts() -> tuple[str, ...]:
    raise Unsure("it packs experts, and a layer has none, or a part beside them")


def _said(packing: Packing) -> Doc:
    """The packing as the language writes it, without what is at its default."""
    defaults = {each.name: each.default for each in fields(packing) if each.name != "kind"}
    return {key: value for key, value in asdict(packing).items() if key not in defaults or value != defaults[key]}
