"""A training step broken down by module or layer, and whether it fits: the tables behind `--by` and `--memory`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from llmprof.ledger import Quantity
from llmprof.paths import layer_path
from llmprof.predict.objective_record import both
from llmprof.report.collapse import collapse
from llmprof.report.count_tables import STAR, label
from llmprof.report.tables import Table
from llmprof.spec.arch import ArchSpec
from llmprof.units import format_bytes, format_count
from llmprof.workload import Workload

Record = dict[str, Any]

_SAME: tuple[Quantity, ...] = ("params", "weight_bytes", "gradient_bytes", "optimizer_bytes")
"""What both executions have alike."""

_OWN: tuple[Quantity, ...] = ("matmul_flops", "hbm_bytes", "saved_bytes")
"""What each execution has of its own."""

KEYS = (*_SAME, *(f"{quantity}_{execution}" for quantity in _OWN for execution in ("fused", "unfused")))
"""The figures of one row, in order. FLOPs and traffic are of the forward pass."""

KERNEL_KEYS = ("path", "kind", "count", "read_bytes", "write_bytes", "matmul_flops", "formula")
"""What is said of one kernel."""

_HEADS = (
    "params",
    "weights",
    "gradients",
    "optimiser",
    "FLOPs fused",
    "FLOPs unfused",
    "HBM fused",
    "HBM unfused",
    "saved fused",
    "saved unfused",
)


def breakdown_records(arch: ArchSpec, workload: Workload, level: str) -> list[Record]:
    """The breakdown in raw base units. Equal layers are one record with a `count`; figures are of one of them.

    `level` is ``module`` or ``layer``, or ``op``: a record for each kernel of forward and backward. What no rule says
    is null, and of backward's kernels not there.
    """
    if level == "op":
        return list(_kernels(arch, workload))
    return [
        {"path": path, "count": count, **dict(zip(KEYS, figures, strict=True))}
        for path, count, figures in collapse(_by_path(arch, workload, whole_layers=level == "layer"))
    ]


def breakdown_table(arch: ArchSpec, workload: Workload, level: str) -> Table:
    """The breakdown for people."""
    if level == "op":
        return _kernel_table(arch, workload)
    forms = [format_count if key == "params" or key.startswith("matmul") else format_bytes for key in KEYS]
    return Table(
        title=f"{arch.label}, {workload.objective}, by {level}",
        columns=(level, "n", *_HEADS),
        rows=tuple(
            (
                record["path"],
                f"{record['count']:,}",
                *("-" if record[key] is None else form(record[key]) for key, form in zip(KEYS, forms, strict=True)),
            )
            for record in breakdown_records(arch, workload, level)
        ),
        notes=(
            f"Figures are of one of the n equal {level}s. FLOPs and HBM are of the forward pass; saved is what it "
            "keeps for backward, at the module that saves it first.",
        ),
    )


def _kernels(arch: ArchSpec, workload: Workload) -> Iterator[Record]:
    """Every kernel, equal layers folded; figures are of one launch."""
    for execution, prediction in both(arch, workload).items():
        step = prediction.training
        backward = () if step.unpredicted else step.ops
        for name, lines in (("forward", prediction.ops), ("backward", backward)):
            for line in lines:
                yield {"attention": execution, "pass": name, **{key: getattr(line, key) for key in KERNEL_KEYS}}


def _kernel_table(arch: ArchSpec, workload: Workload) -> Table:
    records = list(_kernels(arch, workload))
    whole = any(record["pass"] == "backward" for record in records)
    return Table(
        title=f"{arch.label}, {workload.objective}, by op",
        columns=("attention", "pass", "path", "kernel", "arithmetic", "n", "reads", "writes", "matmul FLOPs"),
        rows=tuple(
            (
                record["attention"],
                record["pass"],
                record["path"],
                record["kind"],
                record["formula"],
                f"{record['count']:,}",
                format_bytes(record["read_bytes"]),
                format_bytes(record["write_bytes"]),
                format_count(record["matmul_flops"]),
            )
            for record in records
        ),
        left=5,
        notes=("Figures are of one launch.",) if whole else ("Figures are of one launch. No rule says backward's.",),
    )


def _by_path(arch: ArchSpec, workload: Workload, *, whole_layers: bool) -> dict[str, tuple[int | None, ...]]:
    """Path -> the figures of `KEYS`."""
    predictions = both(arch, workload)
    columns = [(predictions["fused"], quantity) for quantity in _SAME]
    columns += [(prediction, quantity) for quantity in _OWN for prediction in predictions.values()]
    found: dict[str, list[int | None]] = {}
    for column, (prediction, quantity) in enumerate(columns):
        unknown = quantity in prediction.training.unpredicted
        for entry in prediction.ledger:
            if entry.path and entry.quantity == quantity:
                row = found.setdefault(_row(entry.path, whole_layers), [None if unknown else 0] * len(columns))
                row[column] = (row[column] or 0) + entry.value
        if unknown:
            for row in found.values():
                row[column] = None
    return {path: tuple(figures) for path, figures in found.items()}


def _row(path: str, whole_layers: bool) -> str:
    """The path of a row: the leaf's, or that of its layer."""
    place = layer_path(path) if whole_layers else None
    return path if place is None else f"{place.stack}{place.index}"


def add_fit(record: Record, memory_bytes: int) -> None:
    """Whether a step fits in `memory_bytes`, and by how much; null where no rule says what it keeps."""
    record["memory_bytes"] = memory_bytes
    for execution in ("fused", "unfused"):
        total = record[f"total_bytes_{execution}"]
        record[f"fits_{execution}"] = None if total is None else total <= memory_bytes
        record[f"headroom_bytes_{execution}"] = None if total is None else memory_bytes - total


def memory_verdicts(records: Sequence[Record], memory_bytes: int) -> Table:
    """The same as a table."""
    rows = []
    starred = False
    for record in records:
        cells = [label(record), f"{record['batch']:,}", f"{record['text_tokens']:,}"]
        for execution in ("fused", "unfused"):
            room = record[f"headroom_bytes_{execution}"]
            mark = STAR if f"total_bytes_{execution}" in record["unconfirmed"] else ""
            starred |= bool(mark)
            if room is None:
                cells.append("-")
            elif room >= 0:
                cells.append(f"fits, {format_bytes(room)} free{mark}")
            else:
                cells.append(f"does not fit: {format_bytes(-room)} short{mark}")
        rows.append(tuple(cells))
    return Table(
        title=f"In {format_bytes(memory_bytes)} ({memory_bytes:,} B): weights + optimiser + the most beside them",
        columns=("spec", "batch", "text", "fused", "unfused"),
        rows=tuple(rows),
        left=1,
        notes=("* unconfirmed, as above.",) if starred else (),
    )
