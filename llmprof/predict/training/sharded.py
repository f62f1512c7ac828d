"""What one device keeps of a training step that is divided: ZeRO 1 to 3, tensor and sequence parallelism.

Formulas over the parameters and the saved tensors of one pass. No sharded run has confirmed them. Tensor parallelism
divides tensors by their axes (`division.py`). ZeRO then divides what is left of the optimiser's states (1), of the
gradients too (2) and of the weights too (3) evenly over the data-parallel devices, whatever tensor they are of (source
key `zero`; DeepSpeed keeps them flat, each part padded to the same size). Saved activations are of one device's own
sequences: data parallelism does not divide them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, Protocol

from llmprof.errors import InputError
from llmprof.predict.division import parameter_axis
from llmprof.predict.formats import float_format
from llmprof.predict.leaf import Parameter
from llmprof.predict.leaves import model_leaves
from llmprof.predict.tensor import Axes
from llmprof.predict.training.division import activation_axis, check_division
from llmprof.spec.arch import ArchSpec
from llmprof.workload import Dtypes, Workload

UNCONFIRMED = "a formula: no sharded run has confirmed it"

ZeroStage = Literal[0, 1, 2, 3]


@dataclass(frozen=True, slots=True, kw_only=True)
class Division:
    """How a step is divided: `data` x `tensor` devices, ZeRO over the first, sequences divided by the second or not."""

    zero: ZeroStage = 0
    data: int = 1
    tensor: int = 1
    sequence: bool = False

    @property
    def devices(self) -> int:
        """All of them."""
        return self.data * self.tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueBytes:
    """Bytes of a parameter's value: stored, of its gradient, and of what the optimiser keeps for it."""

    weight: int
    gradient: int
    optimizer: int


def value_bytes(dtypes: Dtypes) -> ValueBytes:
    """What AdamW in mixed precision keeps (docs/reference-training.md, section 7): a master copy beside 16 bits."""
    size = float_format(dtypes.weights).bits // 8
    return ValueBytes(weight=size, gradient=size, optimizer=8 if size == 4 else 12)


class Saved(Protocol):
    """A tensor that the forward pass keeps for the backward pass."""

    @property
    def path(self) -> str:
        """The leaf that keeps it, by its full path."""

    @property
    def axes(self) -> Axes:
        """Its named axes."""

    @property
    def nbytes(self) -> int:
        """Its bytes on one device that has all of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankBytes:
    """What the fullest device keeps of the model's states."""

    parameters: int
    weight: int
    gradient: int
    optimizer: int

    @property
    def total(self) -> int:
        """All states together."""
        return self.weight + self.gradient + self.optimizer


def check(arch: ArchSpec, workload: Workload, division: Division) -> None:
    """Raise InputError where `arch` or its tokens cannot be divided so."""
    tokens = {"new tokens": workload.new_tokens}
    if workload.source_tokens:
        tokens["source tokens"] = workload.source_tokens
    if division.sequence and workload.loss_tokens != workload.new_tokens:
        raise InputError(
            f"--sequence-parallel: {workload.objective} takes a loss of part of the positions, and nothing says which "
            "device has which of them; leave it out"
        )
    check_division(arch, division.tensor, sequence=division.sequence, tokens=tokens)


def states(arch: ArchSpec, division: Division, each: ValueBytes, trained: Mapping[str, int]) -> RankBytes:
    """Weights, gradients and optimiser states on the fullest device. `check` has accepted the division.

    `trained`: the values of each leaf that have a gradient, on one device that has all of them.
    """
    kept = rank_parameters(arch, division.tensor)
    whole = rank_parameters(arch, 1)
    idle = 0
    for path, values in kept.items():
        without = whole[path] - trained.get(path, 0)
        assert without in (0, whole[path]) or division.tensor == 1, f"{path} is trained in part"
        idle += values if without == whole[path] else without
    return shard_states(sum(kept.values()), division, each, idle=idle)


def shard_states(values: int, division: Division, each: ValueBytes, *, idle: int = 0) -> RankBytes:
    """The same of so many `values`, the parameters of one tensor-parallel device; `idle` of them are not trained."""

    def kept(stage: ZeroStage, kept_of: int) -> int:
        return -(-kept_of // division.data) if division.zero >= stage else kept_of

    return RankBytes(
        parameters=values,
        weight=kept(3, values) * each.weight,
        gradient=kept(2, values - idle) * each.gradient,
        optimizer=kept(1, values - idle) * each.optimizer,
    )


@lru_cache(maxsize=128)
def rank_parameters(arch: ArchSpec, devices: int) -> Mapping[str, int]:
    """Parameter values of the fullest of so many tensor-parallel devices by leaf; a tied matrix stands at one."""

    def kept(path: str, parameter: Parameter) -> int:
        axis = parameter_axis(path, parameter.axes) if devices > 1 else None
        return part_of(parameter.axes, axis, devices) if parameter.owned else 0

    return {path: sum(kept(path, each) for each in inside) for path, inside in model_leaves(arch).items()}


def saved_bytes(saved: Iterable[Saved], division: Division) -> int:
    """Bytes of the saved activations on the fullest tensor-parallel device."""
    return sum(saved_part(each, division) for each in saved)


def saved_part(each: Saved, division: Division) -> int:
    """The bytes of one saved tensor that one device keeps."""
    axis = activation_axis(each.path, each.axes, sequence=division.sequence)
    if axis is None or division.tensor == 1:
        return each.nbytes
    size = each.axes[axis]
    assert each.nbytes % size == 0, (each.path, each.axes, each.nbytes)
    return each.nbytes // size * -(-size // division.tensor)


def part_of(axes: Axes, axis: str | None, devices: int) -> int:
    """Values of a tensor of which one device has its part of `axis`, rounded up: the vocabulary is padded."""
    values = 1
    for name, size in axes.items():
        values *= -(-size // devices) if name == axis else size
    return values
