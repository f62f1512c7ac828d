"""A table of measured ops as CSV: what each row is, and which rows cannot be understood, by line.

Columns: `row_id op device` of every row, `framework kernel dtype kv_dtype` where they say more, and the sizes of its
op: `m n k` of a product; `b s h g d` (and `prefix window`) of attention; `b s h` of latent attention; `m E topk D I
moe_tp moe_ep routing` of a mixture; `num_gpus bytes` of a collective. `us`, where it is given, is what was measured:
no op has it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Protocol

from llmprof.errors import InputError
from llmprof.latency.op import Op
from llmprof.latency.table_ops import CACHED, OPS, given

NEEDED = ("row_id", "op", "device")


class Lines(Protocol):
    """A `csv.reader`: lists of cells, and the line that was read last."""

    @property
    def line_num(self) -> int: ...

    def __iter__(self) -> Iterator[list[str]]: ...


MAX_BYTES = 512 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row: its line, what it is, and what was measured in microseconds, if that is given."""

    line: int
    row_id: str
    kind: str
    device: str
    dtype: str
    op: Op
    measured: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows in the order of the file, and (line, row_id, what is wrong) of those that were not understood."""

    rows: tuple[Row, ...]
    problems: tuple[tuple[int, str, str], ...]


def read(path: Path) -> Table:
    """The rows of a file. InputError where it is no table of ops at all."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path}: larger than {MAX_BYTES >> 20} MiB; split it")
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text (byte {error.start}); save it as CSV in UTF-8") from error
    lines = csv.reader(io.StringIO(text, newline=""))
    try:
        head = [name.strip() for name in next(lines, [])]
        _check_head(path, head)
        return _rows(head, lines)
    except csv.Error as error:
        raise InputError(f"{path}:{lines.line_num}: not CSV: {error}") from error


def _check_head(path: Path, head: list[str]) -> None:
    if not any(head):
        raise InputError(f"{path}:1: empty; expected a line of column names, with {', '.join(NEEDED)}")
    missing = [name for name in NEEDED if name not in head]
    if missing:
        raise InputError(f"{path}:1: no column {', '.join(missing)}; found {', '.join(head)[:200]}")
    twice = sorted({name for name in head if name and head.count(name) > 1})
    if twice:
        raise InputError(f"{path}:1: column {', '.join(twice)} twice")


def _rows(head: list[str], lines: Lines) -> Table:
    rows: list[Row] = []
    problems: list[tuple[int, str, str]] = []
    seen: dict[str, int] = {}
    for cells in lines:
        line = lines.line_num
        if not any(cell.strip() for cell in cells):
            continue
        fields = {name: cell.strip() for name, cell in zip(head, cells, strict=False)}
        row_id = fields.get("row_id", "")
        try:
            if len(cells) != len(head):
                raise InputError(f"found {len(cells)} cells, expected {len(head)}")
            if not row_id:
                raise InputError("row_id is empty")
            if row_id in seen:
                raise InputError(f"row_id {row_id!r} was on line {seen[row_id]} already")
            seen[row_id] = line
            rows.append(_row(fields, line))
        except InputError as error:
            problems.append((line, row_id, str(error)))
    return Table(rows=tuple(rows), problems=tuple(problems))


def _row(fields: Mapping[str, str], line: int) -> Row:
    kind = fields["op"].lower().replace("-", "_")
    make = OPS.get(kind)
    if make is None:
        raise InputError(f"op {kind!r} is not known; known are {', '.join(OPS)}")
    if not fields["device"]:
        raise InputError("device is empty")
    columns = ("kv_dtype", "dtype") if kind in CACHED else ("dtype",)
    dtypes = [fields[name] for name in columns if given(fields.get(name, ""))]
    return Row(
        line=line,
        row_id=fields["row_id"],
        kind=kind,
        device=fields["device"],
        dtype=next(iter(dtypes), "bfloat16"),
        op=make(fields),
        measured=_measured(fields),
    )


def _measured(fields: Mapping[str, str]) -> float | None:
    text = given(fields.get("us", ""))
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not isfinite(value) or value <= 0:
        raise InputError(f"us: found {fields['us'][:40]!r}, expected a time above 0 in microseconds, or nothing")
    return value
