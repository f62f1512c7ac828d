"""The process that Nsight Compute watches: every step of the experiments once, in a range of its own.

``python -m llmprof.measure.gpu_experiments.target --only l2-reuse,rms-norm``
"""

from __future__ import annotations

import argparse
import sys
from typing import Literal

import torch

from llmprof.errors import LlmprofError
from llmprof.measure.counters.caches import Sweep
from llmprof.measure.counters.ranges import OUTER, Place
from llmprof.measure.counters.target import nvtx_range
from llmprof.measure.device import resolve_device
from llmprof.measure.gpu_experiments.catalogue import EXPERIMENTS
from llmprof.measure.gpu_experiments.experiment import Experiment, Step, gpu_of


def place(experiment: Experiment, number: int, kind: Literal["leaf", "drain"] = "leaf") -> Place:
    """Where the kernels of a step are counted; what it leaves in the cache is written in its ``drain``."""
    return Place(kind=kind, phase=experiment.name.replace("-", "_"), attention=f"step{number}")


def run_all(names: set[str]) -> None:
    """Run the experiments of these names. DeviceError where there is no CUDA device."""
    device = resolve_device("cuda")
    gpu, sweep = gpu_of(device), Sweep(device)
    for experiment in EXPERIMENTS:
        if experiment.name in names:
            for number, step in enumerate(experiment.steps(gpu)):
                _count(experiment, number, step, device, sweep)
                torch.cuda.empty_cache()


def _count(experiment: Experiment, number: int, step: Step, device: torch.device, sweep: Sweep) -> None:
    with torch.no_grad():
        operation = step.build(device)
        operation()
        sweep.read()
        if step.again:
            operation()
        torch.cuda.synchronize()
        with nvtx_range(OUTER):
            with nvtx_range(place(experiment, number).name):
                output = operation()
                torch.cuda.synchronize()
            if not step.again:
                with nvtx_range(place(experiment, number, "drain").name):
                    sweep.read()
                    torch.cuda.synchronize()
        del output


def main(arguments: list[str] | None = None) -> int:
    """Run the steps of experiments, to be watched by a profiler."""
    parser = argparse.ArgumentParser(prog="python -m llmprof.measure.gpu_experiments.target", description=main.__doc__)
    parser.add_argument("--only", required=True, metavar="NAMES", help="comma list of experiments")
    options = parser.parse_args(arguments)
    try:
        run_all(set(options.only.split(",")))
    except LlmprofError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
