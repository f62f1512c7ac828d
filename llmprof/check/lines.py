"""Which places of two spec documents say something different, and on which lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from llmprof.check.comparison import LineChange
from llmprof.check.verdict import Place
from llmprof.spec.arch import ArchSpec
from llmprof.spec.document import STACK_KEYS
from llmprof.spec.dump import dump
from llmprof.spec.load import BASE, SpecFile, load_text
from llmprof.spec.nodes import Mark, child_path

NOT_SHAPES = frozenset({"name", "aliases", "source", "notes", "variants", "published", "release"})
"""What a spec says about itself; two of these that differ make no difference to what a model costs."""

_ABSENT = object()


def line_changes(
    before: SpecFile,
    after: SpecFile,
    *,
    before_variant: str | None = None,
    after_variant: str | None = None,
    before_file: str | None = None,
    after_file: str | None = None,
) -> tuple[LineChange, ...]:
    """The dotted places whose values differ between two documents, variants applied, in the order of the newer one.

    A mapping that one side does not have is one change, unless it has mappings in it; lists are compared as a whole. A
    default that is merely spelled out is no change. `before_file` and `after_file` are what messages call the
    files, where that is not their path.

    Raises InputError for a variant that a file does not have.
    """
    old, new = before.document(before_variant), after.document(after_variant)
    found = list(_differing(_shapes(old), _shapes(new), ""))
    if not found or _meaning(before.arch(before_variant)) == _meaning(after.arch(after_variant)):
        return ()
    spelled_old, spelled_new = (_in_full(before.arch(before_variant)), _in_full(after.arch(after_variant)))
    changes = []
    for path, value_before, value_after in found:
        if _means_the_same(spelled_old, spelled_new, path):
            continue
        mark = after.mark_of(path, after_variant) or _taken_away(after, after_variant, path)
        file = after_file or _file_of(after)
        if mark is None:
            mark, file = before.mark_of(path, before_variant), before_file or _file_of(before)
        place = None if mark is None else Place(file=file, line=mark.line, column=mark.column)
        changes.append(LineChange(path=path, before=value_before, after=value_after, place=place))
    return tuple(changes)


def _differing(old: Mapping[str, Any], new: Mapping[str, Any], path: str) -> Iterator[tuple[str, Any, Any]]:
    """(path, before, after) of every place that differs; None where a side does not have it."""
    for key in (*new, *(key for key in old if key not in new)):
        below = child_path(path, key)
        a, b = old.get(key, _ABSENT), new.get(key, _ABSENT)
        if isinstance(a, dict) and isinstance(b, dict):
            yield from _differing(a, b, below)
        elif a is _ABSENT and _nested(b):
            yield from _differing({}, b, below)
        elif b is _ABSENT and _nested(a):
            yield from _differing(a, {}, below)
        elif a is _ABSENT or b is _ABSENT or a != b:
            yield below, None if a is _ABSENT else a, None if b is _ABSENT else b


def _nested(value: Any) -> bool:
    """Whether a mapping has mappings in it, as a stack or a group has: too much to be said at once."""
    return isinstance(value, dict) and any(isinstance(below, dict) for below in value.values())


def _taken_away(spec: SpecFile, variant: str | None, path: str) -> Mark | None:
    """Where a variant takes away what the base has: at this path, or with a mapping that replaces one above it."""
    if variant in (None, BASE) or spec.mark_of(path) is None:
        return None
    parts = path.split(".")
    overrides = (f"variants.{variant}.{'.'.join(parts[:length])}" for length in range(len(parts), 0, -1))
    return next((mark for override in overrides if (mark := spec.mark_of(override)) is not None), None)


def _shapes(document: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key not in NOT_SHAPES}


def _meaning(arch: ArchSpec) -> ArchSpec:
    stacks = tuple(
        replace(stack, layers=tuple(replace(layer, group="") for layer in stack.layers)) for stack in arch.stacks
    )
    return replace(arch, name="", variant=None, sources=(), published=None, release=None, stacks=stacks)


def _in_full(arch: ArchSpec) -> dict[str, Any]:
    """The document with every default written out."""
    return load_text(dump(arch)).document()


def _means_the_same(old: Mapping[str, Any], new: Mapping[str, Any], path: str) -> bool:
    """Whether a place says the same on both sides once everything is written out, however it is written."""
    # The position of all layers, written at the top, is each stack's own when written out.
    paths = [f"{stack}.{path}" for stack in STACK_KEYS if stack in new] if path.split(".")[0] == "position" else [path]
    values = [(_at(old, each), _at(new, each)) for each in paths]
    return all(a is not _ABSENT and a == b for a, b in values)


def _at(document: Mapping[str, Any], path: str) -> Any:
    value: Any = document
    for part in path.split("."):
        if not isinstance(value, dict) or part not in value:
            return _ABSENT
        value = value[part]
    return value


def _file_of(spec: SpecFile) -> str:
    return str(spec.path) if spec.path is not None else "<stdin>"
