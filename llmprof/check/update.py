"""Exceeded limits rewritten in place: only the numbers in them change, every other byte of a file stays.

The new number is the present value in the form and unit of the old one, rounded outwards so that it holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor
from pathlib import Path

from llmprof.check.budgets import load
from llmprof.check.limits import Amount, Growth, Limit, Share
from llmprof.check.verdict import Finding, Place, Report
from llmprof.spec import source

DIGITS = 2
"""Digits after the point of a rounded number, or as many as were written."""

MOST_DIGITS = 18
"""A byte is 0.0000000000000009 PiB."""

_BREAK = re.compile(r"\r\n|[\r\n\x85\u2028\u2029]")
_ANCHOR = re.compile(r"&\S+[ ]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """The new text of each file that changes, to be written in UTF-8 as it is, and why some limits were left alone."""

    texts: dict[str, str]
    notes: tuple[tuple[str, Place], ...]


class _CannotRewrite(Exception):
    """Why a limit has to be changed by hand."""


def update(files: Sequence[str], report: Report) -> Update:
    """Rewrite the limits of `files` that `report`, of the same files, found exceeded. Nothing is written.

    Limits relative to a baseline and measured ones are left alone, with a note. Raises SpecError where the files
    are wrong, which they were not when the report was made.
    """
    limits = {limit.place: limit for file in load(files) for case in file.cases for limit in case.entry.limits}
    by_place: dict[Place, list[Finding]] = {}
    for finding in report.findings:
        by_place.setdefault(finding.bound.place, []).append(finding)
    edits: dict[str, list[tuple[int, int, str]]] = {}
    originals: dict[str, str] = {}
    notes: list[tuple[str, Place]] = []
    for place, findings in by_place.items():
        if all(finding.status != "failed" for finding in findings):
            continue
        try:
            if place not in limits:
                raise _CannotRewrite("a measured limit is not rewritten: one run is no reason for it")
            text = originals.setdefault(place.file, _raw(place.file))
            found = _edits(limits[place], findings, _start(text, limits[place]))
            edits.setdefault(place.file, []).extend(found)
        except _CannotRewrite as reason:
            notes.append((f"{findings[0].quantity}: {findings[0].bound.text}: {reason}", place))
    return Update(texts={file: _applied(originals[file], edits[file]) for file in edits}, notes=tuple(notes))


def _raw(file: str) -> str:
    """The text of a file as its bytes say it, a byte order mark included."""
    source.read_file(Path(file))  # for its checks
    return Path(file).read_bytes().decode("utf-8")


def _start(text: str, limit: Limit) -> int:
    """Where the text of a limit begins in its file."""
    offset = 1 if text.startswith("\ufeff") else 0
    for _ in range(limit.place.line - 1):
        line_break = _BREAK.search(text, offset)
        assert line_break is not None, "the file has the lines that were read from it"
        offset = line_break.end()
    offset += limit.place.column - 1
    anchor = _ANCHOR.match(text, offset)
    offset = anchor.end() if anchor else offset
    if text[offset : offset + 1] in ("'", '"'):
        offset += 1
        while text[offset] == " ":
            offset += 1
    if not text.startswith(limit.text, offset):
        raise _CannotRewrite("it is not rewritten, as it is not written on one line without escapes")
    return offset


def _edits(limit: Limit, findings: Sequence[Finding], start: int) -> list[tuple[int, int, str]]:
    """(begin, end, new text) of the numbers of a limit that must change."""
    if limit.relative:
        raise _CannotRewrite("relative to the baseline, so it is the baseline that must be written anew")
    values = [Fraction(finding.value) for finding in findings if finding.value is not None]
    sayable = limit.exact and limit.quantity.may_be_none
    if not sayable and (not any(values) or (limit.low is not None and not all(values))):
        raise _CannotRewrite("the value is 0, which this limit cannot say; take it out")
    if limit.exact:
        if len(set(values)) > 1:
            raise _CannotRewrite("its combinations have different values, so no one number holds for all")
        return [_exactly(limit, values[0], start)]
    made = []
    for term, worst, up in ((limit.low, min(values), False), (limit.high, max(values), True)):
        match term:
            case Amount():
                kept = worst <= term.base if up else worst >= term.base
                quotient = worst / term.scale
            case Share():
                kept = worst <= term.base if up else worst >= term.base
                quotient = worst * 100 / term.device.memory_bytes
                if limit.quantity.per_rank and not kept and quotient > 100:
                    raise _CannotRewrite(
                        f"the value is more than all of a {term.name}: spread it over more of them, or name a larger"
                    )
            case Growth() | None:
                continue
        if not kept:
            digits = max(_digits(limit.text[term.number.start : term.number.end]), DIGITS)
            text = _rounded(quotient, digits, up=up)
            made.append((start + term.number.start, start + term.number.end, text))
    return made


def _exactly(limit: Limit, value: Fraction, start: int) -> tuple[int, int, str]:
    """The edit of an ``==``: in its unit where that takes few digits, else in base units."""
    term = limit.high
    assert isinstance(term, Amount)
    quotient = value / term.scale
    digits = max(DIGITS, _digits(limit.text[term.number.start : term.number.end]))
    if (quotient * 10**digits).denominator == 1:
        return start + term.number.start, start + term.number.end, _rounded(quotient, digits, up=True)
    if value.denominator != 1:
        raise _CannotRewrite("the value is no whole number; write a range")
    end = start + len(limit.text)
    base = {"B": " B", "FLOP": " FLOP"}.get(limit.quantity.unit, "")
    return start + term.number.start, end, f"{_grouped(int(value))}{base}"


def _digits(number: str) -> int:
    return len(number.partition(".")[2])


def _rounded(value: Fraction, digits: int, *, up: bool) -> str:
    """A number with at most `digits` digits after the point, rounded outwards; more of them where it would be 0."""
    while True:
        scaled = value * 10**digits
        whole = ceil(scaled) if up else floor(scaled)
        if whole > 0 or digits >= MOST_DIGITS:
            break
        digits += 1
    before, after = divmod(whole, 10**digits)
    rest = f"{after:0{digits}d}".rstrip("0") if digits else ""
    return _grouped(before) + (f".{rest}" if rest else "")


def _grouped(number: int) -> str:
    """An integer as specs write it: with ``_`` from a hundred thousand on."""
    return f"{number:_}" if number >= 100_000 else f"{number}"


def _applied(text: str, edits: Iterable[tuple[int, int, str]]) -> str:
    for begin, end, new in sorted(set(edits), reverse=True):
        text = text[:begin] + new + text[end:]
    return text
