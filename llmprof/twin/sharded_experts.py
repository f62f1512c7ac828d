"""Experts on ranks: shares of all experts for all tokens, or whole experts to which other ranks send tokens.

Axis legend: N tokens that a rank has, D d_model, E experts, k experts of a token, G rows that go to a rank's own
experts, F an expert's d_ff. The kernels are those of section 9 of docs/reference-sharding.md. Names are deleted at
their last use: lifetimes are counted.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh

from llmprof.spec import arch
from llmprof.twin.experts import Experts, Mixture
from llmprof.twin.in_place import multiplied
from llmprof.twin.leaf import Material
from llmprof.twin.sharded_move import exchanged
from llmprof.twin.sharded_parts import part, put
from llmprof.twin.sharded_routes import SentRoutes, own_routes, sent_routes


def keep_own_experts(mixture: Mixture, mesh: DeviceMesh, *, blocks: int) -> None:
    """Leave `mixture` the experts of this rank's block of `blocks`, and of these the columns of its part.

    Ranks of `mesh` that are neighbours share a block.
    """
    pieces = mesh.size() // blocks
    block, piece = divmod(mesh.get_local_rank(), pieces)
    _cut(mixture.experts, mixture.experts, block, blocks, piece, pieces)
    mixture.routes = partial(own_routes, block=block, blocks=blocks)


def let_tokens_come(mixture: Mixture, mesh: DeviceMesh, seen: int, material: Material, *, by_rows: bool) -> None:
    """Leave `mixture` the experts of this rank of `mesh`, to whom all of its ranks send their tokens.

    `seen` is D. `by_rows`: the ranks of a replica, those in its second dimension, have a part of its tokens each.
    """
    everyone = mesh._flatten("experts")
    rank, ranks, all_experts = everyone.get_local_rank(), everyone.size(), mixture.experts
    mixture.experts = VisitedExperts(mixture.spec, seen, gain=all_experts.gain, material=material, mesh=everyone)
    _cut(all_experts, mixture.experts, rank, ranks, 0, 1)
    mixture.routes = partial(sent_routes, rank=rank, ranks=ranks, parts=mesh.size(1) if by_rows else 1)


def _cut(experts: Experts, into: Experts, block: int, blocks: int, piece: int, pieces: int) -> None:
    """Give `into` one block of the experts, and of these a piece: columns of `gate` and `up`, rows of `down`."""
    stored = [*experts.named_parameters(recurse=False), *experts.named_buffers(recurse=False)]
    for name, whole in stored:
        own = part(whole, 0, block, blocks)
        matrix, _, kind = name.partition("_")
        by_rows = matrix == "down"
        if kind == "bias" and by_rows:
            own = own / pieces  # the sum over the pieces has it once
        elif kind != "scales" or _scales_are_split(experts, by_rows=by_rows):
            own = part(own, 2 if by_rows else 1, piece, pieces)
        put(into, name, own)


def _scales_are_split(experts: Experts, *, by_rows: bool) -> bool:
    """Of columns those of int8 and int4, which have a row each; of rows those of int4, which have groups."""
    assert experts.packing is not None
    match experts.packing.format:
        case "fp8":
            return False
        case "int8":
            return not by_rows
        case "int4":
            return True


class VisitedExperts(Experts):
    """Whole experts of one rank, for the rows of all ranks of `mesh`: `[N, D] -> [N, D]`, of the rank's own tokens."""

    def __init__(self, spec: arch.Moe, seen: int, *, gain: float, material: Material, mesh: DeviceMesh) -> None:
        super().__init__(replace(spec, n_experts=spec.n_experts // mesh.size()), seen, gain=gain, material=material)
        self.mesh = mesh

    def forward(self, x: Tensor, weights: Tensor, now: SentRoutes) -> Tensor:  # type: ignore[override]
        """`weights` `[N k, 1]` are in the order of experts, as `now.order` is."""
        sent = x.index_select(0, now.order)  # [N k, D]
        if self.weighs_input:
            sent = multiplied(sent, weights)
        came = exchanged(sent, self.mesh, sent=now.sent, received=now.received)  # [G, D]
        del sent
        rows, shape = came.index_select(0, now.arrived), came.shape
        del came
        made = self._summed(rows, now.arrived, now.runs, None, into=shape)
        del rows
        back = exchanged(made, self.mesh, sent=now.received, received=now.sent)  # [N k, D]
        del made
        if not self.weighs_input:
            back = multiplied(back, weights)
        out = torch.zeros(x.shape, dtype=x.dtype, device=x.device)
        return out.index_add_(0, now.order, back)
