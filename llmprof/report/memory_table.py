"""Whether a model fits, for each record of `count`: what ``count --memory`` adds to them, and its table."""

from __future__ import annotations

from collections.abc import Sequence

from llmprof.report.count_tables import STAR, Record, label
from llmprof.report.tables import Table
from llmprof.units import format_bytes


def add_fit(records: Sequence[Record], memory_bytes: int) -> None:
    """Say in every record whether it fits in `memory_bytes`, and by how much."""
    for record in records:
        record["memory_bytes"] = memory_bytes
        for attention in ("fused", "unfused"):
            headroom = memory_bytes - record[f"total_bytes_{attention}"]
            record[f"fits_{attention}"] = headroom >= 0
            record[f"headroom_bytes_{attention}"] = headroom


def memory_verdicts(records: Sequence[Record], memory_bytes: int) -> Table:
    """Whether each record fits in `memory_bytes`, and by how much."""
    rows = []
    starred = False
    for record in records:
        cells = [label(record), record["phase"], f"{record['batch']:,}", f"{record['context']:,}"]
        for attention in ("fused", "unfused"):
            room = memory_bytes - record[f"total_bytes_{attention}"]
            mark = STAR if f"total_bytes_{attention}" in record["unconfirmed"] else ""
            starred |= bool(mark)
            verdict = f"fits, {format_bytes(room)} free" if room >= 0 else f"does not fit: {format_bytes(-room)} short"
            cells.append(verdict + mark)
        rows.append(tuple(cells))
    state = "recurrent state + " if any(record["recurrent_state_bytes"] for record in records) else ""
    return Table(
        title=f"In {format_bytes(memory_bytes)} ({memory_bytes:,} B): weights + KV cache + {state}activation peak",
        columns=("spec", "phase", "batch", "context", "fused", "unfused"),
        rows=tuple(rows),
        left=2,
        notes=("* the activation peak in it is unconfirmed, as above.",) if starred else (),
    )
