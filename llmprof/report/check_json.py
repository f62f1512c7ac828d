"""A check as JSON for programs: raw base units, a stable schema, and no number that JSON cannot hold."""

from __future__ import annotations

import math
from collections import Counter

from llmprof.check.verdict import Finding, Number, Report
from llmprof.report.check_places import source
from llmprof.report.check_text import deciding
from llmprof.report.tables import to_json

SCHEMA_VERSION = 1


def render(report: Report) -> str:
    """`report` as one JSON object. `passed` is true only where everything was evaluated and holds."""
    number = Counter(finding.status for finding in report.findings)
    return to_json(
        {
            "schema_version": SCHEMA_VERSION,
            "passed": number["passed"] == len(report.findings),
            "counts": {status: number[status] for status in ("passed", "failed", "unmeasured")},
            "baseline": report.baseline,
            "warnings": [
                {"message": text, "source": None if place is None else source(place)} for text, place in report.warnings
            ],
            "results": [record(finding) for finding in report.findings],
        }
    )


def record(finding: Finding) -> dict[str, object]:
    """One finding, its keys in the order of the contract."""
    return {
        "name": finding.name,
        "metric": finding.quantity,
        "passed": finding.status == "passed",
        "status": finding.status,
        "value": _number(finding.value),
        "limit": _number(deciding(finding)),
        "limit_low": _number(finding.bound.low),
        "limit_high": _number(finding.bound.high),
        "limit_text": finding.bound.text,
        "limit_meaning": finding.bound.meaning,
        "unit": finding.bound.unit,
        "headroom": _number(finding.headroom),
        "baseline": _number(finding.baseline),
        "delta_pct": _number(finding.delta_pct),
        "source": source(finding.bound.place),
        "spec": finding.spec,
        "settings": dict(finding.settings),
        "message": finding.sentence,
        "note": finding.remark,
        "parts": [{"path": part.path, "count": part.count, "value": _number(part.value)} for part in finding.parts],
        "changes": [
            {"path": change.path, "before": _number(change.before), "after": _number(change.after)}
            for change in finding.changes
        ],
        "causes": list(finding.causes),
        "largest": dict(finding.largest),
        "would_pass": dict(finding.would_pass),
        "fewest": dict(finding.fewest),
    }


def _number(value: Number | None) -> Number | None:
    """JSON knows no NaN and no infinity: what is not a number is null."""
    return value if value is not None and math.isfinite(value) else None
