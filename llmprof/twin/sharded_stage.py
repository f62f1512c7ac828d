"""A pipeline stage: the layers that it has, at the paths of the whole model, and what it hears and says.

Axis legend: B batch, T rows that a rank has, D d_model.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.distributed as dist
from torch import Tensor, nn

from llmprof.twin.leaf import TensorLeaf
from llmprof.twin.model import Twin
from llmprof.twin.sharded_move import received


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbours:
    """The ranks that a rank hears from and sends to; None at the ends of the pipeline."""

    before: int | None
    after: int | None


class Received(TensorLeaf):
    """The hidden state `[B, T, D]` of the stage before, in the place of the token embedding."""

    def __init__(self, sender: int, shape: tuple[int, int, int], dtype: torch.dtype) -> None:
        super().__init__()
        self.sender = sender
        self.shape = shape
        self.dtype = dtype

    def forward(self, ids: Tensor) -> Tensor:
        return received(self.sender, self.shape, self.dtype, ids.device)


def cut(twin: Twin, *, first: int, last: int, neighbours: Neighbours, shape: tuple[int, int, int]) -> None:
    """Leave of `twin` the layers from `first` up to but not including `last`, and what stands at the ends that it has.

    `shape` is that of the hidden state of a rank.
    """
    (stack,) = twin.stacks
    own = stack.layers[first:last]
    home = nn.Module()
    for index, layer in enumerate(own, start=first):
        home.add_module(str(index), layer)
    twin.layers = home
    stack = replace(stack, layers=own)
    if neighbours.before is not None:
        # Where the head is tied it goes on holding the table.
        twin.embed = Received(neighbours.before, shape, twin.material.activations)  # type: ignore[assignment]
        for name in ("embed_scale", "pos_embed", "embed_norm"):
            twin.add_module(name, None)
        stack = replace(stack, embed_scale=None, pos_embed=None, embed_norm=None)
    if neighbours.after is not None:
        after = neighbours.after
        twin.lm_head = None
        twin.add_module("final_norm", None)
        stack = replace(stack, final_norm=None)

        def send(module: nn.Module, inputs: object, out: Tensor) -> None:
            dist.send(out.contiguous(), dst=after)

        own[-1].register_forward_hook(send)
    twin.stacks = (stack,)
