"""`llmprof claims`: what a survey article says and what papers print, checked. Torch is never imported."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from llmprof.cli import options
from llmprof.cli.messages import bold

if TYPE_CHECKING:
    from llmprof.claims.claim import Finding
    from llmprof.claims.papers.figure import Result

SCHEMA_VERSION = 1
SUBJECTS = ("survey", "traffic", "training", "all")


def claims(
    number: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NUMBER...]",
            help="Numbers of claims, such as 3 or 1,4, or with --about traffic or training the names of studies, which "
            "then show their kernels; without any, all.",
        ),
    ] = None,
    about: Annotated[
        str,
        typer.Option(
            "--about",
            metavar="SUBJECT",
            help="survey: the claims of the article; traffic, training: figures that papers print; all: everything.",
        ),
    ] = "survey",
    output_format: options.FormatOption = "table",
    output: options.OutputOption = None,
) -> None:
    """Check the claims of the survey article behind this project: figures, verdict, what is true, and the source.

    With --about traffic or training, figures that papers print are computed again, each with its tolerance and what is
    assumed. The exit code is 1 where one differs by more than that. A wrong claim of the article is a finding: it exits
    with 0 all the same, and a claim that no figure decides is marked as cited only.
    """
    from llmprof.report.write import check_writable, write_text

    options.choice(output_format, ("table", "json", "csv", "markdown"), option="--format")
    subject = options.choice(about, SUBJECTS, option="--about")
    found = _findings(number) if subject == "survey" else [] if subject != "all" else _findings(None)
    made = _results(subject, number) if subject != "survey" else []
    check_writable(output)
    words = [*(number or ()), *(("--about", subject) if subject != "survey" else ())]
    text = _text(output_format, found, made, words, named=bool(number), color=bold(output))
    write_text(text, output)
    if not all(result.holds for result in made):
        raise typer.Exit(1)


def _findings(number: Sequence[str] | None) -> list[Finding]:
    """The claims of the article of these numbers, or all."""
    from llmprof.claims.table import CLAIMS, findings

    known = [str(claim.number) for claim in CLAIMS]
    wanted = options.choices(",".join(number), known, option="NUMBER") if number else []
    return findings(int(each) for each in wanted)


def _results(subject: str, named: Sequence[str] | None) -> list[Result]:
    """The studies about `subject`, or those that are named."""
    from llmprof.claims.papers.table import STUDIES, results

    known = {study.key: study for study in STUDIES if subject in (study.subject, "all")}
    wanted = options.choices(",".join(named), list(known), option="NUMBER") if named else list(known)
    return results(known[key] for key in wanted)


def _text(
    output_format: str,
    found: Sequence[Finding],
    made: Sequence[Result],
    words: Sequence[str],
    *,
    named: bool,
    color: bool,
) -> str:
    """What is written, in the format that was asked for; `words` are those of the command."""
    from llmprof.report import claims_tables, papers_tables, tables

    match output_format:
        case "json":
            parts = [
                *([claims_tables.payload(found)] if found else ()),
                *([papers_tables.payload(made)] if made else ()),
            ]
            return tables.to_json(
                {"schema_version": SCHEMA_VERSION, **{k: v for part in parts for k, v in part.items()}}
            )
        case "csv":
            return tables.to_csv([*claims_tables.records(found), *papers_tables.records(made)])
        case "markdown":
            command = " ".join(["llmprof claims", *words, "--format markdown"])
            pages = [claims_tables.markdown(found, command)] if found else []
            pages += [papers_tables.markdown(made, command)] if made else []
            return "\n".join(pages)
        case _:
            shown = claims_tables.pages(found) if found else []
            shown += papers_tables.pages(made, sheets=named) if made else []
            return tables.to_text(shown, color=color)
