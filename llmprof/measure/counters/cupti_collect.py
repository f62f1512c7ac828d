"""Passes counted by CUPTI in a process of their own: what Nsight Compute would say, without the names of kernels."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from llmprof.measure.counters.collect import RUN_SECONDS, Collected, Counted, told_by
from llmprof.measure.counters.diagnosis import refuse_failure
from llmprof.measure.counters.metrics import Chip
from llmprof.measure.counters.ncu import CommandRunner, Tool
from llmprof.measure.counters.ranges import Place, place_of
from llmprof.measure.counters.report import Kernel
from llmprof.measure.counters.request import Request
from llmprof.measure.counters.unavailable import Unavailable
from llmprof.measure.gpu_process import run_command

MODULE = "llmprof.measure.counters.cupti_target"


def collect(
    request: Request, chip: Chip, *, run: CommandRunner = run_command, limit_seconds: float = RUN_SECONDS
) -> Collected:
    """Count `request` twice, as `collect.collect` does. Raises Unavailable where CUPTI may not or cannot count."""
    places: dict[Place, tuple[Counted, Counted]] = {}
    told: dict[str, Any] = {}
    for number, metrics in enumerate(chip.runs(request.passes[0][0].dtypes.activations)):
        told = _run(request, metrics, run, limit_seconds)
        for name, values in told["places"]:
            place = place_of(name)
            if place is None:
                raise Unavailable(f"CUPTI counted a range that nobody made: {name!r}", "please report this")
            both = places.setdefault(place, (Counted(), Counted()))
            both[number].add(Kernel(name="", place=place, metrics=values))
    for both in places.values():
        for counted in both:
            counted.kernels.clear()  # ranges have no kernels' names
    return Collected(
        tool=Tool(path="", version="CUPTI"), places=places, kernels=told["kernels"], refused=told["refused"]
    )


def _run(request: Request, metrics: tuple[str, ...], run: CommandRunner, limit_seconds: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="llmprof-") as folder:
        asked, answered = (Path(folder) / name for name in ("request.json", "result.json"))
        asked.write_text(request.to_json(), encoding="utf-8")
        files = ("--request", str(asked), "--result", str(answered))
        completed = run((sys.executable, "-m", MODULE, *files, "--metrics", ",".join(metrics)), limit_seconds)
        told = told_by(answered) or {}
        if "reason" in told:
            raise Unavailable(told["reason"], told["remedy"])
        refuse_failure(completed, limit_seconds, "the run with CUPTI")
        if not told:
            raise Unavailable("the run with CUPTI ended without a result", "use Nsight Compute: --counters ncu")
        return told
