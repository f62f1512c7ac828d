"""The spec that an entry names: a name of the catalogue, or a path relative to the budget file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from llmprof import catalog
from llmprof.errors import InputError, SpecError
from llmprof.spec.arch import ArchSpec
from llmprof.spec.load import SpecFile, load_file
from llmprof.spec.nodes import short


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A spec and one of its variants. `ref` is what was written, `target` that without the variant."""

    ref: str
    target: str
    spec: SpecFile
    variant: str | None

    @property
    def arch(self) -> ArchSpec:
        """The architecture."""
        return self.spec.arch(self.variant)

    @property
    def file(self) -> str:
        """The spec's file, as short as it can be said from here."""
        assert self.spec.path is not None, "a subject is never read from standard input"
        return shown(self.spec.path)


class Shelf:
    """Finds specs, and reads each file once. `tell` hears what is to be known of an imported file."""

    def __init__(self, tell: catalog.Tell = catalog.untold) -> None:
        self._tell = tell
        self._files: dict[tuple[str, str], SpecFile] = {}

    def find(self, ref: str, directory: Path) -> Subject:
        """The spec that `ref` names in a budget file of `directory`.

        The rule is that of `catalog.find` with paths relative to `directory`. Raises InputError for what is not known,
        and SpecError for a file that is wrong.
        """
        whole = os.path.join(directory, ref)
        path, variant = catalog.split(whole)
        target = path[len(whole) - len(ref) :]
        key = (target, str(directory))
        if key not in self._files:
            self._files[key] = _load(target, path, self._tell)
        spec = self._files[key]
        spec.arch(variant)
        return Subject(ref=ref, target=target, spec=spec, variant=variant)


def _load(target: str, path: str, tell: catalog.Tell) -> SpecFile:
    if target == catalog.STDIN:
        raise InputError("a budget cannot be of standard input; name a spec, or the path of its file")
    if catalog.is_foreign(target, path):
        return catalog.imported(str(_straight(path)), tell)
    if catalog.is_path(target):
        return load_file(_straight(path))
    try:
        found = catalog.find(target)
    except SpecError:
        raise
    except InputError:
        if os.path.exists(path):
            return load_file(_straight(path))
        raise
    # Outside the catalogue, what the working directory happens to hold is not what the budget file names.
    if found.path is None or not found.path.is_relative_to(catalog.root()):
        if not os.path.exists(path):
            raise InputError(f"no spec is called {short(target)!r}, and there is no such file beside the budget file")
        return load_file(_straight(path))
    return found


def _straight(path: str) -> Path:
    """A path without ``..``, where that is the same file: symbolic links may make it another one."""
    plain = os.path.normpath(path)
    try:
        return Path(plain if os.path.samefile(plain, path) else path)
    except OSError:
        return Path(path)


def shown(path: Path) -> str:
    """A path as short as it can be said from here."""
    try:
        return path.resolve().relative_to(Path.cwd().resolve()).as_posix() if path.is_absolute() else path.as_posix()
    except ValueError:
        return str(path)
