"""What one device of a divided training step keeps, as a table for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llmprof.report.count_tables import label
from llmprof.report.tables import Table
from llmprof.units import format_bytes, format_count

Record = dict[str, Any]

COLUMNS: tuple[tuple[str, str], ...] = (
    ("weights", "weight_bytes_per_rank"),
    ("gradients", "gradient_bytes_per_rank"),
    ("optimiser", "optimizer_bytes_per_rank"),
    ("saved fused", "saved_bytes_per_rank_fused"),
    ("saved unfused", "saved_bytes_per_rank_unfused"),
)
NOTES = (
    "Of the fullest device. Saved activations are of its own sequences: --batch is that of one data-parallel device.",
    "* unconfirmed: {why}.",
)


def rank_table(records: Sequence[Record], why: str) -> Table:
    """One row per record; `why` says why nothing confirms the figures. All records have been divided alike."""
    first = records[0]
    devices = first["data_parallel"] * first["tensor_parallel"]
    return Table(
        title=f"On each of {devices:,} device{'s' if devices > 1 else ''}: {_division(first)}",
        columns=("spec", "parameters", *(head for head, _ in COLUMNS)),
        rows=tuple(
            (
                label(record),
                f"{format_count(record['parameters_per_rank'])} *",
                *("-" if record[key] is None else f"{format_bytes(record[key])} *" for _, key in COLUMNS),
            )
            for record in records
        ),
        notes=tuple(note.format(why=why) for note in NOTES),
    )


def _division(record: Record) -> str:
    """``data 8, ZeRO stage 3, tensor 4 with sequence parallelism``."""
    parts = [f"data {record['data_parallel']}"]
    if record["zero_stage"]:
        parts.append(f"ZeRO stage {record['zero_stage']}")
    parts.append(f"tensor {record['tensor_parallel']}")
    return ", ".join(parts) + (" with sequence parallelism" if record["sequence_parallel"] else "")
