"""`llmprof check`: hold budgets against specs. Torch is never imported unless a budget has measured limits."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmprof.cli import options
from llmprof.cli.messages import bold, say

if TYPE_CHECKING:
    from llmprof.check.verdict import Report
    from llmprof.errors import InputError

EXIT_UNMEASURED = 3
FORMATS = ("table", "json", "junit", "github", "markdown", "gitlab")
PLACES = ("specs/budgets", "budgets")
"""Where budgets are looked for when no file is named."""

Files = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[FILE...]", help="Budget files; without any, specs/budgets/*.yaml and budgets/*.yaml below here."
    ),
]
CheckFormat = Annotated[
    str, typer.Option("--format", metavar="FORMAT", help="table, json, junit, github, markdown or gitlab.")
]
Baseline = Annotated[
    str | None,
    typer.Option(
        "--baseline", metavar="FILE|git:REV", help="What relative limits refer to: a saved baseline, or a revision."
    ),
]


def check(
    files: Files = None,
    output_format: CheckFormat = "table",
    output: options.OutputOption = None,
    baseline: Baseline = None,
    save_baseline: Annotated[
        str | None,
        typer.Option(
            "--save-baseline", metavar="FILE", help="Write today's values there, and without --baseline refer to them."
        ),
    ] = None,
    update: Annotated[
        bool, typer.Option("--update", help="Rewrite each exceeded limit in place to the present value.")
    ] = False,
    require_budgets: Annotated[
        bool, typer.Option("--require-budgets", help="A spec of specs/models that no FILE names is an error.")
    ] = False,
    allow_unmeasured: Annotated[
        bool, typer.Option("--allow-unmeasured", help="Do not fail where a device for measured limits is missing.")
    ] = False,
) -> None:
    """Hold the budgets of FILE against the specs they name: what grew, by how much, where, what would bring it back.

    Exit 0 where every limit holds, 1 where one is exceeded, 2 where the input is wrong, 3 where a measured limit could
    not be measured. With --format github, $GITHUB_STEP_SUMMARY gets the report too.
    """
    from llmprof.errors import InputError
    from llmprof.report.write import check_writable, write_text

    options.choice(output_format, FORMATS, option="--format")
    check_writable(output)
    try:
        report = _report(
            list(dict.fromkeys(files or _found())),
            # Files that were picked out by name cannot be expected to name every spec.
            warn=not files,
            baseline=baseline,
            save_baseline=save_baseline,
            update=update,
            require_budgets=require_budgets,
        )
    except InputError as error:
        if output_format == "github":
            write_text(_annotated(error), output)
        raise
    write_text(_rendered(report, output_format, output=output, allow_unmeasured=allow_unmeasured), output)
    if output_format == "github":
        _append_summary(report)
    else:
        for text, place in report.warnings:
            say(f"warning: {text}" if place is None else f"warning: {place.file}:{place.line}: {text}")
    code = report.exit_code
    if code == EXIT_UNMEASURED and allow_unmeasured:
        code = 0
    if code:
        raise typer.Exit(code)


def _report(
    budgets: list[str],
    *,
    warn: bool,
    baseline: str | None,
    save_baseline: str | None,
    update: bool,
    require_budgets: bool,
) -> Report:
    """The verdict on the budgets, after what was asked to be written has been written."""
    from llmprof.check.baseline import open_baseline
    from llmprof.check.budgets import load
    from llmprof.check.coverage import require_all, warnings
    from llmprof.check.evaluate import judge

    loaded = load(budgets, tell=say)
    if require_budgets:
        require_all(loaded)
    # Opened before anything is written: both may be the same file.
    against = None if baseline is None else open_baseline(baseline)
    if save_baseline is not None:
        from llmprof.check.saved import save

        _write(save(loaded), save_baseline, option="--save-baseline")
        number = sum(len(file.cases) for file in loaded)
        say(f"{save_baseline}: the values of {number:,} combination{'s' if number != 1 else ''}")
        against = against or open_baseline(save_baseline)
    report = judge(loaded, baseline=against, warned=warnings(loaded) if warn else ())
    if update and _updated(budgets, report):
        before, report = report, judge(load(budgets), baseline=against, warned=report.warnings)
        _say_what_changed(before, report)
    return report


def _updated(budgets: list[str], report: Report) -> bool:
    """Rewrite the exceeded limits of the files; whether there was any that could be."""
    from llmprof.check.update import update

    made = update(budgets, report)
    for reason, place in made.notes:
        say(f"not updated: {place.file}:{place.line}: {reason}")
    for file, text in made.texts.items():
        _write(text, file, option="--update")
    return bool(made.texts)


def _say_what_changed(before: Report, after: Report) -> None:
    """A message for each limit that was rewritten, of however many combinations."""
    changed = {}
    for old, new in zip(before.findings, after.findings, strict=True):
        if old.bound.text != new.bound.text:
            changed[old.bound.place] = f"{old.quantity}: {old.bound.text} is now {new.bound.text}"
    for place, text in changed.items():
        say(f"updated: {place.file}:{place.line}: {text}")


def _write(text: str, place: str, *, option: str) -> None:
    """Put `text` where `option` says. InputError that names the option where it cannot be written."""
    from llmprof.errors import InputError
    from llmprof.report.write import check_writable, write_text

    try:
        check_writable(place)
        write_text(text, place)
    except InputError as error:
        raise InputError(str(error).replace("--output", option, 1)) from error


def _found() -> list[str]:
    """The budget files of the current directory. InputError where there is none: nothing checked is not passed."""
    from llmprof.errors import InputError

    found = [
        path.as_posix()
        for place in PLACES
        for path in sorted(Path(place).glob("*"))
        if path.suffix in (".yaml", ".yml")
    ]
    if not found:
        raise InputError(
            f"no budget file in {' or '.join(PLACES)} below {Path.cwd()}; name one, or write one (docs/budgets.md)"
        )
    return found


def _rendered(report: Report, output_format: str, *, output: str | None, allow_unmeasured: bool) -> str:
    from llmprof.report import check_github, check_gitlab, check_json, check_junit, check_markdown, check_table

    if output_format == "table":
        return check_table.render(report, color=bold(output))
    report = _as_the_repository_names_it(report)
    if output_format == "github":
        return check_github.render(report, allow_unmeasured=allow_unmeasured)
    renderers = {
        "json": check_json.render,
        "junit": check_junit.render,
        "markdown": check_markdown.render,
        "gitlab": check_gitlab.render,
    }
    return renderers[output_format](report)


def _as_the_repository_names_it(report: Report) -> Report:
    from llmprof.report.check_places import at_root, repository_root

    return at_root(report, repository_root(Path.cwd()))


def _annotated(error: InputError) -> str:
    """What is wrong with the input, each problem of a file on its own line."""
    from llmprof.errors import SpecError
    from llmprof.report import check_github
    from llmprof.report.check_places import from_root, repository_root

    if not isinstance(error, SpecError):
        return check_github.refusal(str(error))
    root = repository_root(Path.cwd())
    return check_github.problems([replace(each, file=from_root(each.file, root)) for each in error.problems])


def _append_summary(report: Report) -> None:
    """Give GitHub the whole report, behind what the step has said already. The verdict does not depend on it."""
    from llmprof.report.check_markdown import SUMMARY_LIMIT, render

    name = os.environ.get("GITHUB_STEP_SUMMARY")
    if not name:
        return
    try:
        with open(name, "a", encoding="utf-8") as file:
            room = SUMMARY_LIMIT - file.tell() - 1
            file.write("\n" * (file.tell() > 0) + render(_as_the_repository_names_it(report), limit=room))
    except OSError as error:
        say(f"warning: $GITHUB_STEP_SUMMARY could not be written: {error.strerror}")
