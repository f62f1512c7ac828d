"""The process that counts its own steps: every step of the experiments, with CUPTI's counters around it.

``python -m llmprof.measure.gpu_experiments.cupti_target --only NAMES --metrics A,B`` prints JSON: the ranges and their
counters, or why there are none (exit code 3).
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

import torch

from llmprof.errors import DeviceError, LlmprofError
from llmprof.measure.counters import cupti_api
from llmprof.measure.counters.caches import Sweep
from llmprof.measure.counters.cupti_ranges import Pop, Push, Ranges
from llmprof.measure.counters.cupti_target import context
from llmprof.measure.counters.unavailable import Unavailable
from llmprof.measure.device import resolve_device
from llmprof.measure.gpu_experiments.catalogue import EXPERIMENTS
from llmprof.measure.gpu_experiments.experiment import Operation, gpu_of
from llmprof.measure.gpu_experiments.target import place


def run(names: set[str], metrics: tuple[str, ...]) -> list[tuple[str, dict[str, float]]]:
    """The counters of the experiments of these names, by range. Raises DeviceError or Unavailable."""
    device = resolve_device("cuda")
    gpu, sweep = gpu_of(device), Sweep(device)
    cupti, here = cupti_api.load(), context()
    found: list[tuple[str, dict[str, float]]] = []
    with torch.no_grad():
        for experiment in EXPERIMENTS:
            for number, step in enumerate(experiment.steps(gpu) if experiment.name in names else ()):
                counted = Counted(step.build(device), sweep, again=step.again)
                counted.names = (place(experiment, number).name, place(experiment, number, "drain").name)
                with Ranges(cupti, here, device.index or 0, metrics, 2) as ranges:
                    found += ((name, dict(values)) for name, values in ranges.count(counted.run).items())
                del counted
                torch.cuda.empty_cache()
    return found


class Counted:
    """One step, to be run as often as the counters need."""

    names: tuple[str, str]

    def __init__(self, operation: Operation, sweep: Sweep, *, again: bool) -> None:
        self._operation, self._sweep, self._again = operation, sweep, again
        operation()

    def run(self, push: Push, pop: Pop) -> None:
        """The operation in the first range, and what it left in the cache in the second."""
        self._sweep.read()
        if self._again:
            self._operation()
        torch.cuda.synchronize()
        push(self.names[0])
        output = self._operation()
        torch.cuda.synchronize()
        pop()
        if not self._again:
            push(self.names[1])
            self._sweep.read()
            torch.cuda.synchronize()
            pop()
        del output


def main(arguments: list[str] | None = None) -> int:
    """Run the steps of experiments and print what CUPTI counted."""
    parser = argparse.ArgumentParser(
        prog="python -m llmprof.measure.gpu_experiments.cupti_target", description=main.__doc__
    )
    parser.add_argument("--only", required=True, metavar="NAMES", help="comma list of experiments")
    parser.add_argument("--metrics", required=True, metavar="NAMES", help="comma list of counters")
    options = parser.parse_args(arguments)
    code, found = 0, dict[str, Any]()
    try:
        found = {"ranges": run(set(options.only.split(",")), tuple(options.metrics.split(",")))}
    except Unavailable as error:
        code, found = DeviceError.exit_code, {"reason": error.reason, "remedy": error.remedy}
    except LlmprofError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(json.dumps(found))
    return code


if __name__ == "__main__":
    sys.exit(main())
