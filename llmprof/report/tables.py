"""A table as data, and its renderings. Exporters only format: they compute nothing.

Text is as wide as its figures need: a number is never truncated or wrapped, however narrow the terminal is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

NOTE_WIDTH = 118
"""Where remarks are wrapped; a line that begins with a space is left alone, so that a command can be copied."""

_GAP = "   "
_RULE = "\u2500"
_BOLD, _PLAIN = "\x1b[1m", "\x1b[0m"
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows of text cells under headings. The first `left` columns are left-aligned, the others hold figures.

    `drawing` are lines below the notes in which every space counts.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: int = 1
    notes: tuple[str, ...] = field(default=())
    drawing: tuple[str, ...] = ()


def printable(text: str) -> str:
    """`text` on one line, with what could steer a terminal written as an escape."""
    return _UNPRINTABLE.sub(lambda match: repr(match.group())[1:-1], text)


def to_text(tables: Sequence[Table], *, color: bool = False) -> str:
    """The tables as aligned text with a rule under each heading; `color` is bold headings."""
    return "\n".join("".join(f"{line}\n" for line in _lines(table, color)) for table in tables)


def _lines(table: Table, color: bool) -> list[str]:
    def bold(text: str) -> str:
        return f"{_BOLD}{text}{_PLAIN}" if color and text else text

    lines = [bold(printable(table.title))] if table.title else []
    if table.columns:
        grid = [tuple(printable(cell) for cell in row) for row in (table.columns, *table.rows)]
        widths = [max(map(len, column)) for column in zip(*grid, strict=True)]
        head, *body = [_row(row, widths, table.left) for row in grid]
        lines += [bold(head), _RULE * (sum(widths) + len(_GAP) * (len(widths) - 1)), *body]
    for note in table.notes:
        lines += _wrapped(note)
    if table.drawing:
        lines += ["", *map(printable, table.drawing)]
    return lines


def _row(cells: Sequence[str], widths: Sequence[int], left: int) -> str:
    padded = [
        cell.ljust(width) if number < left else cell.rjust(width)
        for number, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return _GAP.join(padded).rstrip()


def _wrapped(note: str) -> list[str]:
    text = printable(note)
    if len(text) <= NOTE_WIDTH or text.startswith(" "):
        return [text]
    import textwrap

    return textwrap.wrap(text, NOTE_WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def _escape(cell: str) -> str:
    return printable(cell.replace("\n", " ")).replace("\\", "\\\\").replace("|", "\\|")


def to_markdown(tables: Sequence[Table]) -> str:
    """The tables as GitHub-flavoured Markdown."""
    blocks = []
    for table in tables:
        lines = [f"**{_escape(table.title)}**", ""] if table.title else []
        if table.columns:
            lines.append("| " + " | ".join(_escape(c) for c in table.columns) + " |")
            lines.append("|" + "|".join("---" if n < table.left else "---:" for n in range(len(table.columns))) + "|")
            lines += ["| " + " | ".join(_escape(c) for c in row) + " |" for row in table.rows]
        if table.notes:
            lines += ["", *(_note(note) for note in table.notes)]
        if table.drawing:
            lines += ["", "```text", *map(printable, table.drawing), "```"]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"


def _note(note: str) -> str:
    """A remark; an indented line of it is a command or a formula, in which an asterisk is no emphasis."""
    if note.startswith(" "):
        return f"`{printable(note.strip())}`  "
    return _escape(note).replace("*", "\\*") + "  "


def to_csv(records: Sequence[dict[str, object]], columns: Sequence[str] = ()) -> str:
    """Flat records as CSV, raw base units: `columns` first, then those of the records in first-seen order."""
    import csv
    import io

    columns = list(dict.fromkeys([*columns, *(key for record in records for key in record)]))
    if not columns:
        return ""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    for record in records:
        writer.writerow([_flat(record.get(key)) for key in columns])
    return stream.getvalue()


def _flat(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, dict):
        return ";".join(str(key) for key in value)
    if isinstance(value, list | tuple):
        return ";".join(str(item) for item in value)
    return str(value)


def to_json(payload: dict[str, object]) -> str:
    """A record as JSON: raw base units, keys in the order of the contract.

    ASCII alone, so that it is valid under any encoding of stdout; NaN is no JSON, and a ValueError here.
    """
    import json

    return json.dumps(payload, indent=2, allow_nan=False) + "\n"
