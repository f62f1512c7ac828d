"""What a person types for one side of a comparison, as a spec: a name, a path, ``-``, or ``git:REV:`` and either."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from llmprof import catalog
from llmprof.check.revisions import Revision
from llmprof.errors import InputError
from llmprof.spec.arch import ArchSpec
from llmprof.spec.load import SpecFile
from llmprof.spec.nodes import short

GIT = "git:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """A spec and one of its variants. `label` is what was typed, `file` what messages call the spec's file."""

    label: str
    spec: SpecFile
    variant: str | None
    file: str

    @property
    def arch(self) -> ArchSpec:
        """The architecture."""
        return self.spec.arch(self.variant)


def named(ref: str, near: Path | None = None, tell: catalog.Tell = catalog.untold) -> Named:
    """The spec that `ref` names. The repository of ``git:`` is the one around `near`, by default around this directory.
    `tell` hears what is to be known of an imported file.

    Raises InputError for what is not known, be it spec, variant, revision or repository, and SpecError for a file that
    is wrong.
    """
    if ref.startswith(GIT):
        return _at_a_revision(ref, near or Path.cwd(), tell)
    _, variant = catalog.split(ref)
    spec = catalog.find(ref, tell)
    return Named(label=ref, spec=spec, variant=variant, file=_shown(spec.path))


def _at_a_revision(ref: str, near: Path, tell: catalog.Tell) -> Named:
    rev, colon, target = ref.removeprefix(GIT).partition(":")
    if not colon or not target:
        raise InputError(f"{short(ref, 200)!r}: expected git:REV:PATH or git:REV:NAME, such as git:main:llama-2-70b")
    revision = Revision(rev, near)
    inside, variant = revision.find(target), None
    if inside is None:
        stem, _, last = target.rpartition(":")
        if stem and "/" not in last:
            inside, variant = revision.find(stem), last
    if inside is None:
        raise InputError(
            f"{short(ref, 200)!r}: {rev} has neither such a file nor a spec of that name or alias in specs/models or "
            f"specs/studies of {revision.root}"
        )
    spec = revision.load(inside, tell)
    spec.arch(variant)
    return Named(label=ref, spec=spec, variant=variant, file=revision.label(inside))


def _shown(path: Path | None) -> str:
    """A path as short as it can be said from here."""
    if path is None:
        return "<stdin>"
    try:
        return path.resolve().relative_to(Path.cwd().resolve()).as_posix() if path.is_absolute() else path.as_posix()
    except ValueError:
        return str(path)
