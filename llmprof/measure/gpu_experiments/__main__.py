"""Run the experiments and print their record: ``python -m llmprof.measure.gpu_experiments [--only NAMES]``.

Exit code 0 with a record, whatever could be measured; 3 where there is no usable CUDA device.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import torch

from llmprof.errors import LlmprofError
from llmprof.measure.counters import ncu
from llmprof.measure.counters.collect import kernels_of
from llmprof.measure.counters.diagnosis import refuse_failure
from llmprof.measure.counters.metrics import chip_of
from llmprof.measure.counters.ranges import place_of
from llmprof.measure.counters.report import Kernel
from llmprof.measure.counters.unavailable import Unavailable
from llmprof.measure.device import resolve_device
from llmprof.measure.environment import environment
from llmprof.measure.gpu_experiments.catalogue import EXPERIMENTS
from llmprof.measure.gpu_experiments.experiment import Experiment, Gpu, gpu_of
from llmprof.measure.gpu_experiments.judge import by_place, counted, record
from llmprof.measure.gpu_experiments.without_counters import known_copy, launches
from llmprof.measure.gpu_process import run_command

TARGET_SECONDS = 200.0


def run(names: list[str], device: torch.device) -> dict[str, Any]:
    """The record of the experiments of these names, and of the known copy."""
    gpu = gpu_of(device)
    chosen = [experiment for experiment in EXPERIMENTS if experiment.name in names]
    results, reasons = None, list[str]()
    for source in (by_ncu, by_cupti):
        try:
            results = source(chosen, gpu, device)
            break
        except Unavailable as error:
            reasons.append(str(error))
    if results is None:
        said = ". ".join(reasons)
        results = [record(each, launches(each, gpu, device, said), f"none: {said}") for each in chosen]
    torch.cuda.empty_cache()
    return {
        "environment": environment(device),
        "gpu": asdict(gpu),
        "experiments": [*results, known_copy(gpu, device)],
    }


def by_ncu(
    chosen: Sequence[Experiment], gpu: Gpu, device: torch.device, *, execute: ncu.CommandRunner = run_command
) -> list[dict[str, Any]]:
    """Records with what Nsight Compute counted. Raises Unavailable."""
    chip = chip_of(gpu.capability)
    tool = ncu.ask_version(ncu.find(), execute)
    target = ("llmprof.measure.gpu_experiments.target", "--only", ",".join(each.name for each in chosen))
    kernels = kernels_of(target, chip.runs("bf16")[0], tool, run=execute, limit_seconds=TARGET_SECONDS)
    found = by_place(kernels)
    return [record(each, counted(each, gpu, chip, found), f"ncu {tool.version}") for each in chosen]


def by_cupti(
    chosen: Sequence[Experiment], gpu: Gpu, device: torch.device, *, execute: ncu.CommandRunner = run_command
) -> list[dict[str, Any]]:
    """Records with what CUPTI counted, and launches by torch's profiler. Raises Unavailable."""
    chip = chip_of(gpu.capability)
    names, metrics = ",".join(each.name for each in chosen), ",".join(chip.runs("bf16")[0])
    module = "llmprof.measure.gpu_experiments.cupti_target"
    completed = execute((sys.executable, "-m", module, "--only", names, "--metrics", metrics), TARGET_SECONDS)
    try:
        told = json.loads(completed.stdout)
    except ValueError:
        told = {}
    if "reason" in told:
        raise Unavailable(told["reason"], told["remedy"])
    refuse_failure(completed, TARGET_SECONDS, "the run with CUPTI")
    kernels = [Kernel(name="", place=place_of(name), metrics=values) for name, values in told["ranges"]]
    found = by_place(kernels)
    results = []
    for each in chosen:
        moved = [replace(one, kernels=()) for one in counted(each, gpu, chip, found) if one.quantity == "dram_bytes"]
        launched = [one for one in launches(each, gpu, device, "") if one.quantity == "kernels"]
        results.append(record(each, [*moved, *launched], "cupti"))
    return results


def main(arguments: list[str] | None = None) -> int:
    """Run small experiments that only a GPU can decide, and print their record as JSON."""
    known = [experiment.name for experiment in EXPERIMENTS]
    parser = argparse.ArgumentParser(prog="python -m llmprof.measure.gpu_experiments", description=main.__doc__)
    parser.add_argument("--only", default=",".join(known), metavar="NAMES", help=f"comma list of {', '.join(known)}")
    options = parser.parse_args(arguments)
    names = [name.strip() for name in options.only.split(",") if name.strip()]
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        parser.error(f"--only: found {options.only!r}; expected some of {', '.join(known)}")
    try:
        found = run(names, resolve_device("cuda"))
    except LlmprofError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
