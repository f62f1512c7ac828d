"""What each source of counters says of the passes of a request, pass by pass."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from llmprof.profiling.counter_rows import Caches, PassReading, Reading
from llmprof.profiling.fit import out_of_memory_refused
from llmprof.workload import Execution, Workload

if TYPE_CHECKING:
    import torch

    from llmprof.measure.counters.collect import Collected, Counted
    from llmprof.measure.counters.metrics import Chip
    from llmprof.spec.arch import ArchSpec

Passes = tuple[tuple[Workload, Execution], ...]
Readings = Mapping[str, PassReading | str]
"""By ``phase/attention``: what was counted, or why the pass could not be run."""

Instrument = Literal["ncu", "cupti"]
INSTRUMENTS: tuple[Instrument, ...] = ("ncu", "cupti")
"""What counts modules, the one that also names kernels first."""

_LACKING = "some kernel has no such counter in the report"


def key(workload: Workload, execution: Execution) -> str:
    """How a pass is told from the others of its request."""
    return f"{workload.phase}/{execution.attention}"


def kernel_counters(
    instrument: Instrument,
    arch: ArchSpec,
    passes: Passes,
    device: torch.device,
    caches: Caches,
    seed: int,
    notes: list[str],
) -> Readings:
    """What Nsight Compute counts of every kernel, or CUPTI of every module. Raises Unavailable."""
    import torch

    from llmprof.measure.counters import collect, cupti_collect
    from llmprof.measure.counters import request as asked
    from llmprof.measure.counters.metrics import chip_of
    from llmprof.measure.eviction import last_level_cache_bytes

    chip = chip_of(torch.cuda.get_device_capability(device))
    gc.collect()
    torch.cuda.empty_cache()  # another process is to have the memory
    wanted = asked.Request(arch=arch, passes=passes, device=str(device), temperature=caches, seed=seed)
    found = (collect if instrument == "ncu" else cupti_collect).collect(wanted, chip)
    name = f"Nsight Compute {found.tool.version}" if instrument == "ncu" else "CUPTI, which names no kernels"
    notes.append(f"counted by {name}; caches {caches}, clocks left alone")
    capacity = last_level_cache_bytes(device)
    return {
        key(*each): found.refused.get(key(*each)) or reading_of(found, *each, chip, caches, capacity, instrument)
        for each in passes
    }


def reading_of(
    found: Collected,
    workload: Workload,
    execution: Execution,
    chip: Chip,
    caches: Caches,
    capacity: int | None,
    tier: Instrument = "ncu",
) -> PassReading:
    """The counters of one pass by module, and of the whole pass with what it left in the cache."""
    phase, attention = workload.phase, execution.attention
    dtype = workload.dtypes.activations
    mine = {p: both for p, both in found.places.items() if (p.phase, p.attention) == (phase, attention)}
    modules = {
        place.path: Reading(values=_values(both, chip, dtype), kernels=tuple(both[0].kernels))
        for place, both in mine.items()
        if place.kind == "leaf"
    }
    moved = [_bytes(both[0], chip, writes_alone=p.kind == "drain") for p, both in mine.items()]
    drained = [_bytes(both[0], chip, writes_alone=True) for p, both in mine.items() if p.kind == "drain"]
    total = [value for value in moved if isinstance(value, int)]
    whole: int | str = sum(total) if len(total) == len(moved) else _LACKING
    return PassReading(
        phase=phase,
        attention=attention,
        caches=caches,
        tier=tier,
        modules=modules,
        whole=Reading(values={"dram_bytes": whole}),
        cores=found.kernels.get(key(workload, execution), {}) if attention == "fused" else {},
        capacity=capacity,
        drained=sum(value for value in drained if isinstance(value, int)),
    )


def _values(both: tuple[Counted, Counted], chip: Chip, dtype: str) -> dict[str, int | str]:
    """The quantities of one module."""
    from llmprof.measure.counters.metrics import L2, SHARED

    first, second = both
    tensor = chip.tensor.get(dtype)
    source = first if dtype in chip.one_pass else second
    return {
        "dram_bytes": _bytes(first, chip),
        "l2_to_sm_bytes": _sum(first, (L2,)),
        "smem_bytes": chip.shared_blind or _sum(second, (SHARED,)),
        "matmul_flops_executed": (
            f"{dtype} is not multiplied by the tensor cores of {chip.name}" if tensor is None else _sum(source, tensor)
        ),
    }


def _bytes(counted: Counted, chip: Chip, *, writes_alone: bool = False) -> int | str:
    return _sum(counted, (chip.dram_write,) if writes_alone else (chip.dram_read, chip.dram_write))


def _sum(counted: Counted, names: tuple[str, ...]) -> int | str:
    """The sum of counters over the kernels of a place; the reason where one of the kernels has no value."""
    from llmprof.measure.counters.metrics import sum_of

    value = sum_of(counted.sums, names)
    if value is None or counted.absent & set(names):
        return _LACKING
    return round(value)


def whole_gpu(arch: ArchSpec, passes: Passes, device: torch.device, seed: int, notes: list[str]) -> Readings:
    """The mean of each pass, run over and over, by NVML's GPM: the caches are as warm as that makes them.

    Raises Unavailable, and DeviceError where the memory runs out.
    """
    import torch

    from llmprof.measure.counters.gpm import integrate
    from llmprof.twin.build import build
    from llmprof.twin.core import NoFusedKernel
    from llmprof.twin.session import Session

    found: dict[str, PassReading | str] = {}
    with out_of_memory_refused(arch.label, device):
        first = passes[0][0]
        twin = build(arch, dtypes=first.dtypes, device=device, seed=seed, mtp=first.mtp)
        for workload, execution in passes:
            try:
                session = Session(twin, workload, execution, seed=seed)
            except NoFusedKernel as reason:
                found[key(workload, execution)] = str(reason)
                continue
            properties = torch.cuda.get_device_properties(device)
            mean = integrate(session.run, lambda: torch.cuda.synchronize(device), properties)
            energy = mean.energy_reason if mean.joules is None else f"{mean.joules:.3g} J a pass"
            notes.append(
                f"{key(workload, execution)}: NVML GPM over {mean.passes:,} passes in {mean.seconds:.1f} s, memory "
                f"busy {mean.utilisation:.1%} of {mean.peak_bytes_per_s / 1e12:.3f} TB/s; energy: {energy}"
            )
            found[key(workload, execution)] = PassReading(
                phase=workload.phase,
                attention=execution.attention,
                caches="warm",
                tier="gpm",
                modules={},
                whole=Reading(values={"dram_bytes": round(mean.dram_bytes)}),
                cores={},
            )
    return found
