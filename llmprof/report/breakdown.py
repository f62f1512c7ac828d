"""The figures of `count` broken down by module, op or layer, and explained. Predictions in, tables and records out."""

from __future__ import annotations

import itertools
from typing import Any

from llmprof.ledger import Ledger, Quantity
from llmprof.paths import layer_path
from llmprof.predict.api import Prediction
from llmprof.predict.explain import Explanation, explain
from llmprof.predict.record import UNFUSED, both
from llmprof.report.collapse import collapse
from llmprof.report.tables import NOTE_WIDTH, Table
from llmprof.spec.arch import ArchSpec
from llmprof.units import format_bytes, format_count, format_exact
from llmprof.workload import Execution, Workload

_SAME: tuple[Quantity, ...] = ("params", "weight_bytes", "kv_cache_bytes", "recurrent_state_bytes")
"""What both executions have alike."""

_OWN: tuple[Quantity, ...] = ("matmul_flops", "hbm_bytes")
"""What each execution has of its own: FLOPs too, where the two are different algorithms."""


def _predictions(arch: ArchSpec, workload: Workload, unfused: Execution) -> dict[str, Prediction]:
    return dict(zip(("fused", "unfused"), both(arch, workload, unfused), strict=True))


def _by_path(
    arch: ArchSpec, workload: Workload, unfused: Execution, *, whole_layers: bool
) -> dict[str, tuple[int, ...]]:
    """Path to the figures of `_HEADS`, at modules or at whole layers."""
    predictions = _predictions(arch, workload, unfused)
    found: dict[str, list[int]] = {}

    def add(ledger: Ledger, quantity: Quantity, column: int) -> None:
        for entry in ledger:
            if entry.quantity == quantity and entry.path:
                place = layer_path(entry.path)
                if whole_layers and place is not None:
                    path = f"{place.stack}{place.index}"
                elif quantity in ("kv_cache_bytes", "recurrent_state_bytes"):
                    path = entry.path.rpartition(".")[0]  # what a leaf keeps stands at the leaf
                else:
                    path = entry.path
                found.setdefault(path, [0] * len(_HEADS))[column] += entry.value

    columns = itertools.count()
    for quantity in _SAME:
        add(predictions["fused"].ledger, quantity, next(columns))
    for quantity in _OWN:
        for prediction in predictions.values():
            add(prediction.ledger, quantity, next(columns))
    return {path: tuple(values) for path, values in found.items()}


_HEADS = (
    "params",
    "weight_bytes",
    "kv_cache_bytes",
    "recurrent_state_bytes",
    "matmul_flops_dense",
    "matmul_flops_dense_unfused",
    "hbm_bytes_fused",
    "hbm_bytes_unfused",
)


def breakdown_records(
    arch: ArchSpec, workload: Workload, level: str, unfused: Execution = UNFUSED
) -> list[dict[str, Any]]:
    """The breakdown in raw base units. Equal layers are one record with a `count`; figures are of one of them."""
    if level == "op":
        return [
            {"attention": attention, **{name: getattr(line, name) for name in line.__slots__}}
            for attention, prediction in _predictions(arch, workload, unfused).items()
            for line in prediction.ops
        ]
    values = _by_path(arch, workload, unfused, whole_layers=level == "layer")
    return [
        {"path": path, "count": count, **dict(zip(_HEADS, figures, strict=True))}
        for path, count, figures in collapse(values)
    ]


def breakdown_table(arch: ArchSpec, workload: Workload, level: str, unfused: Execution = UNFUSED) -> Table:
    """The breakdown for people."""
    title = f"{arch.label}, {workload.phase}, by {level}"
    if level == "op":
        rows = [
            (
                attention,
                line.path,
                line.kind,
                line.formula,
                f"{line.count}",
                format_bytes(line.read_bytes),
                format_bytes(line.write_bytes),
                format_count(line.matmul_flops),
                format_count(line.vector_flops),
            )
            for attention, prediction in _predictions(arch, workload, unfused).items()
            for line in prediction.ops
        ]
        return Table(
            title=title,
            columns=(
                "attention",
                "path",
                "kernel",
                "arithmetic",
                "n",
                "reads",
                "writes",
                "matmul FLOPs",
                "vector FLOPs",
            ),
            rows=tuple(rows),
            left=4,
            notes=(
                "Bytes and FLOPs are of one launch; n is how many equal launches there are.",
                *_unconfirmed(arch, workload, unfused, "vector_flops", "hbm_bytes"),
            ),
        )
    values = _by_path(arch, workload, unfused, whole_layers=level == "layer")
    kept = any(figures[3] for figures in values.values())
    two = any(figures[4] != figures[5] for figures in values.values())
    rows_by_path = []
    for path, count, (params, weights, cache, state, flops, unfused_flops, moved, unfused_moved) in collapse(values):
        rows_by_path.append(
            (
                path,
                f"{count}",
                format_exact(params),
                format_bytes(weights),
                format_bytes(cache),
                *((format_bytes(state),) if kept else ()),
                format_count(flops),
                *((format_count(unfused_flops),) if two else ()),
                format_bytes(moved),
                format_bytes(unfused_moved),
            )
        )
    return Table(
        title=title,
        columns=(
            level,
            "n",
            "parameters",
            "weights",
            "KV cache",
            *(("state",) if kept else ()),
            *(("FLOPs fused", "FLOPs unfused") if two else ("matmul FLOPs",)),
            "HBM fused",
            "HBM unfused",
        ),
        rows=tuple(rows_by_path),
        notes=("Figures are of one of the n equal ones.", *_unconfirmed(arch, workload, unfused, "hbm_bytes")),
    )


def _unconfirmed(arch: ArchSpec, workload: Workload, unfused: Execution, *shown: str) -> list[str]:
    """A remark for each of the `shown` quantities that nothing independent confirms."""
    found: dict[str, None] = {}
    for prediction in _predictions(arch, workload, unfused).values():
        for quantity, why in prediction.unconfirmed.items():
            if quantity in shown:
                found[f"* unconfirmed: {_NAMES[quantity]}: {why}."] = None
    return list(found)


_NAMES = {"vector_flops": "vector FLOPs", "hbm_bytes": "bytes moved (HBM, reads, writes)"}


def explanation_records(arch: ArchSpec, workload: Workload, unfused: Execution = UNFUSED) -> list[dict[str, Any]]:
    """Each figure's formula in symbols and in numbers, and its source."""
    return [
        {
            "name": e.name,
            "value": e.value,
            "formula": e.formula,
            "numbers": e.numbers,
            "source": e.reference.url,
            "source_title": e.reference.title,
            "source_read": e.reference.read,
        }
        for e in explain(arch, workload, unfused)
    ]


def explanation_table(arch: ArchSpec, workload: Workload, unfused: Execution = UNFUSED) -> Table:
    """The same for people: a block of lines per figure."""
    lines: list[str] = []
    for e in explain(arch, workload, unfused):
        lines += [*_block(e), ""]
    return Table(title=f"{arch.label}, {workload.phase}, explained", columns=(), rows=(), notes=tuple(lines[:-1]))


def _block(e: Explanation) -> list[str]:
    value = f"{e.value:,}" if isinstance(e.value, int) else f"{e.value:,.4f}"
    return [
        f"{e.name} = {value}",
        *_sum_lines(e.formula),
        *_sum_lines(e.numbers),
        f"  source: {e.reference.title}, {e.reference.url} (read {e.reference.read})",
    ]


def _sum_lines(formula: str) -> list[str]:
    """A formula on as many lines as it needs, broken before a plus alone so that no product is torn."""
    lines = ["  ="]
    for number, term in enumerate(formula.split(" + ")):
        word = term if number == 0 else f"+ {term}"
        if number and len(lines[-1]) + 1 + len(word) > NOTE_WIDTH:
            lines.append(f"    {word}")
        else:
            lines[-1] += f" {word}"
    return lines
