"""All-reduce among the GPUs of this machine, by NCCL: a process for each, and the slowest of them counts."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from statistics import median
from typing import Any

import torch
import torch.distributed as dist

from llmprof.latency.op import Collective
from llmprof.measure.calibration.served_clock import REPLAYS, WARM_UPS, Sample

SIZES = tuple(2**power for power in range(11, 29))
"""Bytes of one GPU's tensor: 2 KiB to 256 MiB."""
GROUPS = (2, 4, 8)
"""GPUs that constants are fitted for (`latency.collective`)."""
IN_A_GRAPH = 10
PATIENCE = timedelta(seconds=60)
"""A group that takes longer to meet is given up."""

Launcher = Callable[..., dict[int, list[float]]]


def time_all_reduce(there: int, launcher: Launcher | None = None) -> tuple[list[Sample], list[str]]:
    """(times among 2, 4, 8 of `there` GPUs, what could not be timed and why)."""
    samples: list[Sample] = []
    notes: list[str] = []
    start = launcher or _launcher()
    for ranks in (each for each in GROUPS if each <= there):
        try:
            found = start(ranks, as_rank, "nccl", SIZES)
        except Exception as error:  # a rank that failed, or no way to start one: the other kinds are timed without it
            said = (str(error).strip().splitlines() or [type(error).__name__])[0][:100]
            notes.append(f"all-reduce among {ranks} GPUs could not be timed: {said}")
            continue
        for moved, taken in zip(SIZES, zip(*found.values(), strict=True), strict=True):
            op = Collective(bytes=moved, devices=ranks, engine="torch")
            samples.append(Sample(op=op, kind="allreduce", kernel="NCCL all_reduce", seconds=max(taken)))
    return samples, notes


def _launcher() -> Launcher:
    from llmprof.measure.sharded.launch import launch

    return launch


def as_rank(backend: str, sizes: Sequence[int]) -> list[float]:
    """Be one of the ranks that torchrun's variables describe: seconds of an all-reduce of each size."""
    device = torch.device("cpu")
    if backend == "nccl":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group(backend, timeout=PATIENCE, device_id=device if backend == "nccl" else None)
    try:
        return [timed(size, device) for size in sizes]
    finally:
        dist.destroy_process_group()


def timed(size: int, device: torch.device) -> float:
    """Seconds of one all-reduce of `size` bytes in the group that this process is in."""
    x = torch.randn(size // 2, device=device).to(torch.bfloat16)
    for _ in range(WARM_UPS):
        dist.all_reduce(x)
        x.normal_()
    if device.type != "cuda":
        began = time.perf_counter()
        dist.all_reduce(x)
        return time.perf_counter() - began
    graph: Any = torch.cuda.CUDAGraph()
    torch.cuda.synchronize()
    with torch.cuda.graph(graph):
        for _ in range(IN_A_GRAPH):
            dist.all_reduce(x, op=dist.ReduceOp.MAX)  # of sums repeated, bf16 would soon have no more numbers
    event: Any = torch.cuda.Event
    found = []
    for _ in range(REPLAYS):
        start, end = event(enable_timing=True), event(enable_timing=True)
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        found.append(float(start.elapsed_time(end)) / 1e3 / IN_A_GRAPH)
    return median(found)
