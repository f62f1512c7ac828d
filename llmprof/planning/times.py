"""How quickly a deployment could work at best: lower bounds of times, upper bounds of rates (docs/planning.md).

A device takes at least as long as the slowest of three: its matrix units for the FLOPs, its memory for the bytes that
have to move, its links for what collectives have to carry. The three may all work at once, whatever an engine does, so
that they are not added up. The roofline: S. Williams et al., https://doi.org/10.1145/1498765.1498785, recalled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from llmprof.device import Device
from llmprof.planning.work import Stages, Work
from llmprof.workload import COMPUTE_DTYPES, ComputeDtype, StorageDtype

Resource = Literal["compute", "memory bandwidth", "interconnect"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Speeds:
    """What one device does in a second at most. `link_bytes` is None where nothing is known of its links."""

    flops: int
    memory_bytes: int
    link_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """The least time, in seconds, and the least that each resource takes of the device that decides it.

    `weight_seconds` are those of `memory_seconds` in which weights are read. `op_level_seconds` is what it would take
    at least if every tensor that goes from kernel to kernel went through memory.
    """

    seconds: float
    compute_seconds: float
    memory_seconds: float
    weight_seconds: float
    link_seconds: float
    op_level_seconds: float

    @property
    def resource(self) -> Resource:
        """What decides the time of that device."""
        ranked: tuple[tuple[float, Resource], ...] = (
            (self.memory_seconds, "memory bandwidth"),
            (self.compute_seconds, "compute"),
            (self.link_seconds, "interconnect"),
        )
        return max(ranked, key=lambda pair: pair[0])[1]

    def share(self, resource: Resource) -> float:
        """The time that a resource needs at least, as a part of that of the one that decides."""
        taken = {
            "compute": self.compute_seconds,
            "memory bandwidth": self.memory_seconds,
            "interconnect": self.link_seconds,
        }
        return taken[resource] / max(taken.values())


WHY = " (`llmprof devices show NAME` says why)"
"""A figure that is left out: places disagree, or what they state bounds nothing. `notes` of the device have it."""


def missing(device: Device, dtype: ComputeDtype) -> str | None:
    """Which figure of `device` is missing for a plan in `dtype`; None where none is."""
    if device.memory is None:
        return "it has as much memory as is installed, which the catalogue does not know"
    if device.memory_bandwidth is None:
        return f"the catalogue has no memory bandwidth for it{WHY}"
    if dtype not in device.peak_flops:
        others = [each for each in COMPUTE_DTYPES if each in device.peak_flops]
        instead = f", only in {', '.join(others)} (--dtype {others[0]})" if others else f", nor in any other dtype{WHY}"
        return f"the catalogue has no peak in {dtype} for it{instead}"
    return None


MULTIPLIED: dict[StorageDtype, tuple[str, ...]] = {"fp8": ("fp8",), "int8": ("int8",), "int4": ("fp8", "int8")}
"""Packed weights -> the dtypes that engines may multiply in, with activations that they pack as they go (all read in
https://github.com/vllm-project/vllm, 2026-11-30): fp8 by fp8 (docs/features/quantization/fp8.md at
0244607697939bcf5e9bbb4b9976cf8c2b710982), int8 by int8 (int8.md at 061fb0e686048e5e51fef78758f6fb55424b1d61), int4 by
fp8 (`CutlassW4A8LinearKernel`) and, as other engines may, by int8."""


def speeds(device: Device, dtype: ComputeDtype, weights: StorageDtype | None = None) -> Speeds:
    """Of a device that nothing is missing of: the peak in `dtype`, or a higher one that packed `weights` allow of."""
    assert device.memory_bandwidth is not None, device.name
    link = device.interconnect
    others = MULTIPLIED.get(dtype if weights is None else weights, ())
    return Speeds(
        flops=max(device.peak_flops[each].value for each in (dtype, *others) if each in device.peak_flops),
        memory_bytes=device.memory_bandwidth.value,
        link_bytes=None if link is None else link.per_direction.value,
    )


def of_device(work: Work, at: Speeds) -> Bound:
    """The least time of one device for `work`."""
    compute = work.flops / at.flops
    memory = work.moved_bytes / at.memory_bytes
    link = 0.0 if at.link_bytes is None else work.link_bytes / at.link_bytes
    seconds = max(compute, memory, link)
    return Bound(
        seconds=seconds,
        compute_seconds=compute,
        memory_seconds=memory,
        weight_seconds=work.weight_bytes / at.memory_bytes,
        link_seconds=link,
        op_level_seconds=max(seconds, work.op_level_bytes / at.memory_bytes),
    )


def through(stages: Stages, at: Speeds) -> Bound:
    """The least time of a pass that goes through all stages, one after another."""
    each = [of_device(work, at) for work in stages]
    return Bound(
        seconds=sum(bound.seconds for bound in each),
        compute_seconds=sum(bound.compute_seconds for bound in each),
        memory_seconds=sum(bound.memory_seconds for bound in each),
        weight_seconds=sum(bound.weight_seconds for bound in each),
        link_seconds=sum(bound.link_seconds for bound in each),
        op_level_seconds=sum(bound.op_level_seconds for bound in each),
    )


def slowest(stages: Stages, at: Speeds) -> Bound:
    """The least time of the stage that takes longest."""
    return max((of_device(work, at) for work in stages), key=lambda bound: bound.seconds)


def step(part: Stages, whole: Stages, at: Speeds) -> Bound:
    """The least time between two tokens of a sequence: it goes through all stages, each of which serves all sequences.

    `part` is the work for the sequences of one of as many microbatches as there are stages, rounded down, `whole` that
    for all. However sequences are cut into microbatches, those of a token go through all stages, and there are no fewer
    than `part` in one of them, or there are more microbatches than stages, and the slowest stage takes all in turn.
    """
    return max(through(part, at), slowest(whole, at), key=lambda bound: bound.seconds)


def prompt(stages: Stages, at: Speeds, *, one_pass: bool) -> Bound:
    """The least time until the first token of a prompt that is alone.

    In `one_pass` it goes through the stages in turn. In chunks, stages work at once: then the slowest takes all of its
    work, and its last chunk reads the weights of every other.
    """
    if one_pass or len(stages) == 1:
        return through(stages, at)
    bounds = [of_device(work, at) for work in stages]
    longest = max(bounds, key=lambda bound: bound.seconds)
    others = sum(bound.weight_seconds for bound in bounds) - longest.weight_seconds
    return Bound(
        seconds=longest.seconds + others,
        compute_seconds=longest.compute_seconds,
        memory_seconds=longest.memory_seconds,
        weight_seconds=longest.weight_seconds,
        link_seconds=longest.link_seconds,
        op_level_seconds=longest.op_level_seconds + others,
    )


def per_request(prefill: Stages, decode: Stages | None, *, steps: int, batch: int, at: Speeds) -> Bound:
    """The least time that the slowest stage of a replica spends on one request, of `batch` that are in flight.

    A step serves all of them. A prompt may be computed in the same pass as other requests' steps, so that the weights
    that it reads are none of its own, unless nothing is decoded: then `batch` prompts may share them.
    """
    shares = []
    for number, first in enumerate(prefill):
        own = Work(first.flops, 0, first.cache_bytes, first.op_level_bytes - first.weight_bytes, first.link_bytes)
        if decode is None:
            own = own.plus(Work(0, first.weight_bytes, 0, first.weight_bytes, 0), 1 / batch)
        else:
            own = own.plus(decode[number], steps / batch)
        shares.append(own)
    return slowest(tuple(shares), at)
