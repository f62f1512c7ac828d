"""Run the experiments and print their record: ``python -m llmprof.measure.gpu_experiments [--only NAMES]``.

Exit code 0 with a record, whatever could be measured; 3 where there is no usable CUDA device.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from typing import Any

import torch

from llmprof.errors import LlmprofError
from llmprof.measure.counters import ncu
from llmprof.measure.counters.collect import kernels_of
from llmprof.measure.counters.metrics import chip_of
from llmprof.measure.counters.unavailable import Unavailable
from llmprof.measure.device import resolve_device
from llmprof.measure.environment import environment
from llmprof.measure.gpu_experiments.catalogue import EXPERIMENTS
from llmprof.measure.gpu_experiments.experiment import gpu_of
from llmprof.measure.gpu_experiments.judge import by_place, counted, record
from llmprof.measure.gpu_experiments.without_counters import known_copy, launches
from llmprof.measure.gpu_process import run_command

TARGET_SECONDS = 200.0


def run(names: list[str], device: torch.device) -> dict[str, Any]:
    """The record of the experiments of these names, and of the known copy."""
    gpu = gpu_of(device)
    chosen = [experiment for experiment in EXPERIMENTS if experiment.name in names]
    results = []
    try:
        chip = chip_of(gpu.capability)
        tool = ncu.ask_version(ncu.find(), run_command)
        target = ("llmprof.measure.gpu_experiments.target", "--only", ",".join(each.name for each in chosen))
        found = by_place(kernels_of(target, chip.runs("bf16")[0], tool, limit_seconds=TARGET_SECONDS))
        tier = f"ncu {tool.version}"
        results = [record(each, counted(each, gpu, chip, found), tier) for each in chosen]
    except Unavailable as error:
        results = [record(each, launches(each, gpu, device, str(error)), f"none: {error}") for each in chosen]
    torch.cuda.empty_cache()
    return {
        "environment": environment(device),
        "gpu": asdict(gpu),
        "experiments": [*results, known_copy(gpu, device)],
    }


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
