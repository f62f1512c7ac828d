"""Loading a spec: text in, a frozen `SpecFile` with its base and variants out, or every problem of the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from llmprof.errors import InputError, Problem
from llmprof.spec import source
from llmprof.spec.arch import ArchSpec
from llmprof.spec.build import build
from llmprof.spec.merge import with_variant
from llmprof.spec.nodes import MAX_WORK, Map, Mark, Node, Seq, child_path, plain, weight
from llmprof.spec.problems import Report
from llmprof.spec.words import did_you_mean
from llmprof.spec.yamlload import parse

# The base of a file can be asked for by this name, so no variant may take it.
BASE = "base"


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecFile:
    """One spec file, loaded: its base architecture and its named variants, in the order of the file.

    `path` is the file, or None for a text that came from elsewhere.
    """

    name: str
    aliases: tuple[str, ...]
    notes: str | None
    path: Path | None
    base: ArchSpec
    variants: Mapping[str, ArchSpec]
    _tree: Map = field(repr=False, compare=False)
    _resolved: Mapping[str | None, Map] = field(repr=False, compare=False)

    def arch(self, variant: str | None = None) -> ArchSpec:
        """The base, or one variant by name; ``base`` names the base too.

        Raises InputError for a variant that the file does not have.
        """
        return self.base if variant in (None, BASE) else self.variants[self._known(variant)]

    def archs(self) -> tuple[ArchSpec, ...]:
        """The base, then all variants in the order of the file."""
        return (self.base, *self.variants.values())

    def document(self, variant: str | None = None) -> dict[str, Any]:
        """The document as written, or with one variant applied, as plain values.

        Raises InputError for a variant that the file does not have.
        """
        tree = self._resolved[None if variant in (None, BASE) else self._known(variant)]
        resolved: dict[str, Any] = plain(tree)
        return resolved

    def overrides(self) -> dict[str, dict[str, Any]]:
        """The variants as written: dotted paths and values."""
        written = self._tree.get("variants")
        values: dict[str, dict[str, Any]] = plain(written) if written is not None else {}
        return values

    def line_of(self, path: str) -> int | None:
        """The line on which a dotted path of the file is written, or None where the file does not say it."""
        mark = self.mark_of(path)
        return mark.line if mark is not None else None

    def mark_of(self, path: str, variant: str | None = None) -> Mark | None:
        """Where a dotted path of the document, or of the document with one variant applied, is written.

        What a variant sets stands where the variant says it, and all else where the base does. None where neither
        says it. Raises InputError for a variant that the file does not have.
        """
        tree = self._tree if variant in (None, BASE) else self._resolved[self._known(variant)]
        return _marks(tree).get(path)

    def _known(self, variant: str | None) -> str:
        if variant in self.variants:
            return str(variant)
        raise unknown_variant(self.name, str(variant), tuple(self.variants))


def unknown_variant(name: str, variant: str, known: tuple[str, ...]) -> InputError:
    """The error for a variant that a spec does not have."""
    has = f"it has {', '.join(known)}" if known else "it has no variants"
    hint = did_you_mean(variant, known)
    return InputError(f"{name}: no variant {variant!r}; {has}" + (f" ({hint})" if hint else ""))


def load_file(path: Path | str) -> SpecFile:
    """The spec in a YAML file. Raises SpecError with every problem found."""
    path = Path(path)
    return _load(source.read_file(path), str(path), path)


def load_stdin() -> SpecFile:
    """The spec on standard input. Raises SpecError with every problem found."""
    return _load(source.read_stdin(), "<stdin>", None)


def load_text(text: str, name: str = "<stdin>") -> SpecFile:
    """The spec in a text; `name` stands for the file in messages. Raises SpecError with every problem found."""
    source.check_size(text, name)
    return _load(text.removeprefix("\ufeff"), name, None)


def _load(text: str, file: str, path: Path | None) -> SpecFile:
    tree = parse(text, file=file)
    if "model_type" in tree.items and "structure" not in tree.items:
        raise source.whole_file(
            file,
            "this is a Hugging Face config, by its key 'model_type'",
            "a spec",
            hint="give its file a name that ends in .json, or turn it into a spec with `llmprof import`",
        )
    return load_tree(tree, file, path)


def load_tree(tree: Map, file: str, path: Path | None) -> SpecFile:
    """The spec in a tree that came from elsewhere, such as an imported config. Raises SpecError as the others do."""
    report = Report(file)
    built = build(tree, None, report)
    resolved: dict[str | None, Map] = {None: tree.without("variants")}
    variants: dict[str, ArchSpec] = {}
    for name, overrides in _variants(tree, report).items():
        made = _variant(tree, name, overrides, report, base_failed=built is None)
        if made is not None:
            variants[name], resolved[name] = made
    report.raise_if_any()
    assert built is not None
    document, base = built
    return SpecFile(
        name=document.name,
        aliases=document.aliases,
        notes=document.notes,
        path=path,
        base=base,
        variants=MappingProxyType(variants),
        _tree=tree,
        _resolved=MappingProxyType(resolved),
    )


def _variants(tree: Map, report: Report) -> dict[str, Map]:
    written = tree.get("variants")
    if not isinstance(written, Map):
        return {}
    found = {name: node for name, node in written.items.items() if isinstance(node, Map)}
    size = weight(tree.without("variants"))
    if len(found) * size > MAX_WORK:
        report.key(tree, "variants", f"{len(found):,} variants of a document of {size:,} values", "a smaller file")
        return {}
    return found


def _variant(tree: Map, name: str, overrides: Map, report: Report, *, base_failed: bool) -> tuple[ArchSpec, Map] | None:
    if name == BASE:
        report.add(
            _mark(tree, name), overrides.path, f"found the name {BASE!r}", "another name: this one is the base's"
        )
        return None
    own = Report(report.file)
    resolved = with_variant(tree, overrides, own)
    built = build(resolved, name, own)
    for problem in own.problems:
        if problem.path == overrides.path or problem.path.startswith(f"{overrides.path}."):
            report.take(problem)
        elif not base_failed:
            # The base is right, so the override is what broke it: that is where to look.
            report.take(_at_variant(problem, overrides.path, _mark(tree, name)))
    return (built[1], resolved) if built is not None else None


def _at_variant(problem: Problem, path: str, mark: Mark) -> Problem:
    where = f"with this variant, {problem.path}: " if problem.path else "with this variant: "
    return replace(problem, line=mark.line, column=mark.column, path=path, found=where + problem.found)


def _mark(tree: Map, variant: str) -> Mark:
    variants = tree.items["variants"]
    assert isinstance(variants, Map)
    return variants.keys[variant]


def _marks(tree: Map) -> dict[str, Mark]:
    """The place of every path: of the key where there is one, of the value in a list."""
    marks: dict[str, Mark] = {}
    waiting: list[tuple[str, Node]] = [("", tree)]
    while waiting:
        path, node = waiting.pop()
        if isinstance(node, Map):
            for key, below in node.items.items():
                at = child_path(path, key)
                marks[at] = node.keys[key]
                waiting.append((at, below))
        elif isinstance(node, Seq):
            for index, below in enumerate(node.items):
                at = child_path(path, index)
                marks[at] = below.mark
                waiting.append((at, below))
    return marks
