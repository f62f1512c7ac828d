"""A mixture of experts: the router, the experts that the tokens go to, and what every token goes through beside them.

Axis legend: B batch, T tokens, N = B T, D d_model, L width that the experts see (D, unless the spec says otherwise), E
experts, F an expert's d_ff, k experts of a token, n rows of one.

The kernels are those of section 2 of docs/reference-experts.md. Names are deleted at their last use: lifetimes are
counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from llmprof.spec import arch
from llmprof.twin.desk import Desk, Prepares
from llmprof.twin.ffn import activation, dense_module
from llmprof.twin.in_place import multiplied
from llmprof.twin.leaf import Material, TensorLeaf
from llmprof.twin.linear import Matrix, PackedMatrix, layer_matrix
from llmprof.twin.packed import Packed, pack_matrix, unpack_matrix
from llmprof.twin.passes import StackPass
from llmprof.twin.projections import Site
from llmprof.twin.router import Router
from llmprof.twin.routes import Routes, Runs, routes


class Experts(TensorLeaf):
    """All experts: `[N, L] -> [N, L]`, the weighted sum of what a token's experts make of it.

    `gate` (where there are three matrices) and `up` are `[E, F, L]`, `down` is `[E, L, F]`; biases, where there are
    some, stand beside each. `gain` multiplies the deviation with which the matrices are drawn.
    """

    def __init__(self, spec: arch.Moe, seen: int, *, gain: float, material: Material) -> None:
        """`seen` is L."""
        super().__init__()
        self.gain = gain
        self.weighs_input = spec.weigh == "input"
        self.act = activation(spec.expert)
        self.inner = ("gate", "up") if isinstance(spec.expert, arch.Glu) else ("up",)
        self.packing = material.packing
        n, width = spec.n_experts, spec.expert.d_ff
        for name in self.matrices:
            d_out, d_in = (seen, width) if name == "down" else (width, seen)
            self._own(name, material, n, d_out, d_in)
            self.register_parameter(f"{name}_bias", material.parameter(n, d_out) if spec.expert.bias else None)

    @property
    def matrices(self) -> tuple[str, ...]:
        """The names of the matrices, in the order in which they run."""
        return (*self.inner, "down")

    @property
    def biases(self) -> tuple[Tensor, ...]:
        """Those that there are."""
        return tuple(self.get(f"{name}_bias") for name in self.matrices if getattr(self, f"{name}_bias") is not None)

    def _own(self, name: str, material: Material, *shape: int) -> None:
        """Register the matrices `name`, packed where the material is: then a buffer stands for what is stored."""
        made = material.parameter(*shape)
        if self.packing is None:
            self.register_parameter(name, made)
            return
        packed = pack_matrix(made.data, self.packing.format, self.packing.group_size)
        self.register_buffer(name, made.data, persistent=False)
        self.register_buffer(f"{name}_values", packed.values)
        self.register_buffer(f"{name}_scales", packed.scales)

    def packed_matrices(self) -> Iterator[tuple[Tensor, Packed]]:
        if self.packing is not None:
            for name in self.matrices:
                yield self.get(name), Packed(self.get(f"{name}_values"), self.get(f"{name}_scales"))

    def get(self, name: str) -> Tensor:
        """The parameter or buffer called `name`."""
        found = getattr(self, name)
        assert isinstance(found, Tensor)
        return found

    def fill(self, name: str, drawn: Tensor) -> None:
        """Store `drawn` as the matrices `name` and compute with what has been stored; only where they are packed."""
        assert self.packing is not None
        form, group_size = self.packing.format, self.packing.group_size
        packed = pack_matrix(drawn, form, group_size)
        assert packed.scales is not None
        self.get(f"{name}_values").copy_(packed.values)
        self.get(f"{name}_scales").copy_(packed.scales)
        matrices = self.get(name)
        matrices.copy_(unpack_matrix(packed, form, drawn.shape[-1], group_size, matrices.dtype))

    def forward(self, x: Tensor, weights: Tensor, now: Routes) -> Tensor:
        """`weights` `[N k, 1]` are in the order of experts, as `now.order` is."""
        rows = x.index_select(0, now.order)  # [N k, L]
        if self.weighs_input:
            rows = multiplied(rows, weights)
        return self._summed(rows, now.order, now.runs, None if self.weighs_input else weights, into=x.shape)

    def _summed(
        self, rows: Tensor, order: Tensor, runs: tuple[Runs, ...], weights: Tensor | None, *, into: torch.Size
    ) -> Tensor:
        """`[N, L]`, a tensor of shape `into`: row j of what the experts of `runs` make of `rows` goes to `order[j]`."""
        out = torch.zeros(into, dtype=rows.dtype, device=rows.device)
        parts = self._by_expert()
        for run in runs:
            here = slice(run.first, run.last)
            made = self._expert({name: each[run.expert] for name, each in parts.items()}, rows[here])
            if weights is not None:
                made = multiplied(made, weights[here])
            out.index_add_(0, order[here], made)
            del made
        return out

    def _by_expert(self) -> Mapping[str, tuple[Tensor, ...]]:
        """Every parameter as one slice per expert, in the order in which an expert casts them."""
        names = [part for name in self.matrices for part in (name, f"{name}_bias") if getattr(self, part) is not None]
        # Not by index: that would make the gradient of each expert as large as that of all.
        return {name: self.get(name).unbind(0) for name in names}

    def _expert(self, own: Mapping[str, Tensor], x: Tensor) -> Tensor:
        """One expert of its rows `[n, D]`. A cast of a parameter lives until its last use."""
        cast = {name: part.to(x.dtype) for name, part in own.items()}

        def product(name: str, y: Tensor) -> Tensor:
            return F.linear(y, cast.pop(name), cast.pop(f"{name}_bias", None))

        hidden = self.act([product(name, x) for name in self.inner])
        return product("down", hidden)


class SharedGate(Matrix, TensorLeaf):
    """s times the sigmoid of a product of x: `[N, D]`."""

    def forward(self, x: Tensor, s: Tensor) -> Tensor:
        gate = self.product(x)
        gate = torch.sigmoid(gate)
        return s * gate


class PackedSharedGate(PackedMatrix, SharedGate):
    """The same with a matrix that is stored packed."""


def _shared_gate(d_model: int, material: Material) -> SharedGate:
    if material.packing is None:
        return SharedGate(d_model, 1, bias=False, material=material)
    return PackedSharedGate(d_model, 1, bias=False, material=material, packing=material.packing)


class Join(TensorLeaf):
    """y + s."""

    def forward(self, y: Tensor, s: Tensor) -> Tensor:
        return y + s


class Mixture(Prepares[Any]):
    """The module `ffn` of a layer with experts: `[B, T, D] -> [B, T, D]`."""

    references = ()

    def __init__(self, spec: arch.Moe, site: Site) -> None:
        super().__init__(site.path)
        self.spec = spec
        self.routes: Callable[[Desk, int, int], Any] = routes  # of other records, where ranks share experts
        d, latent, gain, material = site.d_model, spec.latent, site.gain, site.material
        self.router = Router(spec, d, material)
        self.latent_down = self.latent_up = None
        if latent is not None:
            self.latent_down = layer_matrix(d, latent, bias=False, material=material, gain=gain)
        self.experts = Experts(spec, d if latent is None else latent, gain=gain, material=material)
        if latent is not None:
            self.latent_up = layer_matrix(latent, d, bias=False, material=material, gain=gain)
        if spec.shared is not None:
            self.shared = dense_module(spec.shared, replace(site, path=f"{site.path}.shared"))
            if spec.shared_gate:
                self.shared_gate = _shared_gate(site.d_model, site.material)
            self.join = Join()

    def prepare(self, desk: Desk) -> Any:
        return self.routes(desk, self.spec.n_experts, self.spec.top_k)

    def forward(self, x: Tensor, run: StackPass) -> Tensor:
        now = self.prepared(run)
        rows = x.flatten(0, 1)
        weights = self.router(rows, now)
        z = rows if self.latent_down is None else self.latent_down(rows)
        y = self.experts(z, weights, now)
        del z, weights
        if self.latent_up is not None:
            y = self.latent_up(y)
        if self.spec.shared is not None:
            s = self.shared(rows, run)
            if self.spec.shared_gate:
                s = self.shared_gate(rows, s)
            y = self.join(y, s)
            del s
        return y.view(x.shape)
