"""What a device adds to `count`: bytes by level. Records in, tables out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llmprof.report.count_tables import STAR, Record, label
from llmprof.report.tables import Table
from llmprof.units import format_bytes, format_count

_LINES = (
    ("compulsory: every tensor once", "compulsory_bytes_{}"),
    ("DRAM: what misses the last-level cache", "dram_bytes_{}"),
    ("  keys and values read again", "dram_reread_bytes_{}"),
    ("op-level: what every kernel reads and writes", "hbm_bytes_{}"),
    ("L2 to SM: tiles loaded again too", "l2_to_sm_bytes_{}"),
    ("shared memory, attention cores", "smem_bytes_{}"),
)
_EXECUTED = ("matmul FLOPs executed, attention cores", "matmul_flops_executed")
_COLUMNS = (
    ("compulsory", "compulsory_bytes_{}"),
    ("DRAM", "dram_bytes_{}"),
    ("op-level", "hbm_bytes_{}"),
    ("L2 to SM", "l2_to_sm_bytes_{}"),
)
_BOTH = ("fused", "unfused")


def levels_tables(records: Sequence[Record]) -> list[Table]:
    """The levels as lines with a column for each pass of one model, or a row for each record of several."""
    names = {(record["name"], record["variant"]) for record in records}
    phases = [record["phase"] for record in records]
    one = len(names) == 1 and len(phases) == len(set(phases))
    return [_sheet(records) if one else _rows(records)]


def _sheet(records: Sequence[Record]) -> Table:
    rows = []
    for text, key in _LINES:
        cells = [_cell(record, key.format(attention)) for record in records for attention in _BOTH]
        if set(cells) != {"-"}:
            rows.append((text, *cells))
    executed = [_cell(record, _EXECUTED[1], form=format_count) for record in records]
    if set(executed) != {"-"}:
        rows.append((_EXECUTED[0], *(cell for each in executed for cell in (each, "-"))))
    return Table(
        title=_title(records),
        columns=("bytes by level", *(f"{record['phase']}, {attention}" for record in records for attention in _BOTH)),
        rows=tuple(rows),
        notes=_notes(records, [key.format(each) for _, key in _LINES for each in _BOTH] + [_EXECUTED[1]]),
    )


def _rows(records: Sequence[Record]) -> Table:
    rows = [
        (
            label(record),
            record["phase"],
            f"{record['batch']:,}",
            f"{record['context']:,}",
            *(_cell(record, key.format(attention)) for attention in _BOTH for _, key in _COLUMNS),
        )
        for record in records
    ]
    heads = tuple(
        f"{head} {attention}" if head == "compulsory" else head for attention in _BOTH for head, _ in _COLUMNS
    )
    return Table(
        title=_title(records),
        columns=("spec", "phase", "batch", "context", *heads),
        rows=tuple(rows),
        left=2,
        notes=_notes(records, [key.format(each) for _, key in _COLUMNS for each in _BOTH]),
    )


def _title(records: Sequence[Record]) -> str:
    return f"On {records[0]['device']}: bytes by level (docs/reference-dram.md)"


def _cell(record: Record, key: str, form: Any = format_bytes) -> str:
    value = record.get(key)
    if value is None:
        return "-"
    return f"{form(value)}{STAR if key in record['unconfirmed'] else ''}"


def _notes(records: Sequence[Record], shown: Sequence[str]) -> tuple[str, ...]:
    """The kernels that run, and why figures are not confirmed."""
    kernels = dict.fromkeys(str(record["device_kernel"]) for record in records if record["device_kernel"])
    notes = [f"Attention: {kernel}." for kernel in kernels]
    reasons: dict[str, dict[str, None]] = {}
    for record in records:
        for key in shown:
            if key in record["unconfirmed"] and key != "hbm_bytes_fused" and key != "hbm_bytes_unfused":
                reasons.setdefault(record["unconfirmed"][key], {})[key] = None
    notes += [f"* unconfirmed: {', '.join(keys)}: {why}." for why, keys in reasons.items()]
    return tuple(notes)
