"""Where the shipped specs are, and how what a user types becomes an architecture.

An installed package carries the specs inside itself; a checkout has them beside the package, in a
directory recognised by a marker file, so that no stranger's `specs` is taken for ours.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from llmprof.errors import InputError
from llmprof.spec.arch import ArchSpec
from llmprof.spec.load import SpecFile, load_file, load_stdin
from llmprof.spec.nodes import Scalar, Seq, short
from llmprof.spec.source import read_file
from llmprof.spec.yamlload import parse

if TYPE_CHECKING:
    from llmprof.importing.read import Imported

MARKER = ".llmprof-specs"
STDIN = "-"
YAML = (".yaml", ".yml")
FOREIGN = (".json", ".safetensors", ".gguf")
"""Endings of files of other formats."""

Tell = Callable[[str], None]
"""Who is told what a reader of an imported file should know: class defaults that were used, what was left out."""
_PACKAGE = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True, order=True)
class Entry:
    """One file of the catalogue, not loaded yet. `family` is its directory: ``llama``, ``studies``."""

    family: str
    name: str
    path: Path

    def load(self) -> SpecFile:
        """The spec. Raises SpecError, which for a shipped file is a bug of ours."""
        return load_file(self.path)


@lru_cache(maxsize=1)
def root() -> Path:
    """The directory of the shipped specs. Raises InputError when this installation carries none."""
    for place in (_PACKAGE / "specs", _PACKAGE.parent / "specs"):
        if (place / MARKER).is_file():
            return place
    raise InputError("this installation of llmprof carries no specs; give the path of a YAML file, or reinstall it")


@lru_cache(maxsize=1)
def entries() -> tuple[Entry, ...]:
    """Every architecture of the catalogue, sorted by family, then name. Raises InputError without a catalogue."""
    found = []
    for part in ("models", "studies"):
        for path in (root() / part).rglob("*.yaml"):
            found.append(Entry(family=path.parent.name, name=path.stem, path=path))
    return tuple(sorted(found))


def split(ref: str) -> tuple[str, str | None]:
    """A reference as what names the file and what names the variant: ``llama-2-70b:mha``."""
    if os.path.exists(ref):
        return ref, None
    stem, colon, variant = ref.rpartition(":")
    # A Windows drive, or a path with a colon in the name of a directory or of the file, has no variant in it.
    if not colon or not stem or "/" in variant or "\\" in variant or variant.lower().endswith(YAML + FOREIGN):
        return ref, None
    return stem, variant


def untold(text: str) -> None:
    """Nobody is told."""


def find(ref: str, tell: Tell = untold) -> SpecFile:
    """The spec file that a reference names: a shipped name or alias, a path, or ``-`` for standard input.

    The path may be that of a file of another format, which is imported. A reference may end in ``:variant``, which
    must then exist. Raises InputError for what is not known, and SpecError for a file that is wrong.
    """
    target, variant = split(ref)
    spec = _find_file(target, tell)
    spec.arch(variant)
    return spec


def resolve(
    refs: Sequence[str],
    *,
    variant: str | Sequence[str] | None = None,
    all_variants: bool = False,
    tell: Tell = untold,
) -> list[ArchSpec]:
    """The architectures that references name, in their order.

    A reference that states no variant gives its base, or the variants of `variant`, or with
    `all_variants` its base and all of them. ``base`` names the base. Raises InputError and SpecError as `find` does.
    """
    wanted: Sequence[str | None] = (variant,) if variant is None or isinstance(variant, str) else variant or (None,)
    archs: list[ArchSpec] = []
    for ref in refs:
        target, own = split(ref)
        spec = _find_file(target, tell)
        if own is not None:
            archs.append(spec.arch(own))
        elif all_variants:
            archs.extend(spec.archs())
        else:
            archs.extend(spec.arch(name) for name in wanted)
    return archs


def _find_file(target: str, tell: Tell) -> SpecFile:
    if target == STDIN:
        return load_stdin()
    if is_foreign(target):
        return imported(target, tell)
    # An alias such as meta-llama/Llama-2-70b-hf looks like a path, and a shipped name may be that of some file
    # here: what is surely a path is read, then the catalogue is asked, and only then the disk.
    if is_path(target):
        return load_file(target)
    entry = _entry(target)
    if entry is not None:
        return entry.load()
    if os.path.exists(target):
        return load_file(target)
    raise _unknown(target)


def is_path(target: str) -> bool:
    """Whether a reference is surely a path, whatever the catalogue has."""
    return target.lower().endswith(YAML) or target.startswith((".", os.sep))


def is_foreign(target: str, path: str | None = None) -> bool:
    """Whether a reference is surely a file of another format, or a folder: it is imported.

    `path` is where that file would be, by default `target` itself.
    """
    return target.lower().endswith(FOREIGN) or (os.path.isdir(path or target) and _entry(target) is None)


def imported(target: str, tell: Tell = untold) -> SpecFile:
    """The spec in a file of another format, or in a folder. Raises SpecError where it is not understood."""
    from llmprof.importing.files import read_file as read_foreign

    found = read_foreign(Path(target))
    tell_of(found, target, tell)
    return found.spec


def tell_of(found: Imported, label: str, tell: Tell) -> None:
    """Tell what is to be known of an imported file that messages call `label`."""
    tell(f"{label}: {found.summary}")
    for remark in found.remarks:
        tell(f"{label}: {remark}")


def _entry(target: str) -> Entry | None:
    wanted = target.lower()
    by_name = {entry.name: entry for entry in entries()}
    return by_name.get(wanted) or _by_alias(wanted)


def _by_alias(wanted: str) -> Entry | None:
    for entry in entries():
        text = read_file(entry.path)
        # Reading is cheap and parsing is not: an alias that fits is in the text.
        if wanted in text.lower() and wanted in (alias.lower() for alias in _aliases(text, entry)):
            return entry
    return None


def _aliases(text: str, entry: Entry) -> Iterator[str]:
    written = parse(text, file=str(entry.path)).get("aliases")
    for item in written.items if isinstance(written, Seq) else ():
        if isinstance(item, Scalar):
            yield item.text


def _unknown(target: str) -> InputError:
    names = [entry.name for entry in entries()]
    near = get_close_matches(target.lower(), names, n=3, cutoff=0.5)
    if len(target) > 2:
        near += [name for name in names if target.lower() in name and name not in near][:5]
    guess = f"did you mean {', '.join(near)}? " if near else ""
    return InputError(
        f"no spec is called {short(target)!r}; {guess}see `llmprof specs list`, or give a YAML file's path"
    )
