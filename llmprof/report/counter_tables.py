"""Counters of `profile` as tables: one for each quantity of a pass, with prediction, measurement and verdict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from llmprof.report.collapse import collapse
from llmprof.report.tables import Table
from llmprof.units import format_bytes, format_count, format_exact

_TITLES = {
    "dram_bytes": "Bytes to and from memory",
    "l2_to_sm_bytes": "Bytes between L2 cache and SMs",
    "smem_bytes": "Bytes of shared memory, read and written",
    "matmul_flops_executed": "FLOPs of the tensor cores",
}
_TIERS = {"ncu": "Nsight Compute", "cupti": "CUPTI", "gpm": "NVML GPM", "none": "nothing"}
_WHOLE = "(whole pass)"


def counters(found: Mapping[str, Any] | None) -> list[Table]:
    """The tables of a record's counters; none where none were read, and none were to be read."""
    if found is None or not (found["rows"] or found["notes"]):
        return []
    groups: dict[tuple[str, str, str, str, str], list[Mapping[str, Any]]] = {}
    for row in found["rows"]:
        key = (row["phase"], row["attention"], row["caches"], row["quantity"], row["tier"])
        groups.setdefault(key, []).append(row)
    head = Table(title="The GPU's own counters", columns=(), rows=(), notes=tuple(found["notes"]))
    return [head, *(_table(*key, rows) for key, rows in groups.items())]


def _table(phase: str, attention: str, caches: str, quantity: str, tier: str, rows: list[Mapping[str, Any]]) -> Table:
    notes: list[str] = []
    cells = {row["path"] or _WHOLE: tuple(_cells(row, notes)) for row in rows}
    return Table(
        title=f"{_TITLES[quantity]}: {phase}, {attention}, {caches} caches, counted by {_TIERS[tier]}",
        columns=("module", "n", "about", "predicted", "measured", "ratio", "band", "verdict", "kernels"),
        rows=tuple((name, f"{n}", *line) for name, n, line in collapse(cells)),
        notes=tuple(f"[{number}] {text}" for number, text in enumerate(notes, 1)),
    )


def _cells(row: Mapping[str, Any], notes: list[str]) -> Iterator[str]:
    form = format_bytes if row["quantity"].endswith("bytes") else format_count
    known = row["predicted"] if row["predicted"] is not None else row["measured"]
    yield "-" if known is None else form(known)
    for side in ("predicted", "measured"):
        yield "-" if row[side] is None else format_exact(row[side])
    yield "-" if row["ratio"] is None else f"{row['ratio']:.4f}"
    yield "-" if row["band"] is None else f"{row['band']:.0%}"
    mark = ""
    if row["note"]:
        if row["note"] not in notes:
            notes.append(row["note"])
        mark = f" [{notes.index(row['note']) + 1}]"
    yield (row["verdict"] or "no verdict") + mark
    yield ", ".join(_short(name) for name in row["kernels"]) or "-"


def _short(name: str) -> str:
    """A kernel's name without its arguments and the parameters of its template; the record has it whole."""
    return name.removeprefix("void ").partition("(")[0].partition("<")[0].rpartition("::")[2]
