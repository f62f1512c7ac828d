"""Both halves on what reaches memory below a last-level cache: bytes by capacity and leaf path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from llmprof.measure.lru import memory_bytes
from llmprof.measure.run import measure
from llmprof.predict import dram
from llmprof.predict.api import predict
from llmprof.spec.arch import ArchSpec
from llmprof.twin.build import build
from llmprof.workload import Execution, Workload

Bytes = Mapping[str, int]


@dataclass(frozen=True)
class Levels:
    """Bytes of one pass by leaf path: op-level, and what reaches memory by capacity of the cache (None: boundless)."""

    op_level: Bytes
    predicted: Mapping[int | None, Bytes]
    simulated: Mapping[int | None, Bytes]

    def differences(self) -> list[str]:
        """Every path whose bytes the halves count differently."""
        return [
            f"{path} below {capacity} bytes: predicted {predicted.get(path, 0)}, simulated {simulated.get(path, 0)}"
            for capacity, predicted in self.predicted.items()
            for simulated in [self.simulated[capacity]]
            for path in sorted({*predicted, *simulated})
            if predicted.get(path, 0) != simulated.get(path, 0)
        ]


def levels(
    arch: ArchSpec, work: Workload, execution: Execution, capacities: Sequence[int | None], *, device: str = "meta"
) -> Levels:
    """One pass on both halves. NoFusedKernel passes through."""
    twin = build(arch, dtypes=work.dtypes, device=device, mtp=work.mtp)
    counted = measure(twin, work, execution).ledger
    reuse = dram.memory(predict(arch, work, execution).program)
    return Levels(
        op_level={entry.path: entry.value for entry in counted if entry.quantity == "hbm_bytes"},
        predicted={capacity: reuse.moved(capacity) for capacity in capacities},
        simulated=memory_bytes(twin, work, execution, capacities),
    )
