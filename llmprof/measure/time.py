"""How long a pass takes, with the spread that says how far to trust it.

A sample is the latency of one pass from an idle device: on a GPU from one CUDA event to another with the
launches in between, on a CPU by `perf_counter_ns`. Two temperatures are kept apart: ``warm`` (the
pass follows another one) and ``cold`` (a buffer of twice the last-level cache was read and written
in between). Clocks and power are left as they are; `environment.py` records them. All times are integers, in ns.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from llmprof.measure.eviction import Evictor, evictor
from llmprof.measure.spread import Summary, median, summarise

Progress = Callable[[str, int, int], None]
"""Called with the stage (``warm-up``, ``warm`` or ``cold``), the passes done and the passes planned."""

MIN_USEFUL = 3
"""Below this, a median and a spread mean nothing; a result with fewer samples says so in its notes."""
_WARM_UP_MAX = 30
_WARM_UP_WINDOW = 3
_WARM_UP_TOLERANCE = 20
"""Warm means: the medians of two windows in a row differ by at most a 20th, which is 5%."""


class Clock(Protocol):
    """Times one call on a device."""

    name: str

    def sample(self, run: Callable[[], object]) -> int:
        """Nanoseconds from an idle device before `run` to an idle device after it."""

    def now(self) -> int:
        """Monotonic wall time in nanoseconds, for budgets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """The measured times of one pass. `cold` is None where it could not be had; `notes` say why.

    `warm_up_runs` passes came first and are in no sample; `warmed_up` says whether they settled
    within 5%. `interrupted`: the user stopped it, and what is here is what there was.
    """

    clock: str
    warm: Summary | None
    cold: Summary | None
    warm_up_runs: int
    warmed_up: bool
    flush_bytes: int | None
    interrupted: bool
    notes: tuple[str, ...]

    @property
    def stable(self) -> bool:
        """Whether every series that was taken has IQR/median of at most 10%, and there is one."""
        taken = [series for series in (self.warm, self.cold) if series is not None]
        return bool(taken) and all(series.stable for series in taken)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What a time means for counts of the caller's; None where no count was given."""

    tokens_per_s: float | None
    flops_per_s: float | None
    bytes_per_s: float | None


def rates(ns: int, *, tokens: int | None = None, flops: int | None = None, bytes_moved: int | None = None) -> Rates:
    """Counts per second of a pass that takes `ns` nanoseconds. ValueError unless `ns` is positive."""
    if ns <= 0:
        raise ValueError(f"a pass cannot take {ns} ns")

    def per_second(count: int | None) -> float | None:
        return None if count is None else count * 10**9 / ns

    return Rates(tokens_per_s=per_second(tokens), flops_per_s=per_second(flops), bytes_per_s=per_second(bytes_moved))


def measure_time(
    run: Callable[[], object],
    restore: Callable[[], object],
    device: torch.device,
    *,
    min_samples: int = 20,
    max_seconds: float = 60.0,
    progress: Progress | None = None,
    clock: Clock | None = None,
    flush: Evictor | None = None,
) -> Timing:
    """Time `run` on `device`, warm and cold; `restore` undoes what a run changes, untimed, before each.

    Each series takes `min_samples` samples while its share of `max_seconds` lasts, and goes on past
    that only to reach 3; past twice `max_seconds` it stops with what it has. The notes of the result
    say where there are fewer than `min_samples`. Ctrl-C ends the measurement and keeps what it has.
    `flush` empties the last-level cache, or says why none does; by default as `evictor` has it.

    Raises ValueError for a `min_samples` below 3 and for the ``meta`` device, whose kernels do no work.
    """
    if min_samples < MIN_USEFUL:
        raise ValueError(f"min_samples is {min_samples}; fewer than {MIN_USEFUL} samples have no spread")
    if device.type == "meta":
        raise ValueError("meta tensors hold no data: there is nothing to time on the meta device")
    chosen = clock or clock_for(device)
    sampler = _Sampler(run, restore, chosen, min_samples, int(max_seconds * 10**9), progress or _silent)
    warm: list[int] = []
    cold: list[int] = []
    flush_bytes: int | None = None
    interrupted = False
    try:
        sampler.warm_up()
        sampler.series("warm", warm, until=sampler.share(0.6))
        flush = flush or evictor(device)
        if flush.reason:
            sampler.notes.append(f"cold: not measured, {flush.reason}")
        else:
            flush_bytes = flush.nbytes
            if flush.note:
                sampler.notes.append(f"cold: {flush.note}")
            sampler.series("cold", cold, until=sampler.share(1.0), before=flush.evict)
    except KeyboardInterrupt:
        interrupted = True
        sampler.notes.append(f"interrupted after {len(warm)} warm and {len(cold)} cold samples")
    return Timing(
        clock=chosen.name,
        warm=summarise(warm),
        cold=summarise(cold),
        warm_up_runs=len(sampler.warm_up_ns),
        warmed_up=sampler.warmed_up,
        flush_bytes=flush_bytes,
        interrupted=interrupted,
        notes=tuple(sampler.notes),
    )


class _Sampler:
    """Takes samples within a budget, and notes where it had to stop early."""

    def __init__(
        self,
        run: Callable[[], object],
        restore: Callable[[], object],
        clock: Clock,
        wanted: int,
        budget_ns: int,
        progress: Progress,
    ) -> None:
        self.run, self.restore, self.clock = run, restore, clock
        self.wanted, self.budget_ns, self.progress = wanted, budget_ns, progress
        self.started = clock.now()
        self.warm_up_ns: list[int] = []
        self.warmed_up = False
        self.notes: list[str] = []

    def share(self, part: float) -> int:
        """The moment at which `part` of the budget is spent."""
        return self.started + int(self.budget_ns * part)

    def warm_up(self) -> None:
        """Run until two windows of passes agree, for at most a fifth of the budget."""
        window = _WARM_UP_WINDOW
        while len(self.warm_up_ns) < _WARM_UP_MAX and not self.warmed_up:
            self.warm_up_ns.append(self._sample())
            self.progress("warm-up", len(self.warm_up_ns), _WARM_UP_MAX)
            if len(self.warm_up_ns) >= 2 * window:
                old, new = median(self.warm_up_ns[-2 * window : -window]), median(self.warm_up_ns[-window:])
                self.warmed_up = abs(new - old) * _WARM_UP_TOLERANCE <= old
            if self.clock.now() >= self.share(0.2):
                break
        if not self.warmed_up:
            self.notes.append(
                f"the warm-up did not settle within 5%: {len(self.warm_up_ns)} passes in its share of the time"
            )

    def series(self, name: str, samples: list[int], until: int, before: Callable[[], None] | None = None) -> None:
        """Append samples to `samples` until there are enough or the time is up."""
        hard_end = self.share(2.0)
        while len(samples) < self.wanted:
            now = self.clock.now()
            if now >= hard_end or (now >= until and len(samples) >= MIN_USEFUL):
                break
            samples.append(self._sample(before))
            self.progress(name, len(samples), self.wanted)
        if len(samples) < self.wanted:
            few = f", fewer than the {MIN_USEFUL} that a spread needs" if len(samples) < MIN_USEFUL else ""
            slowest = max(samples or self.warm_up_ns) / 10**9
            self.notes.append(
                f"{name}: {len(samples)} of {self.wanted} samples in the time allowed{few}; "
                f"passes took up to {slowest:.1f} s"
            )

    def _sample(self, before: Callable[[], None] | None = None) -> int:
        self.restore()
        if before is not None:
            before()
        collecting = gc.isenabled()
        gc.disable()  # a collection inside a pass of a millisecond would be most of it
        try:
            return self.clock.sample(self.run)
        finally:
            if collecting:
                gc.enable()


def clock_for(device: torch.device) -> Clock:
    """CUDA events on a GPU, the host's performance counter elsewhere."""
    return CudaEvents(device) if device.type == "cuda" else HostClock()


class HostClock:
    """`time.perf_counter_ns`: CPU kernels have finished when the call returns."""

    name: str = "perf_counter_ns"

    def sample(self, run: Callable[[], object]) -> int:
        """Nanoseconds of the call; its result lives until the clock has stopped."""
        start = time.perf_counter_ns()
        output = run()
        elapsed = time.perf_counter_ns() - start
        del output
        return elapsed

    def now(self) -> int:
        """Nanoseconds since an arbitrary moment."""
        return time.perf_counter_ns()


class CudaEvents(HostClock):
    """Two CUDA events around the call, recorded on an idle device's current stream."""

    name: str = "cuda events"

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def sample(self, run: Callable[[], object]) -> int:
        """Nanoseconds between the events; their resolution is about half a microsecond."""
        with torch.cuda.device(self.device):
            event: Any = torch.cuda.Event
            start, end = event(enable_timing=True), event(enable_timing=True)
            torch.cuda.synchronize()
            start.record()
            output = run()
            end.record()
            end.synchronize()
            del output
            milliseconds: float = start.elapsed_time(end)
            return round(milliseconds * 10**6)


def _silent(stage: str, done: int, planned: int) -> None:
    """No progress is wanted."""
