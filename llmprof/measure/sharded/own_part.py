"""Which part of an unsharded tensor a rank has: of tokens, logits, caches and states (docs/reference-sharding.md).

Axis legend: B batch, T tokens, K KV heads, S context, h head_dim, H heads, E channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh

from llmprof.spec.arch import ArchSpec, Attention, GatedDeltaNet, Mamba2
from llmprof.twin.sharded_ring import own_chunks


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnPart:
    """The parts that this rank of `mesh` has; `of_all`: of tensors of all replicas, not of its own alone."""

    arch: ArchSpec
    mesh: DeviceMesh
    of_all: bool

    def rows(self, x: Tensor, *, dim: int, index: int | None = None) -> Tensor:
        """The sequences of this rank's replica, and its own chunks of their tokens, which are along `dim`.

        `index`: of another rank of those that share the tokens.
        """
        if self.of_all:
            x = x.chunk(self.mesh["data"].size())[self.mesh.get_local_rank("data")]
        ranks = self.mesh["context"].size()
        if ranks == 1:
            return x
        chunks = own_chunks(self.mesh.get_local_rank("context") if index is None else index, ranks, x.shape[dim])
        return torch.cat([x.narrow(dim, chunk.start, len(chunk)) for chunk in chunks], dim)

    def kept(self, path: str, whole: Tensor) -> Tensor:
        """Of what outlives a pass.

        Of keys and values `[B, K, S, h]` the heads of this rank, repeated where they are replicated; of states of cores
        `[B, H, ..]` the heads; of what a convolution keeps `[B, E, ..]` the channels of its heads; of all else all.
        """
        n, rank = self.mesh["tensor"].size(), self.mesh.get_local_rank("tensor")
        match path.split("."):
            case [*_, "cache", "k" | "v"]:
                mine = self.rows(whole, dim=2)
                return mine.repeat_interleave(max(n // mine.shape[1], 1), dim=1).chunk(n, dim=1)[rank]
            case ["layers", index, *_, "core" | "conv" as leaf, "state"] if n > 1:
                mixer = self.arch.main.layers[int(index)].attention
                widths = _slices(mixer) if leaf == "conv" else [whole.shape[1]]
                slices = torch.split(self.rows(whole, dim=2), widths, dim=1)
                return torch.cat([each.chunk(n, dim=1)[rank] for each in slices], dim=1)
        return self.rows(whole, dim=1)


def _slices(mixer: Attention) -> list[int]:
    """How wide the parts of what a convolution takes are: of queries, keys and values, or of values, b and c."""
    match mixer:
        case GatedDeltaNet():
            keys = mixer.n_key_heads * mixer.key_dim
            return [keys, keys, mixer.n_heads * mixer.value_dim]
        case Mamba2():
            return [mixer.d_inner, mixer.n_groups * mixer.d_state, mixer.n_groups * mixer.d_state]
    raise AssertionError(f"no rule spreads a convolution of {mixer.kind}")
