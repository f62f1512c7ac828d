"""What is asked, and what comes out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from llmprof.errors import DeviceError
from llmprof.ledger import Row, Verdict
from llmprof.profiling.verdict import Outcome, gaps, outcome
from llmprof.spec.arch import ArchSpec, ChannelMix, LayerSpec, NoAttention
from llmprof.workload import Execution, UnfusedReference, Workload

if TYPE_CHECKING:
    from llmprof.profiling.counters import Counters

INSTALL_LINE = "pip install 'llmprof[profile]'"

Attention = Literal["fused", "unfused"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to profile: one architecture, its workloads, and how.

    `device_profile` is the file with the constants that times are predicted with, by default that of the device.
    """

    arch: ArchSpec
    workloads: tuple[Workload, ...]
    attentions: tuple[Attention, ...]
    device: str
    layers: int | None = None
    seed: int = 0
    time_seconds: float | None = 10.0
    referees: bool = True
    reference: UnfusedReference = "lean-eager"
    device_profile: str | None = None

    def execution(self, attention: Attention, kernels: Literal["cuda", "cpu"]) -> Execution:
        """How a pass with this attention runs; the reference is what unfused means."""
        if attention == "fused":
            return Execution(attention="fused", kernels=kernels)
        return Execution(attention="unfused", kernels=kernels, reference=self.reference)


@dataclass(slots=True, kw_only=True)
class Result:
    """What came out. Filled as the passes finish, so that an interruption keeps what there is."""

    arch: ArchSpec
    workloads: tuple[Workload, ...] = ()
    attentions: tuple[Attention, ...] = ()
    device: str | None = None
    layers_run: int | None = None
    rows: list[Row] = field(default_factory=list)
    timings: list[dict[str, Any]] = field(default_factory=list)
    comparisons: list[dict[str, Any]] = field(default_factory=list)
    not_applicable: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    kernels: dict[str, str] = field(default_factory=dict)
    counters: Counters | None = None
    interrupted: bool = False

    @property
    def passes(self) -> tuple[tuple[str, str], ...]:
        """(phase, attention) of every pass that was asked for."""
        return tuple((workload.phase, attention) for workload in self.workloads for attention in self.attentions)

    @property
    def verdict(self) -> Outcome:
        """What the rows say of everything that was asked for; what was cut short is never confirmed."""
        if not self.workloads:
            return "not-applicable"
        found = outcome(self.rows, self.passes, cached=self._cached)
        counted = "measured" if self.counters is None else self.counters.outcome
        if counted == "failed":
            return "failed"
        return "unconfirmed" if found == "confirmed" and (self.interrupted or counted == "unmeasured") else found

    @property
    def missing(self) -> list[str]:
        """What has no AGREES row although a confirmation needs one."""
        return gaps(self.rows, self.passes, cached=self._cached) + self._uncounted

    @property
    def _uncounted(self) -> list[str]:
        """What counters that were asked for by name did not say."""
        if self.counters is None or self.counters.outcome != "unmeasured":
            return []
        rows = [row for row in self.counters.rows if row.verdict is Verdict.UNMEASURED]
        keys = (" ".join(filter(None, (row.path, row.quantity, row.phase, row.attention))) for row in rows)
        return list(dict.fromkeys(f"{each} (counters)" for each in keys)) or ["counters"]

    @property
    def _cached(self) -> bool:
        if self.arch.structure == "encoder" or all(w.phase == "train" for w in self.workloads):
            return False
        return any(keeps_something(layer) for layer in self.arch.main.layers)

    @property
    def failed_modules(self) -> list[str]:
        """The paths with a DIFFERS row."""
        rows = (*self.rows, *(() if self.counters is None else self.counters.rows))
        return list(dict.fromkeys(row.path or "(whole model)" for row in rows if row.verdict is Verdict.DIFFERS))


def keeps_something(layer: LayerSpec) -> bool:
    """Whether a layer of a decoder has something to keep between tokens."""
    return (
        not isinstance(layer.attention, NoAttention)
        or layer.mixer is not None
        or isinstance(layer.ffn, ChannelMix)
        or layer.cross_attention is not None
    )


def require_torch(*, referees: bool = True, command: str = "profile", install: str = INSTALL_LINE) -> None:
    """Raise DeviceError with the exact install line where torch, or what the referees need, cannot be imported.

    `command` is who asks, and `install` the line that installs what it needs.
    """
    from importlib import import_module

    for name in ("torch", "fvcore.nn") if referees else ("torch",):
        try:
            import_module(name)
        except ModuleNotFoundError as error:
            absent = (error.name or name).partition(".")[0]
            without = "" if name == "torch" else " (or do without that witness: --no-referees)"
            raise DeviceError(
                f"{command} needs {absent}, which is not installed here; run: {install}{without}"
            ) from error
        except (ImportError, OSError) as error:
            raise DeviceError(
                f"{name.partition('.')[0]} is installed but cannot be imported ({error}); to repair it, run: "
                f"{install} --force-reinstall"
            ) from error
