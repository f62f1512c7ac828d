"""The process that counts itself: builds the twin, runs each pass, and reads CUPTI's counters of every leaf.

``python -m llmprof.measure.counters.cupti_target --request FILE.json --result FILE.json --metrics A,B``

A process of its own, because a library that is driven by hand may take its process with it. The GPU is idle at every
border of a range. Exit code 3 where counters cannot be read: reason and remedy are then in the result.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from llmprof.errors import DeviceError, LlmprofError
from llmprof.measure.counters import cupti_api
from llmprof.measure.counters.caches import Sweep
from llmprof.measure.counters.cupti_ranges import Pop, Push, Ranges
from llmprof.measure.counters.ranges import Place
from llmprof.measure.counters.request import Request, from_json
from llmprof.measure.counters.target import WARM_UP_RUNS, Passes, ranged
from llmprof.measure.counters.unavailable import Unavailable
from llmprof.twin.session import Session


def run(request: Request, metrics: tuple[str, ...]) -> dict[str, Any]:
    """Count the passes of `request`. Raises DeviceError off a CUDA device, Unavailable where CUPTI cannot count."""
    passes = Passes(request)
    sweep, cupti, here = Sweep(passes.device), cupti_api.load(), context()
    places: list[tuple[str, dict[str, float]]] = []
    for session in passes:
        counted = _Counted(session, sweep, cold=request.temperature == "cold")
        with Ranges(cupti, here, passes.device.index or 0, metrics, counted.ranges()) as ranges:
            places += ((name, dict(values)) for name, values in ranges.count(counted.run).items())
    return {"kernels": passes.kernels, "refused": passes.refused, "places": places}


class _Counted:
    """A pass and the sweep after it, to be run as often as the counters need."""

    def __init__(self, session: Session, sweep: Sweep, *, cold: bool) -> None:
        self._session, self._sweep, self._cold = session, sweep, cold
        self._drain = Place(kind="drain", phase=session.workload.phase, attention=session.execution.attention).name
        for _ in range(WARM_UP_RUNS):
            session.restore()
            session.run()

    def ranges(self) -> int:
        """How many ranges a run has."""
        seen: list[str] = []
        self.run(seen.append, lambda: None)
        return len(seen)

    def run(self, push: Push, pop: Pop) -> None:
        """The pass, with a range for every call of a leaf, and the drain."""
        session, calls = self._session, 0
        session.restore()
        if self._cold:
            self._sweep.read()
        else:
            session.run()
            session.restore()

        def enter(name: str) -> None:
            nonlocal calls
            calls += 1
            torch.cuda.synchronize()
            push(f"{name}{calls}")  # a leaf may run more than once in a pass, and names are to be apart

        def leave() -> None:
            torch.cuda.synchronize()
            pop()

        with ranged(session.twin, session.workload.phase, session.execution.attention, enter, leave):
            output = session.run()
        enter(self._drain)
        self._sweep.read()
        leave()
        del output


def context() -> int:
    """The CUDA context of this thread."""
    context = ctypes.c_void_p()
    driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    code = driver.cuCtxGetCurrent(ctypes.byref(context))
    if code or not context.value:
        raise Unavailable(f"there is no CUDA context (code {code})", "use Nsight Compute: --counters ncu")
    return context.value


def main(arguments: list[str] | None = None, *, count: Callable[..., dict[str, Any]] = run) -> int:
    """Run the passes of a request and write what CUPTI counted."""
    parser = argparse.ArgumentParser(prog="python -m llmprof.measure.counters.cupti_target", description=main.__doc__)
    parser.add_argument("--request", type=Path, required=True, metavar="FILE.json", help="what to run")
    parser.add_argument("--result", type=Path, required=True, metavar="FILE.json", help="where to say what was counted")
    parser.add_argument("--metrics", required=True, metavar="NAMES", help="comma list of counters")
    options = parser.parse_args(arguments)
    code = 0
    try:
        found = count(from_json(options.request.read_text(encoding="utf-8")), tuple(options.metrics.split(",")))
    except Unavailable as error:
        found, code = {"reason": error.reason, "remedy": error.remedy}, DeviceError.exit_code
    except LlmprofError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    options.result.write_text(json.dumps(found), encoding="utf-8")
    return code


if __name__ == "__main__":
    sys.exit(main())
