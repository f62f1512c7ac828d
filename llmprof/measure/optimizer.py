"""Measures gradients and a step of the optimiser: what it keeps for each leaf, what it moves and what lives in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from llmprof.measure.bytes import ByteCounter
from llmprof.measure.live import LiveBytes
from llmprof.measure.trace import tracing_step
from llmprof.twin.model import Twin
from llmprof.twin.optimizer import AdamW


@dataclass(frozen=True, slots=True, kw_only=True)
class StepMeasured:
    """What the optimiser keeps, by the name of a parameter; the op-level bytes of one step, and the peak in it.

    `peak` is of all that lives beside parameters and what is kept: the gradients are among it.
    """

    kept: Mapping[str, int]
    hbm_bytes: int
    peak: int


def measure_step(twin: Twin, gradients: Mapping[str, Tensor]) -> StepMeasured:
    """Take one step of AdamW along `gradients`, by the names of parameters, on a copy of those of `twin`."""
    parameters = {name: twin.get_parameter(name).detach().clone() for name in gradients}
    optimizer = AdamW(parameters)
    traffic, live = ByteCounter(), LiveBytes(excluded=optimizer.tensors, constants=gradients.values())
    with tracing_step((live, traffic)):
        optimizer.step(gradients)
    return StepMeasured(
        kept={name: kept.nbytes for name, kept in optimizer.kept.items()},
        hbm_bytes=sum(traffic.by_path.values()),
        peak=live.peak,
    )


def by_leaf(twin: Twin, bytes_of: Mapping[str, int]) -> Iterator[tuple[str, int]]:
    """(path, bytes of the parameters of the leaf) of every leaf; `bytes_of` has a shared one under its first name."""
    for path, leaf in twin.leaves:
        yield path, sum(bytes_of.get(f"{path}.{name}", 0) for name, _ in leaf.named_parameters(recurse=False))
