"""What a workload prepares for the modules: the constants, plans and caches of one pass.

Modules hold weights only, so that one twin serves many workloads; everything that depends on the workload
reaches them through these records.

Axis legend: B batch, T tokens of this stack, S keys, D d_model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from llmprof.twin.shared_kv import Loans
from llmprof.workload import Logits


@dataclass(frozen=True, slots=True, kw_only=True)
class StackPass:
    """The constants of one stack that runs. Those that no kernel takes are None or absent."""

    tokens: Tensor | None
    """int64 `[B, T]`; None where features stand in their place."""
    features: Tensor | None
    """`[B, c, 2 T]`, for a front of sound."""
    segments: Tensor | None
    """int64 `[B, T]`."""
    positions: Tensor | None
    """int64 `[T]` for a learned table, or the sinusoid `[T, D]`."""
    buckets: Tensor | None
    """int64 `[T, S]`."""
    buckets_mask: Tensor | None
    """`[T, S]`: the mask that is added to the T5 bias."""
    prepared: Mapping[str, object]
    """By the path of a module: what it made of this pass beforehand (`desk.Prepares`)."""
    loans: Loans
    """What its layers lend each other."""
    layers_again: bool = False
    """Whether backward runs every layer again, and `dropout`, the probability with which they drop: in training."""
    dropout: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LossInput:
    """What a training pass is told about its loss; m of the T positions of a sequence carry some."""

    positions: Tensor | None
    """int64 `[B m]`: where they stand among the B T rows; None where all do."""
    targets: Tensor
    """int64 `[B m]`: the tokens that they are to predict."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """One forward pass. `stacks` has one entry per stack of the architecture, None for a stack that does not run."""

    stacks: tuple[StackPass | None, ...]
    logits: Logits
    next_tokens: tuple[Tensor, ...] = ()
    """int64 `[B, T]`, for each of the layers that predict further tokens, where they run."""
    loss: LossInput | None = None
    """In training alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """What the model returns: logits, or the hidden state `[B, T, D]` where there are none."""

    logits: Tensor | None
    """`[B, T, V]` of all positions, `[B, 1, V]` of the last ones, `[B m, V]` of those with loss."""
    hidden: Tensor | None
    pooled: Tensor | None
    """`[B, D]`, where the model has a pooler and the pass is no training pass."""
    further: tuple[Tensor, ...] = ()
    """`[B, T, V]` of each of the layers that predict further tokens, where they run."""
    loss: Tensor | None = None
    """fp32, `[]`: the mean over the positions with loss, in training."""
