"""What is asked of a model that is spread over ranks, and what comes out.

The contract of what runs is docs/reference-sharding.md. A result is confirmed by every rank that was asked for: each
leaf of the whole model has to be found on some stage, each cache, the collectives, and the outputs where there are any.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from llmprof import confirm
from llmprof.ledger import Verdict
from llmprof.predict.api import predict
from llmprof.profiling.question import Attention, Request
from llmprof.profiling.sharded_rows import DIFFERENCE, RankRow
from llmprof.profiling.verdict import Outcome
from llmprof.sharding import Sharding
from llmprof.spec.arch import ArchSpec
from llmprof.workload import Execution, Workload

_NEEDED = ("params", "weight_bytes", "kv_cache_bytes", "recurrent_state_bytes", "matmul_flops")
"""What has to be found, on some stage, at every path at which the whole model has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardedRequest(Request):
    """A request whose passes are spread over ranks.

    `compares`: whether each rank also runs the unsharded model, in fp32. `limit_seconds`: how long one step of one rank
    may take.
    """

    sharding: Sharding
    compares: bool = True
    limit_seconds: float = 600.0


@dataclass(slots=True, kw_only=True)
class ShardedResult:
    """What came out. Filled as the ranks report, so that what had finished is kept.

    `heard` are the ranks that reported, of the `asked` ones; on meta one of each stage is. `compared`: whether outputs
    were to be compared. `failure`: what cut the ranks short.
    """

    arch: ArchSpec
    sharding: Sharding
    workloads: tuple[Workload, ...] = ()
    attentions: tuple[Attention, ...] = ()
    device: str | None = None
    backend: str | None = None
    layers_run: int | None = None
    asked: tuple[int, ...] = ()
    heard: tuple[int, ...] = ()
    compared: bool = False
    rows: list[RankRow] = field(default_factory=list)
    timings: list[dict[str, Any]] = field(default_factory=list)
    not_applicable: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    kernels: dict[str, str] = field(default_factory=dict)
    failure: str | None = None
    interrupted: bool = False

    @property
    def verdict(self) -> Outcome:
        """What the rows say of everything that was asked for; what was cut short is never confirmed."""
        if not self.workloads:
            return "not-applicable"
        found = {row.verdict for row in self.rows}
        if Verdict.DIFFERS in found:
            return "failed"
        whole = not self.interrupted and self.failure is None and not self.missing
        held = found <= {Verdict.AGREES, Verdict.BELOW_BOUND}
        return "confirmed" if whole and held else "unconfirmed"

    @property
    def missing(self) -> list[str]:
        """What has no AGREES row although a confirmation needs one."""
        agreed = {(row.path, row.quantity, row.phase) for row in self.rows if row.verdict is Verdict.AGREES}
        absent = [f"rank {rank}" for rank in self.asked if rank not in self.heard]
        return absent + [" ".join(filter(None, key)) for key in self._needed() if key not in agreed] + self._unsaid()

    def _needed(self) -> Iterator[tuple[str, str, str]]:
        """(path, quantity, phase) of every leaf with parameters and every cache of the whole model."""
        for workload in self.workloads:
            for entry in predict(self.arch, workload, Execution(attention="unfused")).ledger:
                if entry.value and entry.quantity in _NEEDED:
                    phase = "" if entry.quantity in confirm.WORKLOAD_FREE else workload.phase
                    yield entry.path, entry.quantity, phase

    def _unsaid(self) -> list[str]:
        """Passes in which nobody sent anything although ranks share them, and outputs that nobody compared."""
        absent = []
        alone = self.sharding.ranks == self.sharding.data_parallel
        for phase in (workload.phase for workload in self.workloads):
            own = [row for row in self.rows if row.phase == phase]
            if not alone and not any(row.quantity.endswith("_calls") for row in own):
                absent.append(f"every collective {phase}")
            for attention in self.attentions if self.compared else ():
                outputs = ("logits", "hidden state")
                if not any(
                    (row.attention, row.quantity) == (attention, DIFFERENCE) and row.path in outputs for row in own
                ):
                    absent.append(f"outputs {phase} {attention}")
        return absent

    @property
    def failed_modules(self) -> list[str]:
        """The paths with a DIFFERS row."""
        return list(dict.fromkeys(row.path for row in self.rows if row.verdict is Verdict.DIFFERS))
