"""What a change is held against: the values of a saved file, or of the specs as they were at a git revision."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Protocol

from llmprof.check import saved
from llmprof.check.budgets import Case
from llmprof.check.comparison import LineChange
from llmprof.check.figures import Figures, figures
from llmprof.check.layers import align, changes
from llmprof.check.lines import line_changes
from llmprof.check.revisions import Revision
from llmprof.check.verdict import Change, Number
from llmprof.errors import InputError, SpecError
from llmprof.spec.load import SpecFile

GIT = "git:"


class Before(Protocol):
    """One combination as it was."""

    def value(self, quantity: str) -> Number | None:
        """A figure, or None where it did not exist."""

    def changes(self, quantity: str, now: Figures) -> tuple[Change, ...]:
        """The modules whose parts of a figure changed, the largest difference first."""

    def causes(self) -> tuple[LineChange, ...]:
        """The lines of the spec that changed, where both versions of it are at hand."""


class Baseline(Protocol):
    """Where the values come from. `label` is what reports call it."""

    @property
    def label(self) -> str:
        """``baseline.json`` or ``git:main``."""

    def of(self, case: Case) -> Before | str:
        """The combination as it was, or why there is nothing to compare with."""


def open_baseline(text: str) -> Baseline:
    """What ``--baseline`` names: ``git:REV``, or a file. Raises InputError for a file that is wrong."""
    if text.startswith(GIT):
        return GitBaseline(text.removeprefix(GIT))
    return saved.load(Path(text))


class GitBaseline:
    """The specs as they were at a revision of the repository around each budget file."""

    def __init__(self, rev: str) -> None:
        self.rev = rev
        self._revisions: dict[Path, Revision] = {}
        self._specs: dict[tuple[Path, str], tuple[SpecFile, str] | str] = {}

    @property
    def label(self) -> str:
        """``git:main``."""
        return f"{GIT}{self.rev}"

    def of(self, case: Case) -> Before | str:
        """The combination at the revision. Raises InputError where there is no such revision or repository."""
        directory = Path(case.entry.place.file).parent.resolve()
        if directory not in self._revisions:
            self._revisions[directory] = Revision(self.rev, near=directory)
        key = (directory, case.subject.target)
        if key not in self._specs:
            self._specs[key] = self._spec(self._revisions[directory], case)
        found = self._specs[key]
        if isinstance(found, str):
            return found
        try:
            return _AtRevision(case, *found)
        except InputError as error:  # another set of variants, or a structure that had no such pass
            return f"at {self.rev}, {error}"

    def _spec(self, revision: Revision, case: Case) -> tuple[SpecFile, str] | str:
        """The spec at the revision and what messages call its file: the same file, or what its name meant."""
        path = case.subject.spec.path
        assert path is not None, "a subject is never read from standard input"
        path = path.resolve()
        if not path.is_relative_to(revision.root):
            return f"{case.subject.ref} is not in the repository {revision.root}, so it has no revisions there"
        try:
            inside = revision.find(str(path)) or revision.find(case.subject.target)
            if inside is None:
                return f"{case.subject.ref} did not exist at {self.rev}"
            return revision.load(inside), revision.label(inside)
        except SpecError as error:
            return f"the spec was wrong at {self.rev}: {error.problems[0]}"


class _AtRevision:
    """One combination as it was at a revision. Raises InputError where it could not have been asked."""

    def __init__(self, case: Case, spec: SpecFile, file: str) -> None:
        self._case, self._spec, self._file = case, spec, file
        arch = spec.arch(case.subject.variant)
        self._figures = figures(arch, case.question.workload(arch), case.question.sharding)

    def value(self, quantity: str) -> Number | None:
        return self._figures.value(quantity)

    def changes(self, quantity: str, now: Figures) -> tuple[Change, ...]:
        before = self._figures
        return changes(before.parts(quantity), now.parts(quantity), align(before.arch, now.arch))

    def causes(self) -> tuple[LineChange, ...]:
        return self._causes

    @cached_property
    def _causes(self) -> tuple[LineChange, ...]:
        subject = self._case.subject
        return line_changes(
            self._spec,
            subject.spec,
            before_variant=subject.variant,
            after_variant=subject.variant,
            before_file=self._file,
            after_file=subject.file,
        )
