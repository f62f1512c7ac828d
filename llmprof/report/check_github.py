"""A check as GitHub workflow commands: an annotation on the budget's own line for each limit that fails.

GitHub shows the first ten errors of a step, so the first failure of every line comes before the second of any.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from llmprof.check.verdict import Finding, Place, Report
from llmprof.errors import Problem


def render(report: Report, *, allow_unmeasured: bool = False) -> str:
    """A line for each failure, each limit that was not measured (an error, too, unless allowed), and each warning."""
    lines = []
    for finding in _in_turn(report):
        level = "warning" if finding.status == "unmeasured" and allow_unmeasured else "error"
        lines.append(_annotation(level, f"{finding.name}: {finding.quantity}", _message(finding), finding.bound.place))
    lines += [_annotation("warning", "llmprof check", text, place) for text, place in report.warnings]
    return "".join(line + "\n" for line in lines)


def problems(found: Sequence[Problem]) -> str:
    """What is wrong with a file, on the line where it is wrong."""
    lines = []
    for problem in found:
        place = Place(file=problem.file, line=problem.line or 1, column=problem.column or 1)
        text = f"{problem.path}: {problem.found}" if problem.path else problem.found
        text += f"; expected {problem.expected}" if problem.expected else ""
        text += f" ({problem.hint})" if problem.hint else ""
        lines.append(_annotation("error", "llmprof check: wrong input", text, place) + "\n")
    return "".join(lines)


def refusal(message: str) -> str:
    """Why nothing could be checked, where it is no matter of one line."""
    return _annotation("error", "llmprof check: wrong input", message, None) + "\n"


def _in_turn(report: Report) -> list[Finding]:
    """What does not hold, one of every line first, then the second of every line, and so on; failures first of all."""
    seen: Counter[tuple[str, int]] = Counter()
    ranked = []
    for finding in report.findings:
        if finding.status != "passed":
            line = (finding.bound.place.file, finding.bound.place.line)
            ranked.append((finding.status != "failed", seen[line], finding))
            seen[line] += 1
    return [finding for _, _, finding in sorted(ranked, key=lambda item: item[:2])]


def _message(finding: Finding) -> str:
    note = [finding.remark] if finding.remark else []
    return "\n".join([finding.sentence, *note, *(f"cause: {cause}" for cause in finding.causes)])


def _annotation(level: str, title: str, message: str, place: Place | None) -> str:
    properties = {"title": title}
    if place is not None:
        properties = {"file": place.file, "line": str(place.line), "col": str(place.column)} | properties
    fields = ",".join(f"{key}={_property(value)}" for key, value in properties.items())
    return f"::{level} {fields}::{_data(message)}"


def _data(text: str) -> str:
    # The runner's own encoding; percent goes first, or it would encode what the others made.
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
