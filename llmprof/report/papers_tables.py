"""Printed figures beside ours as tables for people and records for programs. Formats only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

from llmprof.claims.papers.citations import CITATIONS
from llmprof.claims.papers.figure import Figure, Result, Sheet, Verdict
from llmprof.report.tables import Table, to_markdown
from llmprof.units import format_exact

COLUMNS = ("figure", "printed", "ours", "unit", "difference", "allowed", "verdict")
UNCONFIRMED = (
    "A verdict says that counts meet what a paper prints, under the assumptions that are stated; it is no measurement."
)
EXPLAINED = "explained: no count decides the figure, and it is held against nothing."


def pages(results: Sequence[Result], *, sheets: bool) -> list[Table]:
    """An overview of several studies; then each with its figures and what they rest on.

    `sheets` asks for the kernels or tensors behind the figures, too.
    """
    tables = [_overview(results)] if len(results) > 1 else []
    for result in results:
        tables.append(_figures(result))
        if sheets:
            tables += [_sheet(sheet) for sheet in result.outcome.sheets]
    explained = any(figure.tolerance is None for result in results for figure in result.outcome.figures)
    tables.append(Table(title="", columns=(), rows=(), notes=(UNCONFIRMED, *((EXPLAINED,) if explained else ()))))
    return tables


def _overview(results: Sequence[Result]) -> Table:
    verdicts: tuple[Verdict, ...] = get_args(Verdict)

    def counted(result: Result) -> list[str]:
        found = [figure.verdict for figure in result.outcome.figures]
        return [str(found.count(verdict)) for verdict in verdicts]

    rows = tuple((result.study.key, result.study.title, *counted(result)) for result in results)
    return Table(title="", columns=("study", "what is printed", *verdicts), rows=rows, left=2)


def _figures(result: Result) -> Table:
    study, outcome = result.study, result.outcome
    reasons = dict.fromkeys(figure.tolerance.why for figure in outcome.figures if figure.tolerance is not None)
    notes = (
        *(f"Assumed: {assumption}." for assumption in study.assumptions),
        *(f"Allowed: {why}." for why in reasons),
        *outcome.remarks,
        *(f"Source: {_cited(source)}." for source in study.sources),
    )
    rows = tuple(_row(figure) for figure in outcome.figures)
    return Table(title=f"{study.title} ({study.key})", columns=COLUMNS, rows=rows, notes=notes)


def _row(figure: Figure) -> tuple[str, ...]:
    off, tolerance = figure.difference, figure.tolerance
    return (
        figure.of,
        _number(figure.printed),
        _number(figure.ours),
        figure.unit,
        "-" if off is None else f"{off:+.2%}",
        "-" if tolerance is None else "equal" if not tolerance.size else f"± {tolerance.size:.2g}",
        figure.verdict,
    )


def _sheet(sheet: Sheet) -> Table:
    rows = tuple((line.of, line.what, format_exact(line.value)) for line in sheet.lines)
    total = ("together", "", format_exact(sheet.total))
    return Table(title=sheet.title, columns=("of", "what", sheet.unit), rows=(*rows, total), left=2)


def _number(value: float) -> str:
    """Six digits that say something; a whole number has none behind the point."""
    return f"{value:,.0f}" if value == int(value) and abs(value) < 1e6 else f"{value:,.6g}"


def _cited(source: str) -> str:
    reference = CITATIONS[source]
    when = reference.read if reference.read == "recalled" else f"read {reference.read}"
    return f"{reference.title}; {reference.url}; {when}"


def payload(results: Sequence[Result]) -> dict[str, object]:
    """The studies for programs, with the lines behind their figures."""
    return {"studies": [_record(result) for result in results]}


def _record(result: Result) -> dict[str, Any]:
    study, outcome = result.study, result.outcome
    return {
        "study": study.key,
        "title": study.title,
        "about": study.subject,
        "holds": result.holds,
        "figures": [_figure(figure) for figure in outcome.figures],
        "assumptions": list(study.assumptions),
        "remarks": list(outcome.remarks),
        "sheets": [
            {
                "title": sheet.title,
                "unit": sheet.unit,
                "lines": [{"of": line.of, "what": line.what, "value": line.value} for line in sheet.lines],
            }
            for sheet in outcome.sheets
        ],
        "sources": [
            {"title": at.title, "url": at.url, "read": at.read} for at in (CITATIONS[key] for key in study.sources)
        ],
    }


def _figure(figure: Figure) -> dict[str, object]:
    tolerance = figure.tolerance
    return {
        "of": figure.of,
        "printed": figure.printed,
        "ours": figure.ours,
        "unit": figure.unit,
        "tolerance": None if tolerance is None else tolerance.size,
        "tolerance_why": None if tolerance is None else tolerance.why,
        "verdict": figure.verdict,
    }


def records(results: Sequence[Result]) -> list[dict[str, object]]:
    """One flat record per figure."""
    return [
        {"study": result.study.key, "about": result.study.subject, **_figure(figure)}
        for result in results
        for figure in result.outcome.figures
    ]


def markdown(results: Sequence[Result], command: str) -> str:
    """The page that `command` prints, with the kernels behind the figures."""
    head = f"# Printed figures, computed again\n\nGenerated by `{command}`; do not edit.\n"
    *tables, closing = pages(results, sheets=True)
    return "\n".join([head, to_markdown(tables), *(f"{note}\n" for note in closing.notes)])
