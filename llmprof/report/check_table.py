"""A check as tables for people: all limits, then for each that fails what grew, where, and what would bring it back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from llmprof.check.verdict import Change, Finding, Report, Unit
from llmprof.report.check_places import source
from llmprof.report.check_text import (
    VERDICTS,
    amount,
    headroom,
    largest,
    limit,
    mark,
    percent,
    settings,
    signed,
    verdict,
)
from llmprof.report.tables import Table, to_text


def render(report: Report, *, color: bool = False) -> str:
    """All findings of `report` as text."""
    tables = [overview(report.findings)]
    for finding in report.findings:
        if finding.status != "passed":
            tables += explanation(finding)
    return to_text([*tables, Table(title=verdict(report), columns=(), rows=())], color=color)


def overview(findings: Sequence[Finding]) -> Table:
    """One row for each finding; columns that would say nothing are left out."""
    varying = _varying(findings)
    workloads = [_workload(finding, varying) for finding in findings]
    with_workload = any(workloads)
    with_baseline = any(finding.delta_pct is not None for finding in findings)
    rows = []
    for finding, workload in zip(findings, workloads, strict=True):
        growth = finding.delta_pct
        rows.append(
            (
                finding.name,
                *((workload,) if with_workload else ()),
                finding.quantity,
                "-" if finding.value is None else amount(finding.value, finding.bound.unit) + mark(finding),
                limit(finding.bound),
                headroom(finding),
                *(("-" if growth is None else percent(growth),) if with_baseline else ()),
                VERDICTS[finding.status],
            )
        )
    columns = (
        "budget",
        *(("workload",) if with_workload else ()),
        "quantity",
        "value",
        "limit",
        "headroom",
        *(("growth",) if with_baseline else ()),
        "verdict",
    )
    reasons = dict.fromkeys(finding.unconfirmed for finding in findings if finding.unconfirmed)
    return Table(
        title="",
        columns=columns,
        rows=tuple(rows),
        left=3 if with_workload else 2,
        notes=tuple(f"* unconfirmed: {reason}" for reason in reasons),
    )


def _varying(findings: Sequence[Finding]) -> dict[str, list[str]]:
    """By entry, the settings in which its combinations differ; ``spec`` among them."""
    entries: dict[str, list[Finding]] = {}
    for finding in findings:
        entries.setdefault(finding.name, []).append(finding)
    varying = {}
    for name, group in entries.items():
        keys = dict.fromkeys(key for finding in group for key in finding.settings)
        varying[name] = [key for key in keys if len({finding.settings.get(key) for finding in group}) > 1]
        if len({finding.spec for finding in group}) > 1:
            varying[name].insert(0, "spec")
    return varying


def _workload(finding: Finding, varying: dict[str, list[str]]) -> str:
    keys = varying[finding.name]
    parts = [finding.spec] if "spec" in keys else []
    rest = settings(finding, keys)
    return ", ".join([*parts, rest] if rest else parts)


def explanation(finding: Finding) -> list[Table]:
    """Why a limit fails, in the order in which one asks: what, where, since when, by which line, and now what."""
    unit = finding.bound.unit
    place = f"{source(finding.bound.place)}: {finding.quantity}: {finding.bound.text}"
    notes = tuple(text for text in (finding.sentence, finding.remark) if text)
    tables = [Table(title=place, columns=(), rows=(), notes=notes)]
    if finding.parts:
        tables.append(_parts(finding))
    if finding.changes:
        tables.append(_changes(finding.changes, unit))
    remarks = [f"cause: {cause}" for cause in finding.causes]
    remarks += [largest(finding)] if finding.largest or finding.would_pass or finding.fewest else []
    if remarks:
        tables.append(Table(title="", columns=(), rows=(), notes=tuple(remarks)))
    return tables


def _parts(finding: Finding) -> Table:
    rows = []
    for part in finding.parts:
        # The parts of a ratio are its operands, which have no share in it.
        whole = finding.value if finding.bound.unit != "ratio" else None
        share = f"{100 * part.value / whole:,.2f}%" if whole else "-"
        rows.append((part.path, f"{part.count:,}", amount(part.value, finding.bound.unit), share))
    return Table(title="", columns=("contributes most", "modules", finding.quantity, "share"), rows=tuple(rows))


def _changes(changes: Iterable[Change], unit: Unit) -> Table:
    rows = []
    for change in changes:
        before, after = change.before, change.after
        rows.append(
            (
                change.path,
                "-" if before is None else amount(before, unit),
                "-" if after is None else amount(after, unit),
                signed((after or 0) - (before or 0), unit),
            )
        )
    return Table(title="", columns=("changed since the baseline", "before", "after", "change"), rows=tuple(rows))
