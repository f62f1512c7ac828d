"""What `llmprof sweep` found: a map of some points as a table, all of them as CSV and JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from llmprof.report.tables import Table
from llmprof.units import format_bytes, format_count

if TYPE_CHECKING:
    from llmprof.predict.grid import Grid

ROWS, COLUMNS = 16, 9
"""Contexts and batches that a table shows at most: the first, the last, and some between."""

TITLES = {
    "total_bytes_fused": "weights + KV cache + states + activation peak",
    "weight_bytes": "weights",
    "kv_cache_bytes": "KV cache",
    "recurrent_state_bytes": "recurrent state",
    "activation_peak_bytes_fused": "activation peak",
    "matmul_flops_dense": "FLOPs of contractions, dense",
    "matmul_flops_causal": "FLOPs of contractions, under the mask",
    "hbm_bytes_fused": "op-level bytes",
}
"""What a sweep shows, by the keys of `count`."""

_IN_GRID = {
    "activation_peak_bytes_fused": "peak_live_bytes",
    "matmul_flops_dense": "matmul_flops",
    "hbm_bytes_fused": "hbm_bytes",
}
"""The figures that a grid calls otherwise than `count` does."""

APPROXIMATE = "Figures of arrays, equal to those of `llmprof count` to 1e-12; attention fused."


@dataclass(frozen=True, eq=False)
class Swept:
    """One grid, and what is asked of it. `memory_bytes` is None where nothing has to fit."""

    grid: Grid
    phase: str
    quantity: str
    memory_bytes: int | None

    @property
    def label(self) -> str:
        return self.grid.arch.label

    @cached_property
    def largest_batches(self) -> list[int]:
        """The largest batch of the grid that fits, by context; 0 where none does."""
        assert self.memory_bytes is not None
        fits = self.grid.total_bytes <= self.memory_bytes
        batches = self.grid.batches
        return [
            max((batch for batch, fit in zip(batches, column, strict=True) if fit), default=0)
            for column in fits.T.tolist()
        ]

    def values(self, name: str) -> Any:
        """The figure `name` at every batch and context."""
        return self.grid.total_bytes if name == "total_bytes_fused" else self.grid.figures[_IN_GRID.get(name, name)]

    @property
    def record(self) -> dict[str, Any]:
        """Every point: figures as lists of rows, one for each batch."""
        arch = self.grid.arch
        made: dict[str, Any] = {
            "name": arch.name,
            "variant": arch.variant,
            "phase": self.phase,
            "batches": list(self.grid.batches),
            "contexts": list(self.grid.contexts),
            "figures": {name: self.values(name).tolist() for name in TITLES},
        }
        if self.memory_bytes is not None:
            made |= {"memory_bytes": self.memory_bytes, "largest_batch": self.largest_batches}
        return made


def to_csv(found: Sequence[Swept]) -> str:
    """A row for each point with every figure, rounded to whole numbers."""
    names = tuple(TITLES)
    lines = [",".join(("name", "variant", "phase", "batch", "context", *names))]
    for each in found:
        arch, grid = each.grid.arch, each.grid
        head = f"{arch.name},{arch.variant or ''},{each.phase}"
        for row, batch in enumerate(grid.batches):
            columns = [each.values(name)[row].tolist() for name in names]
            for context, *figures in zip(grid.contexts, *columns, strict=True):
                lines.append(f"{head},{batch},{context}," + ",".join(f"{figure:.0f}" for figure in figures))
    return "\n".join(lines) + "\n"


def pages(found: Swept) -> list[Table]:
    """A map of the quantity, and in a memory the largest batch of each context."""
    grid, memory = found.grid, found.memory_bytes
    rows, columns = _some(len(grid.contexts), ROWS), _some(len(grid.batches), COLUMNS)
    values = found.values(found.quantity)
    form: Callable[[float], str] = format_bytes if "bytes" in found.quantity else format_count
    body = []
    for column in rows:
        cells = [form(float(values[row, column])) for row in columns]
        if memory is not None:
            totals = found.values("total_bytes_fused")
            fits = [totals[row, column] <= memory for row in columns]
            cells = [cell if fit else f"({cell})" for cell, fit in zip(cells, fits, strict=True)]
            cells.append(f"{found.largest_batches[column]:,}" if found.largest_batches[column] else "none")
        body.append((f"{grid.contexts[column]:,}", *cells))
    heads = tuple(f"{grid.batches[row]:,}" for row in columns)
    notes = [APPROXIMATE]
    if len(rows) < len(grid.contexts) or len(columns) < len(grid.batches):
        notes.append(
            f"{len(columns)} of {len(grid.batches):,} batches and {len(rows)} of {len(grid.contexts):,} contexts; csv "
            "and json have all."
        )
    if memory is not None:
        notes.append(
            f"In brackets: does not fit in {format_bytes(memory)} ({memory:,} B), weights, cache, states and peak "
            "together. fits: the largest batch of all that were asked for."
        )
    title = f"{found.label}, {found.phase}: {TITLES[found.quantity]}, by context and batch"
    return [
        Table(
            title=title,
            columns=("context", *heads, *(("fits",) if memory is not None else ())),
            rows=tuple(body),
            left=0,
            notes=tuple(notes),
        )
    ]


def _some(count: int, most: int) -> list[int]:
    """Up to `most` indices below `count`, evenly spread, the first and the last among them."""
    if count <= most:
        return list(range(count))
    return sorted({round(index * (count - 1) / (most - 1)) for index in range(most)})
