"""How the modules of a twin are spread over tensor-parallel ranks: the styles that `parallelize_module` applies.

They are styles of `torch.distributed.tensor.parallel` made for the twin's leaves: `ColwiseParallel` and
`RowwiseParallel` take `nn.Linear` and `nn.Embedding` alone. A leaf gets its part of each parameter and runs as it does
elsewhere; what it reads or makes is then a part of a whole with a placement, from which `redistribute` leads to the
placement that docs/reference-sharding.md names, by whatever collective does that.

Axis legend: B batch, T tokens, D d_model. A hidden state is whole on every rank (`Replicate`) or split by rows
(`Shard(1)`: sequence parallelism).
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import Partial, Placement, Replicate, Shard
from torch.distributed.tensor.parallel import ParallelStyle

from llmprof.spec import arch
from llmprof.twin.residuals import Residual
from llmprof.twin.sharded_move import redistributed
from llmprof.twin.sharded_parts import keep_columns, keep_rows

LOGITS = Shard(-1)
"""Of logits that each rank has for its own part of the vocabulary."""


class Columns(ParallelStyle):
    """A matrix `[d_out, d_in]` and its bias, split by d_out: every rank makes its part of the result's columns.

    A norm with weights `[X, h]` of each head is split likewise.
    """

    def _apply(self, module: nn.Module, device_mesh: DeviceMesh) -> nn.Module:
        keep_columns(module, device_mesh.get_local_rank(), device_mesh.size())
        return module


class Rows(ParallelStyle):
    """A matrix `[d_out, d_in]` split by d_in: every rank makes a summand of the result.

    `gives` is what becomes of the sum; None: the caller gets the summand.
    """

    def __init__(self, *, gives: Placement | None) -> None:
        super().__init__()
        self.gives = gives

    def _apply(self, module: nn.Module, device_mesh: DeviceMesh) -> nn.Module:
        keep_rows(module, device_mesh.get_local_rank(), device_mesh.size())
        if self.gives is not None:
            Gives(Partial(), self.gives)._apply(module, device_mesh)
        return module


class Gives(ParallelStyle):
    """The result of a module, a part of a whole that the ranks have as `have`, becomes what they have as `want`."""

    def __init__(self, have: Placement, want: Placement) -> None:
        super().__init__()
        self.have = have
        self.want = want

    def _apply(self, module: nn.Module, device_mesh: DeviceMesh) -> nn.Module:
        def after(_: nn.Module, __: Any, out: Tensor) -> Tensor:
            return redistributed(out, device_mesh, self.have, self.want)

        module.register_forward_hook(after)
        return module


class Takes(ParallelStyle):
    """The first argument of a module is made whole, of the rows that each rank has."""

    def __init__(self, have: Placement) -> None:
        super().__init__()
        self.have = have

    def _apply(self, module: nn.Module, device_mesh: DeviceMesh) -> nn.Module:
        def before(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            return redistributed(inputs[0], device_mesh, self.have, Replicate()), *inputs[1:]

        module.register_forward_pre_hook(before)
        return module


class Summed(Gives):
    """A module whose result is a summand, and which may take `first` what others have of its input."""

    def __init__(self, first: Takes | None, want: Placement) -> None:
        super().__init__(Partial(), want)
        self.first = first

    def _apply(self, module: nn.Module, device_mesh: DeviceMesh) -> nn.Module:
        if self.first is not None:
            self.first._apply(module, device_mesh)
        return super()._apply(module, device_mesh)


class OwnPositions(ParallelStyle):
    """The second argument, one row for each of the T tokens, is cut down to the rank's own, by a view."""

    def _apply(self, module: nn.Module, device_mesh: DeviceMesh) -> nn.Module:
        rank, ranks = device_mesh.get_local_rank(), device_mesh.size()

        def before(_: nn.Module, inputs: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            x, rows = inputs
            return x, rows.chunk(ranks)[rank]

        module.register_forward_pre_hook(before)
        return module


class Head(Columns):
    """The head, whose logits `[.., n Vn]` are gathered and stripped of those of the padding."""

    def __init__(self, vocab_size: int, *, takes: Placement) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.takes = takes

    def _apply(self, module: nn.Module, device_mesh: DeviceMesh) -> nn.Module:
        super()._apply(module, device_mesh)
        Takes(self.takes)._apply(module, device_mesh)
        Gives(LOGITS, Replicate())._apply(module, device_mesh)
        module.register_forward_hook(lambda _, __, logits: logits[..., : self.vocab_size])
        return module


class SummedResidual(Residual):
    """alpha x + scale s, for the sum s over all ranks of what two modules made of the same input."""

    def __init__(self, spec: arch.Residual, mesh: DeviceMesh, gives: Placement) -> None:
        super().__init__(spec)
        self.mesh = mesh
        self.gives = gives

    def forward(self, x: Tensor, a: Tensor, f: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x, redistributed(a + f, self.mesh, Partial(), self.gives))
