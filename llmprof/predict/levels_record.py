"""The keys that a device adds to a record of `count`: bytes by level, of the whole pass.

What a figure needs and the device or the kernel does not have is None; `dram_bytes` is there all the same, without
what an unknown kernel reads again.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from llmprof.predict.api import Prediction
from llmprof.predict.device_core import BEFORE_FLASH, TILED
from llmprof.predict.levels import Levels, levels_of
from llmprof.predict.record import UNFUSED, both
from llmprof.predict.unconfirmed import DRAM, EXPERTS_ORDER, L2_TO_SM, SRAM
from llmprof.spec.arch import ArchSpec, Moe
from llmprof.workload import Execution, Workload

if TYPE_CHECKING:
    from llmprof.device import Device

Record = dict[str, Any]


def levels_record(
    arch: ArchSpec, workload: Workload, device: Device, execution: Execution = UNFUSED
) -> tuple[Record, dict[str, str]]:
    """The figures by key, and the reason for each that nothing independent confirms. Raises what `levels_of` raises."""
    fused, unfused = both(arch, workload, execution)
    inside, outside = levels_of(fused, device), levels_of(unfused, device)
    tiled = bool(inside.cores) and not inside.untiled
    record = {
        "device": device.name,
        "compulsory_bytes_fused": inside.compulsory.total(),
        "compulsory_bytes_unfused": outside.compulsory.total(),
        "dram_bytes_fused": inside.dram.total() + inside.reread,
        "dram_bytes_unfused": outside.dram.total(),
        "dram_reread_bytes_fused": None if inside.untiled else inside.reread,
        "l2_to_sm_bytes_fused": None if inside.untiled else inside.l2_to_sm.total(),
        "l2_to_sm_bytes_unfused": outside.l2_to_sm.total(),
        "smem_bytes_fused": sum(core.smem_bytes for core in inside.cores.values()) if tiled else None,
        "matmul_flops_executed": (
            sum(core.traffic.executed_flops for core in inside.cores.values()) if tiled else None
        ),
        "device_kernel": _kernels(inside),
    }
    return record, _reasons(record, fused, unfused, inside, device)


def _kernels(found: Levels) -> str | None:
    """The fused kernels with their tiles, and in how many splits they run; None where no tile is known."""
    labels = (
        core.tile.label if core.splits == 1 else f"{core.tile.label} in {core.splits} splits"
        for core in found.cores.values()
    )
    return "; ".join(dict.fromkeys(labels)) or None


def _reasons(record: Record, fused: Prediction, unfused: Prediction, inside: Levels, device: Device) -> dict[str, str]:
    """Key -> why nothing independent confirms it."""
    absent, unknown = _without_tiles(inside, device)
    found = {
        "compulsory_bytes_fused": _joined((absent, *_traffic(fused))),
        "compulsory_bytes_unfused": _joined(_traffic(unfused)),
        "dram_bytes_fused": _joined((absent, DRAM, unknown, *_order(fused), *_traffic(fused))),
        "dram_bytes_unfused": _joined((DRAM, *_order(unfused), *_traffic(unfused))),
        "dram_reread_bytes_fused": DRAM,
        "l2_to_sm_bytes_fused": _joined((L2_TO_SM, *_traffic(fused))),
        "l2_to_sm_bytes_unfused": _joined((L2_TO_SM, *_traffic(unfused))),
        "smem_bytes_fused": SRAM,
        "matmul_flops_executed": SRAM,
    }
    return {key: why for key, why in found.items() if why and record[key] is not None}


def _without_tiles(inside: Levels, device: Device) -> tuple[str, str]:
    """Why fused figures are of a kernel that the device does not have; else, of which no tile is known. Or empty."""
    untiled = sorted(set(inside.untiled.values()))
    if not untiled:
        return "", ""
    target = f"{device.name} ({device.architecture})" if device.architecture else device.name
    if device.architecture in BEFORE_FLASH and any(TILED in kind.split() for kind in untiled):
        return f"the fused kernel {TILED} needs sm80 or later: {target} does not run it, and these are its figures", ""
    return (
        "",
        f"of the fused kernel {' and '.join(untiled)} no tile is known on {target}, and so not what it reads again",
    )


def _traffic(prediction: Prediction) -> tuple[str, ...]:
    """Why the op-level bytes that these levels are made of are not confirmed, where they are not."""
    why = prediction.unconfirmed.get("hbm_bytes")
    return () if why is None else (why,)


def _order(prediction: Prediction) -> tuple[str, ...]:
    """Why experts may reach memory otherwise: a table drawn at random gives them loads in any order."""
    routed = any(isinstance(layer.ffn, Moe) for stack in prediction.arch.stacks for layer in stack.layers)
    return (EXPERTS_ORDER,) if routed and prediction.workload.routing.kind == "random" else ()


def _joined(reasons: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(reason for reason in reasons if reason))
