"""The bytes of a pass of inference on one device, level by level and leaf by leaf.

compulsory_bytes        docs/reference-dram.md, section 3
dram_bytes              section 2, and in a fused attention core what it reads of keys and values again (section 4)
l2_to_sm_bytes          section 4; absent at a core whose kernel has no tile in a table
smem_bytes              docs/reference-tiles.md: of fused attention cores alone, where their kernel has a tile
matmul_flops_executed   the same
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llmprof.errors import InputError
from llmprof.ledger import Basis, Entry, Ledger, Quantity
from llmprof.predict.device_core import Core, core_on
from llmprof.predict.dram import memory
from llmprof.predict.fused import packed_reads
from llmprof.predict.leaves import model_leaves
from llmprof.predict.mtp import further_leaves
from llmprof.predict.op import Op
from llmprof.predict.sm_traffic import sm_bytes

if TYPE_CHECKING:
    from llmprof.device import Device
    from llmprof.predict.api import Prediction


@dataclass(slots=True)
class Levels:
    """Bytes by leaf path on a device. `dram` has no `reread` in it: what fused cores read of keys and values again.

    A path is in `untiled` where a fused attention runs whose tiles are not known: it has no figure between cache and
    SMs. `cores` are the other fused ones.
    """

    compulsory: Counter[str] = field(default_factory=Counter)
    dram: Counter[str] = field(default_factory=Counter)
    l2_to_sm: Counter[str] = field(default_factory=Counter)
    cores: dict[str, Core] = field(default_factory=dict)
    untiled: dict[str, str] = field(default_factory=dict)

    @property
    def reread(self) -> int:
        """Bytes of keys and values that fused cores read from memory again, of the whole pass."""
        return sum(core.reread_bytes for core in self.cores.values())


def levels(prediction: Prediction, device: Device) -> Ledger:
    """Every leaf path of a pass with its bytes by level on `device`; `dram_bytes` includes what is read again.

    Raises InputError where the device has no last-level cache or no architecture in its file, or for a pass that is not
    of inference on a CUDA device.
    """
    return Ledger(_entries(prediction, levels_of(prediction, device)))


def levels_of(prediction: Prediction, device: Device) -> Levels:
    """The same as figures by path. Raises what `levels` raises."""
    if prediction.workload.phase == "train" or prediction.execution.kernels != "cuda":
        raise InputError("bytes by level are those of prefill and decode with the kernels of a CUDA device")
    if prediction.execution.grouping != "eager":
        raise InputError("bytes by level need to know what lives how long, which grouped leaves do not say; use eager")
    if device.last_level_cache is None:
        raise InputError(without_cache(device))
    if device.architecture is None:
        raise InputError(
            f"what kernels are compiled for on {device.name} is not known (architecture in its file, docs/devices.md): "
            "bytes by level are those of the kernels of a GPU"
        )
    reused = memory(prediction.program)
    found = Levels(Counter(reused.moved(None)), Counter(reused.moved(device.last_level_cache.value)))
    program = prediction.program
    _launched(found, device, program.ops, ("",))
    for group in program.groups:
        _launched(found, device, group.ops, tuple(f"{group.prefix}layers.{index}." for index in group.indices))
    return found


def without_cache(device: Device) -> str:
    """Why a device cannot be asked for its levels, and which can."""
    from llmprof.device import entries

    known = ", ".join(each.name for each in entries() if each.last_level_cache is not None)
    return (
        f"the size of the last-level cache of {device.name} is not known (last_level_cache in its file, "
        f"docs/devices.md), and what reaches its memory depends on it; known of {known}"
    )


def _launched(found: Levels, device: Device, ops: tuple[Op, ...], prefixes: tuple[str, ...]) -> None:
    """What kernels move between cache and SMs, at every one of the paths that `prefixes` give them."""
    moved: Counter[str] = Counter()
    cores: dict[str, Core] = {}
    untiled: dict[str, str] = {}
    for op in ops:
        if not op.parts:
            moved[op.path] += op.times * sm_bytes(op)
            continue
        core = core_on(device, op)
        if core is None:
            packed = packed_reads(op)
            untiled[op.path] = op.kind if packed is None else f"{op.kind} over {packed} keys"
        else:
            assert op.times == 1, op.path
            cores[op.path] = core if op.path not in cores else cores[op.path].plus(core)
            moved[op.path] += core.traffic.l2_to_sm
    for prefix in prefixes:
        found.l2_to_sm.update({prefix + path: nbytes for path, nbytes in moved.items()})
        found.cores.update({prefix + path: core for path, core in cores.items()})
        found.untiled.update({prefix + path: kind for path, kind in untiled.items()})


def _entries(prediction: Prediction, found: Levels) -> Iterator[Entry]:
    """The ledger's entries in the order of the call tree."""
    further = further_leaves(prediction.arch) if prediction.workload.mtp else {}
    for path in (*model_leaves(prediction.arch), *further):
        core = found.cores.get(path)
        reread = 0 if core is None else core.reread_bytes
        yield _entry(path, "compulsory_bytes", found.compulsory[path])
        yield _entry(path, "dram_bytes", found.dram[path] + reread)
        if path not in found.untiled:
            yield _entry(path, "l2_to_sm_bytes", found.l2_to_sm[path])
        if core is not None:
            yield _entry(path, "smem_bytes", core.smem_bytes)
            yield _entry(path, "matmul_flops_executed", core.traffic.executed_flops)


def _entry(path: str, quantity: Quantity, value: int) -> Entry:
    return Entry(path=path, quantity=quantity, value=value, basis=Basis.PREDICTED)
