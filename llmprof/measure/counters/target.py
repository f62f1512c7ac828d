"""The process that Nsight Compute watches: builds the twin and runs each pass once, with a range around every leaf.

``python -m llmprof.measure.counters.target --request FILE.json --result FILE.json``

Weights, caches and tokens are random: the power and the clocks of a GPU depend on the data, and zeros are not data.
Kernels are pinned by the session, as when its ops are counted. Exit code 3 where the device is no CUDA device, or
where it or the twin cannot run a pass.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from llmprof.errors import DeviceError, LlmprofError
from llmprof.measure.counters.caches import Sweep
from llmprof.measure.counters.ranges import OUTER, Place
from llmprof.measure.counters.request import Request, from_json
from llmprof.measure.device import resolve_device
from llmprof.twin.build import build
from llmprof.twin.core import NoFusedKernel
from llmprof.twin.model import Twin
from llmprof.twin.session import Session

WARM_UP_RUNS = 2
"""Passes before the one that is counted: libraries are loaded, workspaces allocated, kernels chosen."""


@contextmanager
def ranged(twin: Twin, phase: str, attention: str, push: Callable[[str], object], pop: Callable[[], object]) -> Any:
    """Within it, every leaf of `twin` that runs pushes the range of its path, and pops it when it has returned."""

    def mark(path: str, leaf: nn.Module) -> list[Any]:
        name = Place(kind="leaf", phase=phase, attention=attention, path=path).name

        def enter(module: nn.Module, args: tuple[Any, ...]) -> None:
            push(name)

        def leave(module: nn.Module, args: tuple[Any, ...], result: Any) -> None:
            pop()

        return [leaf.register_forward_pre_hook(enter), leaf.register_forward_hook(leave, always_call=True)]

    hooks = [hook for path, leaf in twin.leaves for hook in mark(path, leaf)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def run(request: Request) -> dict[str, Any]:
    """Run the passes of `request` and say which kernels its cores chose, and what could not be run.

    Raises DeviceError where the device is no CUDA device.
    """
    passes = Passes(request)
    sweep = Sweep(passes.device)
    for session in passes:
        _count(session, sweep, cold=request.temperature == "cold")
        del session
    return {"kernels": passes.kernels, "refused": passes.refused, "sweep_bytes": sweep.nbytes}


class Passes:
    """The passes of a request on one twin, each prepared when its turn comes.

    Once they are through, `kernels` says which ones the cores of a pass chose and `refused` why one could not be run;
    both by ``phase/attention``.
    """

    def __init__(self, request: Request) -> None:
        """Build the twin. DeviceError where the device is no CUDA device."""
        self.device = resolve_device(request.device)
        if self.device.type != "cuda":
            raise DeviceError(f"hardware counters are those of a CUDA device, and {request.device} is {self.device}")
        first = request.passes[0][0]
        self._request = request
        self._twin = build(request.arch, dtypes=first.dtypes, device=self.device, seed=request.seed, mtp=first.mtp)
        self.kernels: dict[str, dict[str, str]] = {}
        self.refused: dict[str, str] = {}

    def __iter__(self) -> Iterator[Session]:
        for workload, execution in self._request.passes:
            key = f"{workload.phase}/{execution.attention}"
            try:
                session = Session(self._twin, workload, execution, seed=self._request.seed)
            except NoFusedKernel as reason:
                self.refused[key] = str(reason)
                continue
            self.kernels[key] = dict(session.kernels)
            yield session
            del session


def _count(session: Session, sweep: Sweep, *, cold: bool) -> None:
    """The pass that is counted, and the sweep after it that brings what it left in the cache to memory."""
    nvtx: Any = torch.cuda.nvtx
    phase, attention = session.workload.phase, session.execution.attention
    for _ in range(WARM_UP_RUNS):
        session.restore()
        session.run()
    session.restore()
    if cold:
        sweep.read()
    else:
        session.run()
        session.restore()
    torch.cuda.synchronize()
    with nvtx_range(OUTER):
        with nvtx_range(Place(kind="pass", phase=phase, attention=attention).name):
            with ranged(session.twin, phase, attention, nvtx.range_push, nvtx.range_pop):
                output = session.run()
            torch.cuda.synchronize()
        with nvtx_range(Place(kind="drain", phase=phase, attention=attention).name):
            sweep.read()
            torch.cuda.synchronize()
    del output


@contextmanager
def nvtx_range(name: str) -> Iterator[None]:
    """A range of this name, which is popped whatever happens within."""
    nvtx: Any = torch.cuda.nvtx
    nvtx.range_push(name)
    try:
        yield
    finally:
        nvtx.range_pop()


def main(arguments: list[str] | None = None) -> int:
    """Run the passes of a request, to be watched by a profiler."""
    parser = argparse.ArgumentParser(prog="python -m llmprof.measure.counters.target", description=main.__doc__)
    parser.add_argument("--request", type=Path, required=True, metavar="FILE.json", help="what to run")
    parser.add_argument("--result", type=Path, required=True, metavar="FILE.json", help="where to say what was run")
    options = parser.parse_args(arguments)
    try:
        found = run(from_json(options.request.read_text(encoding="utf-8")))
    except LlmprofError as error:
        print(f"error: {error}", file=sys.stderr)
        return DeviceError.exit_code if isinstance(error, DeviceError) else error.exit_code
    options.result.write_text(json.dumps(found), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
