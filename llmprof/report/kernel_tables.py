"""Attention cores as every tiled kernel would run them on a device: `count --by kernel`. Predictions in, text out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmprof.predict.core_kernels import CoreKernel, CoreKernels, core_kernels
from llmprof.predict.unconfirmed import SRAM
from llmprof.report.tables import Table
from llmprof.units import format_bytes, format_count

if TYPE_CHECKING:
    from llmprof.device import Device
    from llmprof.spec.arch import ArchSpec
    from llmprof.workload import Execution, Workload

_BYTES = {
    "compulsory_bytes": "every tensor once",
    "reread_bytes": "K, V again",
    "load_bytes": "loads",
    "store_bytes": "stores",
    "smem_bytes": "shared memory",
    "footprint_bytes": "per CTA",
}
UNCONFIRMED = SRAM.replace("FlashAttention-2's tiles", "each kernel's tiles")
_NOTES = (
    "Bytes of one layer and the whole batch (docs/reference-tiles.md). Every tensor once and K, V again are what "
    "memory sees; loads and stores go through the cache, and are memory's in FlashAttention-1, whose paper knows none. "
    "FLOPs are those of whole tiles.",
    f"* unconfirmed: {UNCONFIRMED}.",
)


def kernel_records(
    arch: ArchSpec, workload: Workload, execution: Execution, device: Device, page_tokens: int
) -> list[dict[str, Any]]:
    """One record for each kernel of each core, in base units; what the closed forms do not say is None."""
    return [
        _record(core, kernel)
        for core in core_kernels(arch, workload, execution, device, page_tokens)
        for kernel in core.kernels
    ]


def _record(core: CoreKernels, kernel: CoreKernel) -> dict[str, Any]:
    shape, traffic = core.shape, kernel.traffic
    assert shape is not None, core
    read, written = traffic.smem_reads, traffic.smem_writes
    return {
        "path": core.path,
        "count": core.layers,
        "queries": shape.queries,
        "keys": shape.keys,
        "heads": shape.heads,
        "kv_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "mask": f"{shape.mask.kind} {shape.mask.extent}" if shape.mask.extent else shape.mask.kind,
        "kernel": kernel.name,
        "chosen": kernel.chosen,
        "compulsory_bytes": traffic.compulsory_bytes,
        "reread_bytes": kernel.reread_bytes,
        "load_bytes": traffic.global_loads,
        "store_bytes": traffic.global_stores,
        "smem_bytes": None if read is None or written is None else read + written,
        "footprint_bytes": traffic.footprint_bytes,
        "matmul_flops_executed": traffic.executed_flops,
    }


def kernel_tables(
    arch: ArchSpec, workload: Workload, execution: Execution, device: Device, page_tokens: int
) -> list[Table]:
    """The same for people: a table for each core."""
    found = []
    for core in core_kernels(arch, workload, execution, device, page_tokens):
        title = f"{arch.label}, {workload.phase}, {core.path} on {device.name}"
        if core.shape is None:
            note = "No kernel whose tiles are known has its attention, mask or bias, or reads packed keys and values."
            found.append(Table(title=title, columns=(), rows=(), notes=(note,)))
            continue
        records = [_record(core, kernel) for kernel in core.kernels]
        first = records[0]
        sizes = (
            f"batch {workload.batch:,}, T {first['queries']:,}, S {first['keys']:,}, {first['heads']} heads, "
            f"{first['kv_heads']} of KV, d {first['head_dim']}, {first['mask']} mask"
        )
        taken = "Torch's SDPA runs the first." if first["chosen"] else "Torch's SDPA runs none of these here."
        rows = tuple(
            (
                f"{record['kernel']} *",
                *("-" if record[key] is None else format_bytes(record[key]) for key in _BYTES),
                format_count(record["matmul_flops_executed"]),
            )
            for record in records
        )
        columns = ("kernel", *_BYTES.values(), "FLOPs executed")
        found.append(Table(title=f"{title}: {sizes}", columns=columns, rows=rows, notes=(taken, *_NOTES)))
    return found
