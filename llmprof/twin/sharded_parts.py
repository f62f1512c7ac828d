"""A rank's part of the parameters of a leaf, cut out of those of the whole leaf, and the table of which it has rows.

Axis legend: B batch, T tokens, V vocabulary rows of a rank, D d_model; a matrix is `[d_out, d_in]`, those of experts
`[E, d_out, d_in]`. What is stored of a packed one is `values` with the same axes, and `scales` (docs/reference-
execution.md, section 9).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import Partial, Placement

from llmprof.twin.embeddings import TokenEmbedding
from llmprof.twin.leaf import TensorLeaf
from llmprof.twin.linear import PackedMatrix
from llmprof.twin.sharded_move import redistributed


def part(x: Tensor, dim: int, index: int, count: int) -> Tensor:
    """Part `index` of `count` equal ones of `x` along `dim`, in storage of its own."""
    assert x.shape[dim] % count == 0, (x.shape, dim, count)
    return x.detach().chunk(count, dim)[index].clone()


def put(leaf: nn.Module, name: str, value: Tensor) -> None:
    """Let `value` be the parameter or the buffer of `leaf` that is called `name`."""
    if name in leaf._parameters:
        leaf.register_parameter(name, nn.Parameter(value, requires_grad=False))
    else:
        leaf.register_buffer(name, value, persistent=name not in leaf._non_persistent_buffers_set)


def keep_columns(leaf: nn.Module, index: int, count: int) -> None:
    """Leave `leaf` part `index` of `count` of its d_out, or of the heads that a norm has weights for."""
    for name, whole in own_tensors(leaf):
        if whole.dim():  # all but the one scale of fp8
            put(leaf, name, part(whole, 0, index, count))


def keep_rows(leaf: nn.Module, index: int, count: int) -> None:
    """Leave `leaf`, a matrix and perhaps a bias, part `index` of `count` of its d_in.

    Of the bias it keeps the `count`-th part of every value: the sum over the parts has it once.
    """
    for name, whole in own_tensors(leaf):
        if name == "bias":
            put(leaf, name, whole.detach() / count)
        elif name == "scales":
            put(leaf, name, scales_of_rows(leaf, whole, index, count))
        else:
            put(leaf, name, part(whole, 1, index, count))


def scales_of_rows(leaf: nn.Module, scales: Tensor, index: int, count: int) -> Tensor:
    """Those of a part of the inputs: of its groups where there are groups (int4), else all."""
    assert isinstance(leaf, PackedMatrix)
    return part(scales, -1, index, count) if leaf.packing.format == "int4" else scales


def own_tensors(leaf: nn.Module) -> list[tuple[str, Tensor]]:
    """The parameters and buffers of `leaf` by name."""
    return [*leaf.named_parameters(recurse=False), *leaf.named_buffers(recurse=False)]


class OwnRows(TensorLeaf):
    """A token table of which this rank has V rows: int64 `[B, T] -> [B, T, D]`, as `gives` says."""

    def __init__(self, table: TokenEmbedding, mesh: DeviceMesh, gives: Placement) -> None:
        super().__init__()
        whole = table.weight
        self.weight = nn.Parameter(part(whole, 0, mesh.get_local_rank(), mesh.size()), requires_grad=False)
        self.mesh = mesh
        self.gives = gives

    def forward(self, ids: Tensor) -> Tensor:
        rows = len(self.weight)
        own = ids - rows * self.mesh.get_local_rank()
        below = own < 0
        above = own >= rows
        foreign = below | above
        del below, above
        own.masked_fill_(foreign, 0)
        found = F.embedding(own, self.weight)
        del own
        found.masked_fill_(foreign.unsqueeze(-1), 0.0)
        return redistributed(found, self.mesh, Partial(), self.gives)
