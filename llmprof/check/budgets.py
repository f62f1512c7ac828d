"""Budget files: text in, the combinations to check out, or every problem of every file."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from llmprof import catalog
from llmprof.catalog import Tell, untold
from llmprof.check import defaults, degrees, limits, measured, settings
from llmprof.check.limits import Limit
from llmprof.check.measured import Plan
from llmprof.check.quantities import LIMITED
from llmprof.check.settings import Question, Setting, Settings
from llmprof.check.subjects import Shelf, Subject
from llmprof.check.verdict import Place
from llmprof.errors import InputError, Problem, SpecError
from llmprof.sharding import Sharding
from llmprof.spec import source
from llmprof.spec.nodes import Map, Node, Scalar, Seq, short
from llmprof.spec.problems import Report
from llmprof.spec.validate import unknown_key
from llmprof.spec.yamlload import UNPRINTABLE, parse
from llmprof.workload import Workload

MAX_COMBINATIONS = 10_000
MAX_NAME = 200
ENTRY_KEYS = ("name", "spec", "use", "limits", "measured")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One budget: what is checked, how it is run, and what it may cost."""

    name: str | None
    path: str
    place: Place
    settings: Settings
    limits: tuple[Limit, ...]
    plan: Plan | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One combination of an entry."""

    entry: Entry
    subject: Subject
    question: Question
    workload: Workload

    @property
    def name(self) -> str:
        """What reports call it."""
        return self.subject.ref if self.entry.name is None else self.entry.name

    @property
    def settings(self) -> dict[str, str]:
        """The workload as text."""
        return settings.as_text(self.workload, self.entry.settings, self.question.sharding)


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetFile:
    """One file, as the user named it, and all that it asks to be checked."""

    file: str
    cases: tuple[Case, ...]


def load(files: Sequence[str], tell: Tell = untold) -> tuple[BudgetFile, ...]:
    """The budgets of `files`, each file once; `tell` hears what is to be known of imported specs.

    Raises SpecError with every problem of all of them.
    """
    if not files:
        raise InputError("no budget file is named")
    shelf = Shelf(tell)
    problems: list[Problem] = []
    loaded = []
    for file in {os.path.realpath(file): file for file in reversed(files)}.values():
        try:
            loaded.append(_load(source.read_file(Path(file)), file, Path(file).parent, shelf))
        except SpecError as error:
            problems += map(_in_words_of_budgets, error.problems)
    if problems:
        raise SpecError(problems)
    return tuple(reversed(loaded))


def load_text(text: str, *, file: str, directory: Path) -> BudgetFile:
    """The budgets of a text; `file` stands for it in messages, paths are relative to `directory`. Raises SpecError."""
    source.check_size(text, file)
    try:
        return _load(text, file, directory, Shelf())
    except SpecError as error:
        raise SpecError([_in_words_of_budgets(problem) for problem in error.problems]) from None


def _load(text: str, file: str, directory: Path, shelf: Shelf) -> BudgetFile:
    report = Report(file)
    tree = parse(text, file=file, root="a mapping with the key 'budgets:'")
    for key in tree.items:
        if key not in ("defaults", "budgets"):
            unknown_key(report, tree, key, ("defaults", "budgets"))
    sets = defaults.read(tree.get("defaults"), report)
    cases: list[Case] = []
    total = 0
    for node in _entries(tree, report):
        own = Report(file)
        entry = _entry(node, sets, own)
        for problem in own.problems:
            report.take(problem)
        refs = _refs(node, report)
        if own.problems or not refs:
            continue
        # Counted before anything is made of it: a matrix of a million cells must cost nothing.
        total += len(refs) * settings.combinations(entry.settings)
        if total > MAX_COMBINATIONS:
            report.add(node.mark, node.path, f"{total:,} combinations up to here", f"at most {MAX_COMBINATIONS:,}")
            break
        cases += _cases(entry, refs, directory, shelf, report)
    report.raise_if_any()
    return BudgetFile(file=file, cases=tuple(cases))


def _entries(tree: Map, report: Report) -> Iterator[Map]:
    node = tree.get("budgets")
    if node is None:
        report.missing(tree, "budgets", "a list with at least one entry")
    elif not isinstance(node, Seq) or not node.items:
        report.value(node, "a list with at least one entry, such as {spec: llama-2-7b, phase: decode, limits: {..}}")
    else:
        for item in node.items:
            if isinstance(item, Map):
                yield item
            else:
                report.value(item, "a mapping with spec, phase and limits")


def _entry(node: Map, sets: Mapping[str, dict[str, Setting]], report: Report) -> Entry:
    used: dict[str, Setting] = {}
    use = node.get("use")
    if use is not None:
        if isinstance(use, Scalar) and use.text in sets:
            used = sets[use.text]
        else:
            defaults.unknown(use, tuple(sets), report)
    together = {**used, **settings.read(node, report, also=ENTRY_KEYS)}
    if use is None or used:
        settings.check_together(together, node, report)
    written, plan = node.get("limits"), node.get("measured")
    if written is None and plan is None:
        report.missing(node, "limits", "a mapping of quantities to limits, such as {kv_cache_bytes: '<= 16 GiB'}")
    held = () if written is None else limits.read_all(written, LIMITED, report)
    spread = {key: setting.node for key, setting in together.items() if key in degrees.KEYS}
    degrees.check_limits(spread, held, written, measured=plan is not None, report=report)
    return Entry(
        name=_name(node.get("name"), report),
        path=node.path,
        place=Place(file=report.file, line=node.mark.line, column=node.mark.column),
        settings=together,
        limits=held,
        plan=None if plan is None else measured.read(plan, report),
    )


def _name(node: Node | None, report: Report) -> str | None:
    if node is None:
        return None
    if not isinstance(node, Scalar) or not isinstance(node.value, str) or not node.value.strip():
        hint = f'write "{node.text}"' if isinstance(node, Scalar) and node.text else None
        report.value(node, "text", hint)
    elif len(node.value) > MAX_NAME or UNPRINTABLE.search(node.value) or len(node.value.splitlines()) > 1:
        report.value(node, f"one line of at most {MAX_NAME} characters")
    else:
        return node.value
    return None


def _refs(node: Map, report: Report) -> list[Scalar]:
    spec = node.get("spec")
    words = "the name, alias or path of a spec, with :VARIANT where one is meant"
    if spec is None:
        report.missing(node, "spec", words)
        return []
    items = spec.items if isinstance(spec, Seq) else [spec]
    if not items:
        report.value(spec, "at least one spec")
    good: dict[str, Scalar] = {}
    for item in items:
        if isinstance(item, Scalar) and isinstance(item.value, str) and item.value:
            good.setdefault(item.value, item)
        else:
            report.value(item, words if isinstance(spec, Seq) else f"{words}, or a list of them")
    return list(good.values())


def _cases(entry: Entry, refs: Sequence[Scalar], directory: Path, shelf: Shelf, report: Report) -> Iterator[Case]:
    for ref in refs:
        subject = _subject(ref, directory, shelf, report)
        if subject is None:
            continue
        known: set[tuple[Workload, Sharding | None]] = set()
        for question in settings.questions(entry.settings):
            try:
                workload = question.workload(subject.arch)
            except InputError as error:
                where = _blamed(entry, str(error)) or ref
                report.value(where, "", found=f"{entry.name or subject.ref}: {error}")
                continue
            if (workload, question.sharding) not in known:
                known.add((workload, question.sharding))
                yield Case(entry=entry, subject=subject, question=question, workload=workload)


def _subject(ref: Scalar, directory: Path, shelf: Shelf, report: Report) -> Subject | None:
    try:
        return shelf.find(ref.text, directory)
    except SpecError as error:
        first = error.problems[0]
        if first.line is None:  # about the file as a whole: there is none, or it is no text
            # What is expected of a config or of weights is said by its reader; of a YAML file it is a spec.
            expected = first.expected if catalog.is_foreign(ref.text) else "the path of a spec"
            report.value(ref, expected, first.hint, found=f"{first.file}: {first.found}")
        else:
            report.value(ref, "a spec without problems", found=f"{short(ref.text)!r} has {len(error.problems)} of them")
            for problem in error.problems:
                report.take(problem)
    except InputError as error:
        report.value(ref, "", found=str(error))
    return None


def _blamed(entry: Entry, message: str) -> Node | None:
    """The setting that a message about a workload is about."""
    words = message.replace("sequence parallelism", "sequence_parallel").replace(",", " ").replace(":", " ").split()
    return next((setting.node for key, setting in entry.settings.items() if key in words), None)


# What libyaml and PyYAML say where a plain text begins with '>', which opens a block.
_BLOCK = ("comment or line break", "comment or a line break", "chomping or indentation")

_WORDS = {
    "one architecture, of a few kilobytes": "budgets, of a few kilobytes",
}


def _in_words_of_budgets(problem: Problem) -> Problem:
    """A problem of the YAML front end, which thinks of specs."""
    if any(words in problem.found for words in _BLOCK):
        return replace(problem, hint="a limit that begins with '>' needs quotes: \">= 1.0\"")
    return replace(problem, expected=_WORDS.get(problem.expected, problem.expected))
