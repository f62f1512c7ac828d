"""How the leaves of a twin are spread over tensor-parallel ranks: the styles that `parallelize_module` applies.

They are styles of `torch.distributed.tensor.parallel` made for the twin's leaves: `ColwiseParallel` and
`RowwiseParallel` take `nn.Linear` and `nn.Embedding` alone. Parameters become DTensors with a placement, torch's own
sharding rules say what a matrix product makes of them, and `redistribute` calls whatever collective leads from there to
the placement that docs/reference-sharding.md names. Outside of these leaves every tensor is a plain one, a rank's part.

Axis legend: B batch, T tokens, D d_model. A hidden state is whole on every rank (`Replicate`) or split by rows
(`Shard(1)`: sequence parallelism).
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Partial, Placement, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import ParallelStyle

from llmprof.spec import arch
from llmprof.twin.residuals import Residual


class _Leaf(ParallelStyle):
    """A leaf whose first input and whose result are tensors with a placement.

    `takes` is how the caller has the input, `needs` how the leaf wants it, `gives` what the caller gets; None leaves
    the result as it comes.
    """

    def __init__(self, *, takes: Placement, needs: Placement, gives: Placement | None) -> None:
        super().__init__()
        self.takes = takes
        self.needs = needs
        self.gives = gives

    def placement(self, name: str) -> Placement:
        """Where the values of the parameter `name` are."""
        raise NotImplementedError

    def _apply(self, module: nn.Module, device_mesh: DeviceMesh) -> nn.Module:
        for name, parameter in list(module.named_parameters(recurse=False)):
            # Every rank has the same values: each cuts out its own part, and none is sent.
            part = distribute_tensor(parameter, device_mesh, [self.placement(name)], src_data_rank=None)
            module.register_parameter(name, nn.Parameter(part, requires_grad=False))
        module.register_forward_pre_hook(lambda _, inputs: (self._taken(inputs[0], device_mesh), *inputs[1:]))
        module.register_forward_hook(lambda _, __, out: self._given(out))
        return module

    def _taken(self, x: Tensor, mesh: DeviceMesh) -> DTensor:
        return DTensor.from_local(x, mesh, [self.takes], run_check=False).redistribute(placements=[self.needs])

    def _given(self, out: Any) -> Tensor:
        assert isinstance(out, DTensor)
        return (out if self.gives is None else out.redistribute(placements=[self.gives])).to_local()


class Columns(_Leaf):
    """A matrix `[d_out, d_in]` and its bias, split by d_out: every rank makes its part of the result's columns."""

    def __init__(self, *, takes: Placement | None = None, gives: Placement | None = None) -> None:
        super().__init__(takes=takes or Replicate(), needs=Replicate(), gives=gives)

    def placement(self, name: str) -> Placement:
        return Shard(0)


class Rows(_Leaf):
    """A matrix `[d_out, d_in]` split by d_in, its bias whole: every rank makes a summand of the result.

    Without `gives` the caller gets that summand.
    """

    def __init__(self, *, gives: Placement | None) -> None:
        super().__init__(takes=Shard(-1), needs=Shard(-1), gives=gives)

    def placement(self, name: str) -> Placement:
        return Shard(1) if name == "weight" else Replicate()


class Vocabulary(_Leaf):
    """A table `[V, D]` split by rows: every rank looks up those that it has."""

    def __init__(self, *, gives: Placement) -> None:
        super().__init__(takes=Replicate(), needs=Replicate(), gives=gives)

    def placement(self, name: str) -> Placement:
        return Shard(0)


class Head(Columns):
    """The head, whose logits `[.., n Vn]` are gathered and stripped of those of the padding."""

    def __init__(self, vocab_size: int, *, takes: Placement) -> None:
        super().__init__(takes=takes, gives=Replicate())
        self.vocab_size = vocab_size

    def _given(self, out: Any) -> Tensor:
        return super()._given(out)[..., : self.vocab_size]


class OwnHeads(ParallelStyle):
    """A norm with weights `[X, h]` of each head: a rank has those of its heads, as plain parameters."""

    def _apply(self, module: nn.Module, device_mesh: DeviceMesh) -> nn.Module:
        for name, parameter in list(module.named_parameters(recurse=False)):
            part = distribute_tensor(parameter, device_mesh, [Shard(0)], src_data_rank=None).to_local()
            module.register_parameter(name, nn.Parameter(part, requires_grad=False))
        return module


class SummedResidual(Residual):
    """alpha x + scale s, for the sum s over all ranks of what two modules made of the same input."""

    def __init__(self, spec: arch.Residual, mesh: DeviceMesh, gives: Placement) -> None:
        super().__init__(spec)
        self.mesh = mesh
        self.gives = gives

    def forward(self, x: Tensor, a: Tensor, f: Tensor) -> Tensor:  # type: ignore[override]
        summand = DTensor.from_local(a + f, self.mesh, [Partial()], run_check=False)
        return super().forward(x, summand.redistribute(placements=[self.gives]).to_local())
