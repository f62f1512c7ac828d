"""Files as they were at a git revision, read out of the repository without a checkout."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from llmprof.catalog import Tell, is_path, tell_of, untold
from llmprof.check import git
from llmprof.errors import InputError
from llmprof.importing import CONFIG
from llmprof.spec import source
from llmprof.spec.load import SpecFile, load_text
from llmprof.spec.nodes import Scalar, Seq, short
from llmprof.spec.words import did_you_mean
from llmprof.spec.yamlload import parse

CATALOGUE = ("specs/models", "specs/studies")
"""Where a repository keeps the specs that have names, from its root."""

_ROOT = PurePosixPath(".")
_LINK = "120000"
_MAX_LINKS = 8
_MAX_REV = 1000


@dataclass(frozen=True, slots=True)
class _Object:
    """One entry of a tree: what it is, its name as an object, its size where it is a file."""

    mode: str
    kind: str
    name: str
    size: int


class Revision:
    """The repository around `near` (a file or a directory) as it was at `rev`.

    `commit` is the full name of the commit, whatever `rev` was; `root` is the root of the work tree. Relative paths
    are those of the directory of `near`, as they are for what names them: a budget file, a command line.

    Raises InputError where there is no git, no repository around `near` or no such revision in it.
    """

    def __init__(self, rev: str, near: Path) -> None:
        _check_form(rev)
        self.rev = rev
        self._directory = (near if near.is_dir() else near.parent).resolve()
        self.root = git.toplevel(self._directory).resolve()
        self.commit = _commit(self.root, rev)
        self._listed: dict[PurePosixPath, dict[str, _Object]] = {}

    def read(self, path: Path | str) -> str | None:
        """The text of a file at the revision, or None where there was no such file.

        Raises InputError for a path outside the repository or into a submodule, and SpecError for a file that is
        too large or is not text, as for any other file.
        """
        inside = self._inside(Path(path))
        return None if self._object(inside) is None else self._text(inside)

    def find(self, ref: str) -> PurePosixPath | None:
        """The path, from the root of the repository, of the spec that `ref` named; None where there was none.

        The rule is that of `catalog.find`: what is surely a path is one; then the names and aliases of the
        repository's own ``specs/models`` and ``specs/studies`` are asked, then any other path, which may be a folder
        with a ``config.json``. Raises what `read` does.
        """
        sure = is_path(ref)
        named = None if sure else self._named(ref.lower())
        paths = [] if named else list(self._as_paths(ref, sure))
        paths += [path / CONFIG for path in paths]
        return named or next((path for path in paths if self._object(path) is not None), None)

    def spec(self, ref: str) -> SpecFile | None:
        """The spec that a reference without a variant named at the revision, or None where there was none.

        Raises what `find` and `read` raise, and SpecError for a spec that was wrong; its lines begin with ``REV:path``.
        """
        inside = self.find(ref)
        return None if inside is None else self.load(inside)

    def load(self, inside: PurePosixPath, tell: Tell = untold) -> SpecFile:
        """The spec in a file that `find` has found; a config is imported, and `tell` hears what is to be known of it.

        Raises SpecError for a spec that was wrong.
        """
        if inside.suffix.lower() == ".json":
            from llmprof.importing.read import import_text

            found = import_text(self._text(inside), PurePosixPath(self.label(inside)))
            tell_of(found, self.label(inside), tell)
            return found.spec
        return load_text(self._text(inside), self.label(inside))

    def label(self, inside: PurePosixPath) -> str:
        """What messages call a file of this revision: ``main:specs/models/x.yaml``, as git does."""
        return f"{self.rev}:{inside}"

    # --- names ----------------------------------------------------------------------------------

    def _named(self, wanted: str) -> PurePosixPath | None:
        by_name = {path.stem: path for path in self._catalogue}
        return by_name.get(wanted) or next(
            (path for path in self._mentioning(wanted) if self._owns(path, wanted)), None
        )

    def _mentioning(self, wanted: str) -> list[PurePosixPath]:
        """The specs with this text in them, the only ones that can have it for an alias: parsing all is slow."""
        if not self._catalogue:
            return []
        found = git.ask(self.root, "grep", "-lziF", "-e", wanted, self.commit, "--", *CATALOGUE) or b""
        paths = {PurePosixPath(os.fsdecode(line).partition(":")[2]) for line in found.split(b"\0")[:-1]}
        return [path for path in self._catalogue if path in paths]

    def _owns(self, path: PurePosixPath, wanted: str) -> bool:
        written = parse(self._text(path), file=self.label(path)).get("aliases")
        items = written.items if isinstance(written, Seq) else []
        return any(isinstance(item, Scalar) and item.text.lower() == wanted for item in items)

    @cached_property
    def _catalogue(self) -> tuple[PurePosixPath, ...]:
        entries = (entry for part in CATALOGUE for entry in self._tree(f"{part}/", deep=True))
        found = [path for path, entry in entries if entry.kind == "blob" and path.suffix == ".yaml"]
        return tuple(sorted(found, key=lambda path: (path.parent.name, path.stem)))

    def _as_paths(self, ref: str, sure: bool) -> Iterator[PurePosixPath]:
        try:
            yield self._inside(Path(ref))
        except InputError:
            if sure:
                raise
            return
        # As git itself reads it: from the root, wherever one stands.
        if not Path(ref).is_absolute():
            yield self._inside(self.root / ref)

    # --- objects --------------------------------------------------------------------------------

    def _inside(self, path: Path) -> PurePosixPath:
        """A path from the root of the repository.

        Links of the work tree on the way to it are followed, so that every way to write it leads to the same file;
        the last part is not, as what it was at the revision is for the revision to say.
        """
        whole = path if path.is_absolute() else self._directory / path
        try:
            whole = whole.resolve() if whole.name in ("", "..") else whole.parent.resolve() / whole.name
            return PurePosixPath(whole.relative_to(self.root).as_posix())
        except (ValueError, OSError, RuntimeError):
            raise InputError(
                f"{short(str(path), 200)}: outside the git repository {self.root}, so it has no revision"
            ) from None

    def _text(self, inside: PurePosixPath) -> str:
        found = self._object(inside)
        assert found is not None, "asked only for what is there"
        label = self.label(inside)
        if found.size > source.MAX_BYTES:
            raise source.whole_file(label, "more than 1 MiB of text", "one architecture, of a few kilobytes")
        return source.decode(git.demand(self.root, "cat-file", "blob", found.name), label)

    def _object(self, inside: PurePosixPath) -> _Object | None:
        """The file at a path, through symbolic links; None where there was none, or a directory."""
        path = inside
        for _ in range(_MAX_LINKS):
            found = self._entry(path)
            if found is None or found.kind == "tree":
                return None
            if found.kind == "commit":
                raise InputError(f"{self.label(inside)}: in a submodule; ask for the revision in its own repository")
            if found.mode != _LINK:
                return found
            target = os.fsdecode(git.demand(self.root, "cat-file", "blob", found.name))
            whole = posixpath.normpath(posixpath.join(path.parent.as_posix(), target))
            if whole.startswith(("/", "../")):
                raise InputError(f"{self.label(inside)}: a symbolic link to {short(target)}, outside the repository")
            path = PurePosixPath(whole)
        raise InputError(f"{self.label(inside)}: symbolic links lead in a circle")

    def _entry(self, path: PurePosixPath) -> _Object | None:
        """One entry; its whole directory is listed, as the next question is often about a neighbour."""
        parent = path.parent
        if parent not in self._listed:
            entries = self._tree("" if parent == _ROOT else f"{parent}/")
            self._listed[parent] = {each.name: entry for each, entry in entries if each.parent == parent}
        found = self._listed[parent].get(path.name)
        if found is None and parent != _ROOT:
            # Nothing can be listed inside a submodule: it is its own repository.
            above = self._entry(parent)
            return above if above is not None and above.kind == "commit" else None
        return found

    def _tree(self, under: str, *, deep: bool = False) -> Iterator[tuple[PurePosixPath, _Object]]:
        """The entries below a directory, which ends in a slash; empty is the root."""
        arguments = ["ls-tree", "-z", "-l", "--full-tree", *(["-r"] if deep else []), self.commit, "--"]
        listing = git.demand(self.root, *arguments, *([under] if under else []))
        for line in listing.split(b"\0")[:-1]:
            head, _, name = line.partition(b"\t")
            mode, kind, object_name, size = head.decode().split()
            entry = _Object(mode, kind, object_name, 0 if size == "-" else int(size))
            yield PurePosixPath(os.fsdecode(name)), entry


def _check_form(rev: str) -> None:
    """Refuse what no revision looks like, above all what git would take for an option."""
    if not rev.strip():
        raise InputError("a git revision is missing; expected a branch, a tag or a commit, such as git:main")
    if rev.startswith("-"):
        raise InputError(f"git revision {short(rev)!r}: a revision does not begin with '-'")
    if len(rev) > _MAX_REV or not rev.isprintable():
        raise InputError(f"git revision {short(rev)!r}: expected a branch, a tag or a commit")


def _commit(root: Path, rev: str) -> str:
    """The full name of the commit that `rev` means."""
    found = git.ask(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{rev}^{{commit}}")
    if found is not None:
        return found.decode().strip()
    message = f"git revision {short(rev)!r}: unknown in {root}"
    if git.ask(root, "rev-parse", "--is-shallow-repository") == b"true\n":
        raise InputError(
            f"{message}; this is a shallow clone, which may lack it: fetch the history "
            "(actions/checkout: fetch-depth: 0; elsewhere: git fetch --unshallow)"
        )
    if not git.ask(root, "rev-list", "-n", "1", "--all"):
        raise InputError(f"{message}; it has no commits yet")
    listed = git.ask(root, "for-each-ref", "--count=1000", "--format=%(refname:short)") or b""
    known = listed.decode(errors="replace").split()
    remote = next((name for name in known if name.endswith(f"/{rev}")), None)
    hint = f"did you mean {remote!r}?" if remote else did_you_mean(rev, known)
    raise InputError(f"{message}; expected a branch, a tag or a commit" + (f" ({hint})" if hint else ""))
