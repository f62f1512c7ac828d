"""How a model is served: on which devices, spread how, in which dtypes, by what."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from llmprof.device import Device
from llmprof.errors import InputError
from llmprof.planning.assumptions import DRIVER_TOTALS, VLLM_RULES, VllmRules, VllmVersion
from llmprof.planning.overheads import Overheads
from llmprof.planning.passes import Spread
from llmprof.sharding import Sharding
from llmprof.workload import Dtypes

PlannedEngine = Literal["vllm", "architecture"]
"""vLLM with its pages and its sampler, or what the architecture itself needs."""

_ONE_DEVICE = Sharding()
_DTYPES = Dtypes()
_ASSUMED = Overheads()


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """How a model is served.

    `memory_bytes` is what one device has in all, where the figure of `capacity_bytes` is not meant. `vllm_version`
    says whose habits are meant (`VLLM_RULES`).
    """

    device: Device
    sharding: Sharding = _ONE_DEVICE
    dtypes: Dtypes = _DTYPES
    engine: PlannedEngine = "vllm"
    overheads: Overheads = _ASSUMED
    memory_bytes: int | None = None
    vllm_version: VllmVersion = "0.33.0"

    @property
    def capacity_bytes(self) -> int:
        """What one device has: as given, else what its driver is known to report, else what the vendor states.

        InputError for a CPU without `memory_bytes`, and where that is no positive number.
        """
        if self.memory_bytes is not None:
            if self.memory_bytes < 1:
                raise InputError(f"memory_bytes is {self.memory_bytes:,}; a device has at least 1 byte")
            return self.memory_bytes
        reported = DRIVER_TOTALS.get(self.device.name)
        return self.device.memory_bytes if reported is None else reported.value

    @property
    def capacity_note(self) -> str:
        """Where that figure is from."""
        if self.memory_bytes is not None:
            return "as it was given"
        reported = DRIVER_TOTALS.get(self.device.name)
        if reported is None:
            return "what the vendor states; what the driver reports may be more or less"
        return f"what the driver reports ({'; '.join(reported.sources)})"

    @property
    def rules(self) -> VllmRules | None:
        """Those of the vLLM that is meant; None where no engine is."""
        return VLLM_RULES[self.vllm_version] if self.engine == "vllm" else None

    @property
    def spread(self) -> Spread:
        """What decides the passes: replicas are copies, unless they share experts. InputError where there are none."""
        sharding = self.sharding
        if sharding.data_parallel < 1:
            raise InputError(f"data_parallel is {sharding.data_parallel}; it must be at least 1")
        if sharding.expert_parallel == 1:
            sharding = replace(sharding, data_parallel=1)
        return Spread(sharding=sharding, dtypes=self.dtypes)

    @property
    def communicates(self) -> bool:
        """Whether devices of this deployment send each other anything."""
        s = self.sharding
        return s.ranks > s.data_parallel or s.expert_parallel > 1
