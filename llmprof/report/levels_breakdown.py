"""Bytes by level of each module or layer on a device: what ``count --device-spec --by`` adds. Predictions in, text out.

Equal layers may differ here: what is in the cache when a layer begins depends on what went before it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmprof.ledger import Ledger, Quantity
from llmprof.paths import layer_path
from llmprof.predict.levels import levels
from llmprof.predict.record import UNFUSED, both
from llmprof.report.collapse import collapse
from llmprof.report.tables import Table
from llmprof.spec.arch import ArchSpec
from llmprof.units import format_bytes
from llmprof.workload import Execution, Workload

if TYPE_CHECKING:
    from llmprof.device import Device

_QUANTITIES: tuple[Quantity, ...] = ("compulsory_bytes", "dram_bytes", "l2_to_sm_bytes")
_FUSED_ALONE: tuple[Quantity, ...] = ("smem_bytes", "matmul_flops_executed")
_KEYS = (
    *(f"{quantity}_{attention}" for attention in ("fused", "unfused") for quantity in _QUANTITIES),
    "smem_bytes_fused",
    "matmul_flops_executed",
)
_SHOWN = {
    "compulsory_bytes_fused": "compulsory fused",
    "dram_bytes_fused": "DRAM",
    "l2_to_sm_bytes_fused": "L2 to SM",
    "smem_bytes_fused": "shared memory",
    "compulsory_bytes_unfused": "compulsory unfused",
    "dram_bytes_unfused": "DRAM",
    "l2_to_sm_bytes_unfused": "L2 to SM",
}

Figures = tuple[int | None, ...]


def levels_breakdown(
    arch: ArchSpec, workload: Workload, level: str, device: Device, execution: Execution = UNFUSED
) -> list[dict[str, Any]]:
    """The levels by `path` in raw base units, equal neighbours as one record with a `count`; None where unknown.

    `level` is ``module`` or ``layer``.
    """
    return [
        {"path": path, "count": count, **dict(zip(_KEYS, figures, strict=True))}
        for path, count, figures in collapse(_by_path(arch, workload, device, execution, whole_layers=level == "layer"))
    ]


def levels_breakdown_table(
    arch: ArchSpec, workload: Workload, level: str, device: Device, execution: Execution = UNFUSED
) -> Table:
    """The same for people."""
    rows = [
        (
            str(record["path"]),
            f"{record['count']}",
            *("-" if record[key] is None else format_bytes(record[key]) for key in _SHOWN),
        )
        for record in levels_breakdown(arch, workload, level, device, execution)
    ]
    return Table(
        title=f"{arch.label}, {workload.phase}, by {level} on {device.name}",
        columns=(level, "n", *_SHOWN.values()),
        rows=tuple(rows),
        notes=("Figures are of one of the n equal ones; they are confirmed as far as the totals above.",),
    )


def _by_path(
    arch: ArchSpec, workload: Workload, device: Device, execution: Execution, *, whole_layers: bool
) -> dict[str, Figures]:
    """Path to the figures of `_KEYS`. Of a layer without a figure for one of its leaves there is none either."""
    fused, unfused = (levels(prediction, device) for prediction in both(arch, workload, execution))
    columns = [(ledger, quantity) for ledger in (fused, unfused) for quantity in _QUANTITIES]
    columns += [(fused, quantity) for quantity in _FUSED_ALONE]
    found: dict[str, list[int | None]] = {}
    for path in fused.paths():
        place = layer_path(path)
        name = f"{place.stack}{place.index}" if whole_layers and place is not None else path
        figures = found.setdefault(name, [0] * len(_QUANTITIES) * 2 + [None] * len(_FUSED_ALONE))
        for column, (ledger, quantity) in enumerate(columns):
            figures[column] = _added(figures[column], ledger, path, quantity)
    return {path: tuple(figures) for path, figures in found.items()}


def _added(so_far: int | None, ledger: Ledger, path: str, quantity: Quantity) -> int | None:
    value = ledger.at(path, quantity)
    if quantity in _FUSED_ALONE:
        return so_far if value is None else (so_far or 0) + value
    return None if so_far is None or value is None else so_far + value
