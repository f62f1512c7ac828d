"""The figures and names of a check as text: what all its exporters share. Nothing is cut or rounded away."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping

from llmprof.check.verdict import Bound, Finding, Number, Report, Unit, decimal
from llmprof.units import format_bytes, format_count

_SPACE = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")

VERDICTS = {"passed": "holds", "failed": "FAILS", "unmeasured": "NOT MEASURED"}


def one_line(text: str) -> str:
    """`text` without line breaks and control characters, which a name may hold and a row may not."""
    return _SPACE.sub(" ", text).strip()


def exact(value: Number) -> str:
    """All digits, in groups of three: ``13,476,831,232`` or ``0.9999999999``."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**63:
        value = int(value)
    return f"{value:,}"


def amount(value: Number, unit: Unit) -> str:
    """A figure for people and, in parentheses, all of it: ``12.55 GiB (13,476,831,232 B)``."""
    digits = exact(value)
    if not math.isfinite(value):
        return digits
    if unit == "B":
        if not float(value).is_integer():  # of a row that several tokens share: its digits say nothing from here on
            digits = min(digits, f"{value:,.2f}", key=len)
        return f"{digits} B" if abs(value) < 1024 else f"{format_bytes(value)} ({digits} B)"
    if unit in ("ms", "ratio"):
        name = " ms" if unit == "ms" else ""
        short = f"{value:,.2f}"
        return f"{digits}{name}" if len(digits) <= len(short) else f"{short}{name} ({digits})"
    name = " FLOP" if unit == "FLOP" else ""
    return f"{digits}{name}" if abs(value) < 1000 else f"{format_count(value)}{name} ({digits})"


def signed(value: Number, unit: Unit) -> str:
    """A change, with its sign: ``+1.50 GiB (1,610,612,736 B)``."""
    return f"{'-' if value < 0 else '+'}{amount(abs(value), unit)}"


def percent(value: float) -> str:
    """A growth in percent with as many digits as it takes to tell it from none: ``+0.047%``."""
    places = 2 if value == 0 or abs(value) >= 0.1 else min(12, 1 - math.floor(math.log10(abs(value))))
    return f"{value:+,.{places}f}%"


def limit(bound: Bound) -> str:
    """The limit in numbers, and what they were worked out from: ``<= 1.00 KiB (1,024 B), 50% of h200's ..``."""
    low, high, unit = bound.low, bound.high, bound.unit
    if low is not None and high is not None:
        text = f"== {amount(high, unit)}" if low == high else f"{amount(low, unit)} .. {amount(high, unit)}"
    elif high is not None:
        text = f"<= {amount(high, unit)}"
    elif low is not None:
        text = f">= {amount(low, unit)}"
    else:
        return bound.meaning
    # In the meaning, figures have no space behind a comma.
    origin = bound.meaning.partition(", ")[2]
    return f"{text}, {origin}" if origin else text


def deciding(finding: Finding) -> Number | None:
    """The side of the limit that is exceeded or, where it holds, that is nearer."""
    low, high, value = finding.bound.low, finding.bound.high, finding.value
    if low is None or high is None:
        return high if low is None else low
    if value is None:
        return high
    return low if value - low < high - value else high


def headroom(finding: Finding) -> str:
    """What is left, negative where the limit fails: ``1.00 GiB (1,073,741,824 B), 6.25%``."""
    room, side = finding.headroom, deciding(finding)
    if room is None:
        return "-"
    share = f", {100 * room / side:,.2f}%" if side else ""
    if finding.bound.unit == "B" and isinstance(room, float) and math.isfinite(room):
        room = math.floor(100 * decimal(room)) / 100  # what is shown as left is left, and what is over shows
    return f"{amount(room, finding.bound.unit)}{share}"


def mark(finding: Finding) -> str:
    """A star behind a value that nothing independent confirms."""
    return " *" if finding.unconfirmed else ""


def settings(finding: Finding, keys: Iterable[str] | None = None) -> str:
    """The workload in words: ``phase decode, batch 8``; all of it, or only `keys`."""
    wanted = finding.settings if keys is None else [key for key in keys if key in finding.settings]
    return ", ".join(f"{key.replace('_', ' ')} {finding.settings[key]}" for key in wanted)


def full_name(finding: Finding) -> str:
    """What tells a finding from all others of its file: entry, spec, quantity and workload."""
    entry = finding.name if finding.name == finding.spec else f"{finding.name}: {finding.spec}"
    where = settings(finding)
    return f"{entry}, {finding.quantity}" + (f" ({where})" if where else "")


def _said(values: Mapping[str, int]) -> list[str]:
    return [f"{key.replace('_', ' ')} {value:,}" for key, value in values.items()]


def largest(finding: Finding) -> str:
    """The largest of each setting that would pass, as a sentence; empty where none would decide it.

    Where the quantity goes up and down with a setting, a value that passes, and no word of larger ones. Of a figure of
    one device, how many would do.
    """
    parts = [f"{key.replace('_', ' ')} {value:,}" for key, value in finding.largest.items() if value]
    never = [key.replace("_", " ") for key, value in finding.largest.items() if not value]
    words = f"largest that would pass, all else equal: {' or '.join(parts)}" if parts else ""
    if never:
        none = f"no {' and no '.join(never)} would pass" + (", all else equal" if not parts else "")
        words = f"{words}; {none}" if words else none
    if finding.would_pass:
        found = f"passes, all else equal: {' or '.join(_said(finding.would_pass))}; a larger one may, too"
        words = f"{words}; {found}" if words else found
    if finding.fewest:
        found = f"fewest that would pass: {' or '.join(_said(finding.fewest))}"
        words = f"{words}; {found}" if words else found
    return words


def verdict(report: Report) -> str:
    """The whole report in one line, made of numbers alone."""
    number = Counter(finding.status for finding in report.findings)
    total = len(report.findings)
    parts = [f"{number['failed']} of {total} limits failed"] if number["failed"] else []
    if number["unmeasured"]:
        parts.append(f"{number['unmeasured']} of {total} limits could not be measured")
    if not parts:
        parts.append(f"all {total} limits hold" if total != 1 else "the one limit holds")
    if report.warnings:
        parts.append(f"{len(report.warnings)} warning{'s' if len(report.warnings) > 1 else ''}")
    return ", ".join(parts)
