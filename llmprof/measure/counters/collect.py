"""Run passes under Nsight Compute and add up what each module's kernels counted."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmprof.measure.counters import ncu, python_report
from llmprof.measure.counters.diagnosis import refuse_failure
from llmprof.measure.counters.metrics import Chip
from llmprof.measure.counters.ranges import Place
from llmprof.measure.counters.report import Kernel, ReportError, parse
from llmprof.measure.counters.request import Request
from llmprof.measure.counters.unavailable import Unavailable
from llmprof.measure.gpu_process import run_command

RUN_SECONDS = 300.0
"""For one run of all passes of a request under ncu."""


@dataclass(slots=True)
class Counted:
    """The kernels of one place, and the sums of their counters. `absent`: counters that some kernel lacks."""

    kernels: list[str] = field(default_factory=list)
    sums: dict[str, float] = field(default_factory=dict)
    absent: set[str] = field(default_factory=set)

    def add(self, kernel: Kernel) -> None:
        """Add one launch."""
        self.kernels.append(kernel.name)
        for name, value in kernel.metrics.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.absent.update(kernel.absent)


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What two runs of the same passes counted, by place.

    By ``phase/attention``, as the target says it: `kernels` that the cores of a pass chose, by path, and why a pass was
    `refused`.
    """

    tool: ncu.Tool
    places: Mapping[Place, tuple[Counted, Counted]]
    kernels: Mapping[str, Mapping[str, str]]
    refused: Mapping[str, str]


def collect(
    request: Request,
    chip: Chip,
    *,
    run: ncu.CommandRunner = run_command,
    find: Callable[[], str] = ncu.find,
    limit_seconds: float = RUN_SECONDS,
) -> Collected:
    """Count `request` twice: what depends on the caches, and what does not.

    Raises Unavailable where Nsight Compute is missing, may not or cannot count, or where its report is not understood.
    """
    tool = ncu.ask_version(find(), run)
    places: dict[Place, tuple[Counted, Counted]] = {}
    told: dict[str, Any] = {}
    for number, metrics in enumerate(chip.runs(request.passes[0][0].dtypes.activations)):
        kernels, told = _run(request, metrics, tool, run, limit_seconds)
        for kernel in kernels:
            if kernel.place is not None:
                places.setdefault(kernel.place, (Counted(), Counted()))[number].add(kernel)
    for place, (first, second) in places.items():
        if first.kernels != second.kernels:
            raise Unavailable(
                f"two runs of the same pass launched other kernels in {place.path or place.kind}: "
                f"{_names(first)} and {_names(second)}",
                "try again; if it stays so, the library chooses kernels at random and cannot be counted in two runs",
            )
    return Collected(tool=tool, places=places, kernels=told["kernels"], refused=told["refused"])


def _run(
    request: Request,
    metrics: Sequence[str],
    tool: ncu.Tool,
    run: ncu.CommandRunner,
    limit_seconds: float,
) -> tuple[tuple[Kernel, ...], dict[str, Any]]:
    """The kernels of one run, and what the target said of it."""
    with tempfile.TemporaryDirectory(prefix="llmprof-") as folder:
        asked, answered = (Path(folder) / name for name in ("request.json", "result.json"))
        asked.write_text(request.to_json(), encoding="utf-8")
        target = ("llmprof.measure.counters.target", "--request", str(asked), "--result", str(answered))
        try:
            found = kernels_of(target, metrics, tool, run=run, limit_seconds=limit_seconds)
        except Unavailable:
            told = told_by(answered)
            if told is not None and len(told["refused"]) == len(request.passes):
                return (), told  # a report without kernels is what they leave
            raise
        told = told_by(answered)
        if told is None:
            raise Unavailable("the pass under Nsight Compute ended without saying what it ran", "try again")
        return found, told


def told_by(answered: Path) -> dict[str, Any] | None:
    """What a target wrote; None where it wrote nothing, or was stopped while it did."""
    try:
        found = json.loads(answered.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def kernels_of(
    target: Sequence[str],
    metrics: Sequence[str],
    tool: ncu.Tool,
    *,
    run: ncu.CommandRunner = run_command,
    limit_seconds: float = RUN_SECONDS,
) -> tuple[Kernel, ...]:
    """The kernels that a module of Python launches in the ranges of `ranges.py`; `target` is its name and arguments.

    Raises Unavailable where they could not be counted.
    """
    with tempfile.TemporaryDirectory(prefix="llmprof-") as folder:
        report = Path(folder) / "report.ncu-rep"
        watched = (sys.executable, "-m", *target)
        command = ncu.profile_command(tool, metrics, report, watched)
        try:
            refuse_failure(run(command, limit_seconds), limit_seconds)
            if not report.is_file():
                raise Unavailable("Nsight Compute ended without a report", ncu.INSTALL)
            return _read(tool, report, tuple(metrics), run, limit_seconds)
        except OSError as error:
            raise Unavailable(f"Nsight Compute cannot be run: {error.strerror or error}", ncu.INSTALL) from error


def _read(
    tool: ncu.Tool, report: Path, metrics: tuple[str, ...], run: ncu.CommandRunner, limit_seconds: float
) -> tuple[Kernel, ...]:
    """The kernels of a report file: through NVIDIA's module where it can, else as ncu prints them."""
    try:
        found = python_report.load(report, metrics)
    except ReportError:  # most often a module of another version than ncu
        found = None
    if found is not None:
        return found
    printed = run(ncu.import_command(tool, report), limit_seconds)
    refuse_failure(printed, limit_seconds)
    try:
        return parse(printed.stdout)
    except ReportError as error:
        raise Unavailable(
            f"the report of Nsight Compute {tool.version} is not understood: {error}",
            "please report this, with the versions of the driver and of ncu",
        ) from error


def _names(counted: Counted) -> str:
    return ", ".join(dict.fromkeys(counted.kernels)) or "none"
