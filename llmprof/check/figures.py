"""The figures of one architecture and workload, each computed when it is first asked for, and what they are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from llmprof.check import ledgers
from llmprof.check.ledgers import Parts
from llmprof.check.quantities import PER_RANK
from llmprof.check.verdict import Number
from llmprof.predict.api import Prediction, parameters, predict
from llmprof.predict.record import Record, record_of
from llmprof.sharding import Sharding
from llmprof.spec.arch import ArchSpec
from llmprof.workload import Execution, Workload

if TYPE_CHECKING:
    from llmprof.check.ranks import RankFigures

TOTALS = ("total_bytes_fused", "total_bytes_unfused")
RATIOS = ("arithmetic_intensity_fused", "arithmetic_intensity_unfused")


def parts_of_total(total: str, parts: Callable[[str], Parts], value: Callable[[str], Number | None]) -> Parts:
    """The parts of a total: those of the weights and of what is kept by module, and the activation peak as one."""
    peak = total.replace("total_bytes", "activation_peak_bytes")
    found: dict[str, Number] = {}
    for quantity in ("weight_bytes", "kv_cache_bytes", "recurrent_state_bytes"):
        for path, held in parts(quantity).items():
            found[path] = found.get(path, 0) + held
    return {**found, peak: value(peak) or 0}


class Figures:
    """What `count` says of one pass. Nothing is lowered twice, and the unfused pass only where it is asked about."""

    def __init__(self, arch: ArchSpec, workload: Workload, sharding: Sharding | None = None) -> None:
        self.arch = arch
        self.workload = workload
        self.sharding = sharding

    def value(self, quantity: str) -> Number | None:
        """One figure of the record; None where it does not exist for this pass."""
        if quantity in PER_RANK:
            return None if self.sharding is None else self._of_a_rank.value(quantity)
        if quantity.startswith("params_"):  # known without lowering a pass
            return getattr(parameters(self.arch), quantity.removeprefix("params_"), None)
        record = self.record if "unfused" in quantity else self._of_fused
        found: Number | None = record[quantity]
        return found

    def parts(self, quantity: str) -> Parts:
        """What the modules of the model, by full path, contribute to a figure; nothing for a ratio."""
        if quantity in RATIOS:
            return {}
        if quantity in PER_RANK:
            return {} if self.sharding is None else self._of_a_rank.parts(quantity)
        if quantity in TOTALS:
            return parts_of_total(quantity, self.parts, self.value)
        return self._parts[quantity]()

    def unconfirmed(self, quantity: str) -> str:
        """Why nothing independent confirms a figure; empty where something does."""
        if quantity in PER_RANK:
            return "" if self.sharding is None else self._of_a_rank.unconfirmed(quantity)
        if quantity.startswith("params_"):
            return ""
        record = self.record if "unfused" in quantity else self._of_fused
        reasons: Mapping[str, str] = record["unconfirmed"]
        return reasons.get(quantity, "")

    @cached_property
    def _of_a_rank(self) -> RankFigures:
        assert self.sharding is not None
        # Nobody who does not spread a model waits for this.
        from llmprof.check.ranks import RankFigures
        from llmprof.predict.sharding.api import sharded_as

        return RankFigures(sharded_as(self.arch, self.workload, self.sharding))

    @cached_property
    def record(self) -> Record:
        """The whole record of `count`."""
        return record_of(self._fused, self._unfused)

    @cached_property
    def _parts(self) -> Mapping[str, Callable[[], Parts]]:
        return ledgers.parts(self._fused, self._unfused, self.record)

    @cached_property
    def _of_fused(self) -> Record:
        """The record with the fused pass on both sides: right in every figure that is not of the unfused one."""
        return self.__dict__.get("record") or record_of(self._fused, self._fused)

    @cached_property
    def _fused(self) -> Prediction:
        return predict(self.arch, self.workload, Execution(attention="fused"))

    @cached_property
    def _unfused(self) -> Prediction:
        return predict(self.arch, self.workload, Execution(attention="unfused"))


@lru_cache(maxsize=64)
def figures(arch: ArchSpec, workload: Workload, sharding: Sharding | None = None) -> Figures:
    """The same figures for the same question, as entries that follow each other often share a pass."""
    return Figures(arch, workload, sharding)
