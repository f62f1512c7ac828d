"""Attention's memory accesses over sizes of shared memory, as tables and plots: ``count --sram``. Records in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llmprof.report.log_plot import Series, log_plot
from llmprof.report.tables import Table
from llmprof.units import format_bytes

Record = dict[str, Any]

COLUMNS = (
    "M",
    "elements",
    "FA1 tile",
    "FlashAttention 1",
    "x M / T S d²",
    "of standard",
    "FA2 tile",
    "FA2, L2 to SM",
    "x M / T S d²",
    "theorem 2",
)
_NOTES = (
    "Of one layer and the whole batch. Theorem 2 of FlashAttention (arXiv 2205.14135): for d <= M <= N d elements "
    "standard attention makes Theta(N d + N²) accesses to memory, FlashAttention Theta(N² d² / M). So accesses "
    "x M / T S d² of one head tend to a number as M falls; M is in elements there.",
    "FlashAttention 1 is the paper's algorithm 1, which knows no cache. FlashAttention 2 swaps its loops: memory sees "
    "K and V once, and the theorem describes what is loaded through the cache. Its tile is the largest that M holds "
    "beside 16 keys: a hypothetical kernel.",
)


def sram_tables(records: Sequence[Record], *, plots: bool, encoding: str | None) -> list[Table]:
    """A table for each core, and a plot below it where `plots` are asked for."""
    found: list[Table] = []
    for group in _by_core(records):
        found.append(_table(group))
        if plots:
            found.append(_plot(group, encoding))
    return [*found, Table(title="", columns=(), rows=(), notes=_NOTES)] if found else []


def _by_core(records: Sequence[Record]) -> list[list[Record]]:
    groups: dict[tuple[object, ...], list[Record]] = {}
    for record in records:
        key = tuple(record[name] for name in ("name", "variant", "batch", "queries", "keys", "path"))
        groups.setdefault(key, []).append(record)
    return list(groups.values())


def _title(record: Record) -> str:
    name = record["name"] if record["variant"] is None else f"{record['name']}:{record['variant']}"
    heads = f"{record['heads']} heads" + (
        "" if record["heads"] == record["kv_heads"] else f", {record['kv_heads']} of KV"
    )
    return (
        f"{name}, {record['path']}: batch {record['batch']:,}, T {record['queries']:,}, S {record['keys']:,}, {heads}, "
        f"d {record['head_dim']}, {record['mask']} mask, {record['activation_dtype']}"
    )


def _table(records: Sequence[Record]) -> Table:
    first = records[0]
    rows = [
        (
            format_bytes(record["sram_bytes"]),
            f"{record['sram_elements']:,}",
            _tile(record["fa1_rows"], record["fa1_keys"]),
            format_bytes(record["fa1_bytes"]),
            f"{record['fa1_constant']:.2f}",
            f"{record['fa1_bytes'] / record['standard_bytes']:.3f}",
            _tile(record["fa2_rows"], record["fa2_keys"]),
            "-" if record["fa2_l2_to_sm_bytes"] is None else format_bytes(record["fa2_l2_to_sm_bytes"]),
            "-" if record["fa2_constant"] is None else f"{record['fa2_constant']:.2f}",
            record["theorem"],
        )
        for record in records
    ]
    return Table(
        title=_title(first),
        columns=COLUMNS,
        rows=tuple(rows),
        notes=(
            f"Standard attention ({first['unfused_reference']}, op-level): {format_bytes(first['standard_bytes'])}; "
            f"every tensor once: {format_bytes(first['compulsory_bytes'])}.",
        ),
    )


def _tile(rows: int | None, keys: int | None) -> str:
    return "-" if rows is None else f"{rows}x{keys}"


def _plot(records: Sequence[Record], encoding: str | None) -> Table:
    size = "sram_bytes"
    series = [Series(name="FlashAttention 1", points=tuple((r[size], r["fa1_bytes"]) for r in records))]
    through = tuple((r[size], r["fa2_l2_to_sm_bytes"]) for r in records if r["fa2_l2_to_sm_bytes"] is not None)
    if through:
        series.append(Series(name="FlashAttention 2, L2 to SM", points=through))
    series.append(Series(name="standard", points=tuple((r[size], r["standard_bytes"]) for r in records)))
    lines = log_plot(series, x_text=format_bytes, y_text=format_bytes, encoding=encoding)
    return Table(title="Bytes over M, both logarithmic", columns=(), rows=(), notes=tuple(lines))
