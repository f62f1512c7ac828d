"""The leaves of latent attention around its core: rotation, cache, and the matrix between latents and heads.

Axis legend: B batch, T new tokens, N = B T, S rows that the core reads, H heads, a width of a head's key without a
rotation, r with one, h = a + r, v width of a head's value, c width of a latent, n rows that an indexer chose.

The kernels are those of section 3 of docs/reference-experts.md. Names are deleted at their last use: lifetimes are
counted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from llmprof.spec import arch
from llmprof.twin.desk import Desk, Kept
from llmprof.twin.leaf import Material, TensorLeaf
from llmprof.twin.linear import Matrix, PackedMatrix
from llmprof.twin.positions import Rope


class LatentRope(Rope):
    """Rotates the last r values of each query head and the one key of each token."""

    def __init__(self, position: arch.Rope, spec: arch.Mla) -> None:
        super().__init__(replace(position, rotary_dim=spec.rope_dim), spec.rope_dim)
        self.nope_dim = spec.nope_dim

    def forward(self, q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        """q `[B, T, H, h]` and k `[B, T, 1, r]`, both returned contiguous."""
        turned = self._rotate(q[..., self.nope_dim :], cos, sin)
        q = torch.cat((q[..., : self.nope_dim], turned), dim=-1)
        del turned
        return q, self._rotate(k, cos, sin)


# --- what is kept per token -------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class RowState:
    """One row per token, `[B, C, n]` in the cache dtype; those from `first` on are the new tokens'."""

    rows: Tensor
    first: int

    @property
    def new(self) -> Tensor:
        """The rows of the new tokens, `[B, T, n]`."""
        return self.rows[:, self.first :]


def prepare_rows(desk: Desk, path: str, width: int) -> RowState | None:
    """The rows of all tokens, kept at `path` with their past; None in a pass that keeps nothing."""
    if not desk.keeps:
        return None
    rows = desk.past(desk.batch, desk.context, width).to(desk.kept_dtype)
    desk.keep(path, Kept(values=rows))
    return RowState(rows=rows, first=desk.context - desk.rows)


class LatentCache(TensorLeaf):
    """Stores the latents and the rotated keys of the new tokens and returns the rows of all: `[B, S, c + r]`."""

    def forward(self, latent: Tensor, key: Tensor, state: RowState) -> Tensor:
        """`latent` is `[B, T, c]`, `key` `[B, T, 1, r]`."""
        c = latent.shape[-1]
        state.new[..., :c].copy_(latent)
        state.new[..., c:].copy_(key.squeeze(2))
        return state.rows


def picked(rows: Tensor, chosen: Tensor | None) -> Tensor:
    """Of `rows` `[B, S, c + r]` those that `chosen`, int64 `[B, 1, n]`, names: `[B, n, c + r]`. None names all."""
    if chosen is None:
        return rows
    return rows.gather(1, chosen.transpose(1, 2).expand(-1, -1, rows.shape[-1]))


# --- between latents and heads ----------------------------------------------------------------


class KvUp(Matrix):
    """Every head's keys and values out of the latents. Its matrix is `[H (a + v), c]`, rows by heads, a before v."""

    spec: arch.Mla
    activations: torch.dtype

    if TYPE_CHECKING:

        def __call__(self, *args: Any) -> tuple[Tensor, Tensor]: ...

    def forward(self, latents: Tensor, key: Tensor | None, chosen: Tensor | None) -> tuple[Tensor, Tensor]:
        """Keys `[B, S, H, h]`, contiguous, and values `[B, S, H, v]`, a view.

        `latents` are fresh, `[B, S, c]`, and `key` `[B, S, 1, r]`; or `key` is None and they are what the cache holds
        of all tokens, `[B, s, c + r]`, of which `chosen` `[B, 1, S]` names those that are wanted (None: all).
        """
        spec = self.spec
        weight = self.weight.to(self.activations)
        if key is None:
            rows = picked(latents, chosen).to(self.activations)
            key = rows[..., spec.kv_rank :].unsqueeze(2)
            latents = rows[..., : spec.kv_rank].contiguous()
            del rows
        u = F.linear(latents, weight)
        del latents, weight
        u = u.view(*u.shape[:2], spec.n_heads, spec.nope_dim + spec.value_dim)
        k = torch.cat((u[..., : spec.nope_dim], key.expand(-1, -1, spec.n_heads, -1)), dim=-1)
        return k, u[..., spec.nope_dim :]


class PackedKvUp(KvUp, PackedMatrix):
    """The same with a matrix that is stored packed."""


def kv_up_module(spec: arch.Mla, material: Material) -> KvUp:
    """The leaf `kv_up`."""
    d_out = spec.n_heads * (spec.nope_dim + spec.value_dim)
    made: KvUp
    if material.packing is None:
        made = KvUp(spec.kv_rank, d_out, bias=False, material=material)
    else:
        made = PackedKvUp(spec.kv_rank, d_out, bias=False, material=material, packing=material.packing)
    made.spec, made.activations = spec, material.activations
    return made


class _OfKvUp(TensorLeaf):
    """A leaf that owns nothing and computes with a part of the matrix of `kv_up`, cast for itself as a whole."""

    def __init__(self, spec: arch.Mla, material: Material) -> None:
        super().__init__()
        self.spec = spec
        self._packed = material.packing is not None

    @property
    def reads_packed(self) -> bool:
        return self._packed

    def _by_head(self, weight: Tensor, dtype: torch.dtype) -> Tensor:
        """The matrix as `[H, a + v, c]`."""
        return weight.to(dtype).view(self.spec.n_heads, -1, self.spec.kv_rank)


class Absorb(_OfKvUp):
    """Queries that meet latents: the key rows of the matrix go into them, `[B, T, H, h] -> [B, T, H, c + r]`."""

    def forward(self, q: Tensor, weight: Tensor) -> Tensor:
        a = self.spec.nope_dim
        rows = q.flatten(0, 1)  # [N, H, h]
        keys = self._by_head(weight, q.dtype)[:, :a]
        plain = rows[..., :a].transpose(0, 1).contiguous()
        met = torch.bmm(plain, keys)  # [H, N, c]
        del plain, keys
        # In three dimensions: `cat` of four could take a layout of images for that of its result.
        return torch.cat((met.transpose(0, 1), rows[..., a:]), dim=-1).view(*q.shape[:3], -1)


class Unabsorb(_OfKvUp):
    """The heads' values out of their sums of latents: `[B, T, H, c] -> [B, T, H v]`."""

    def forward(self, o: Tensor, weight: Tensor) -> Tensor:
        b, t = o.shape[:2]
        values = self._by_head(weight, o.dtype)[:, self.spec.nope_dim :]
        sums = o.flatten(0, 1).transpose(0, 1).contiguous()  # [H, N, c]
        out = torch.bmm(sums, values.transpose(1, 2))  # [H, N, v]
        del sums, values
        return out.transpose(0, 1).contiguous().view(b, t, -1)
