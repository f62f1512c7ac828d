"""Ring attention: the core of ranks that share the tokens of a sequence, whose keys and values go round.

Axis legend: B batch, m tokens of a rank, c ranks, H query heads, K key/value heads, h head_dim, R rows.

The order of the kernels is that of section 10 of docs/reference-sharding.md. Names are deleted at their last use:
lifetimes are counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh

from llmprof.errors import DeviceError
from llmprof.twin.core import Core, CorePlan, NoFusedKernel, expand_kv
from llmprof.twin.desk import Pairs
from llmprof.twin.masks import EVERY_ROW, MaskKind, PositionSight, Sight
from llmprof.twin.sharded_move import passed_on

_aten = torch.ops.aten


def own_chunks(rank: int, ranks: int, tokens: int) -> tuple[range, range]:
    """The positions of rank `rank` among `tokens`: one chunk of the first half, and its mirror image of the second."""
    each = tokens // (2 * ranks)
    mirrored = 2 * ranks - 1 - rank
    return range(rank * each, (rank + 1) * each), range(mirrored * each, (mirrored + 1) * each)


class NoUnfusedRing(NoFusedKernel):
    """A ring was asked to run unfused. `path` is the core's."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.reason = "ranks of a ring merge the log-sum-exps of fused kernels, which unfused attention has none of"
        DeviceError.__init__(self, f"{path}: {self.reason}; run it fused")


@dataclass(frozen=True, slots=True, kw_only=True)
class RingSight:
    """The sight of the rows of one rank: all keys up to each row's own position."""

    chunks: tuple[range, range]
    keys: int

    @property
    def kind(self) -> MaskKind:
        """No triangle: the rows are two parts of one."""
        return "dense"

    @property
    def rows(self) -> int:
        """m."""
        return sum(map(len, self.chunks))

    def seen(self, device: torch.device, rows: slice = EVERY_ROW) -> Tensor:
        """Whether a row sees a key, bool `[m, T]`, or of `rows` alone."""
        q = torch.cat([torch.arange(chunk.start, chunk.stop, device=device) for chunk in self.chunks])[rows]
        return torch.arange(self.keys, device=device) <= q[:, None]


class RingCore(Core):
    """The core of the rank that this process is among those of `mesh`."""

    def __init__(self, whole: Core, mesh: DeviceMesh) -> None:
        super().__init__(whole.path, scale=whole.scale, softcap=whole.softcap)
        peers: list[int] = mesh.mesh.tolist()
        self.rank, self.ranks = mesh.get_local_rank(), len(peers)
        self.next, self.previous = peers[(self.rank + 1) % self.ranks], peers[self.rank - 1]

    def takes(self, plan: CorePlan, see: Sight) -> Pairs:
        assert isinstance(see, PositionSight)
        assert (see.kind, see.first_row, see.keys) == ("causal", 0, see.rows), see
        if plan.kernel not in ("flash", "efficient", "cpu"):
            raise NoUnfusedRing(self.path)
        rank, ranks, m = self.rank, self.ranks, see.rows
        sight = RingSight(chunks=own_chunks(rank, ranks, m * ranks), keys=m * ranks)
        return Pairs(see=sight, computed=m * m + (ranks - 1) * m * (m // 2))

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, plan: CorePlan) -> Tensor:
        assert bias is None, "what is hidden are whole blocks, or a triangle"
        k, v = k.to(q.dtype), v.to(q.dtype)
        rank, ranks, half = self.rank, self.ranks, q.shape[1] // 2
        made, sums = self._kernel(q, k, v, plan, causal=True)
        out = made.float()  # [B, m, H, h]
        del made
        for step in range(1, ranks):
            k = self._passed_on(k)
            v = self._passed_on(v)
            if (rank - step) % ranks < rank:
                part, of_part = self._kernel(q, k[:, :, :half], v[:, :, :half], plan, causal=False)
                rows = slice(None)
            else:
                part, of_part = self._kernel(q[:, half:], k, v, plan, causal=False)
                rows = slice(half, None)
            last = step == ranks - 1
            apart = of_part - sums[:, :, rows]
            if last:
                del of_part, sums
            weight = torch.sigmoid(apart)
            del apart
            if not last:
                joined = torch.logaddexp(sums[:, :, rows], of_part)
                sums[:, :, rows].copy_(joined)
                del joined, of_part
            part = part.float()
            out[:, rows].lerp_(part, weight.transpose(1, 2).unsqueeze(-1))
            del part, weight
        del k, v
        return out.to(q.dtype).flatten(2)

    def _passed_on(self, block: Tensor) -> Tensor:
        return passed_on(block, to=self.next, source=self.previous, first=self.rank % 2 == 0)

    def _kernel(self, q: Tensor, k: Tensor, v: Tensor, plan: CorePlan, *, causal: bool) -> tuple[Tensor, Tensor]:
        """What the rows take of these keys alone, `[B, R, H, h]`, and their log-sum-exps, fp32 `[B, H, R]`."""
        query = q.transpose(1, 2)
        match plan.kernel:
            case "flash":
                out, sums, *_ = _aten._scaled_dot_product_flash_attention(query, k, v, 0.0, causal, scale=self.scale)
            case "efficient":
                keys, values = expand_kv(k, query.shape[1]), expand_kv(v, query.shape[1])
                out, sums, *_ = _aten._scaled_dot_product_efficient_attention(
                    query, keys, values, None, True, 0.0, causal, scale=self.scale
                )
            case "cpu":
                out, sums = _aten._scaled_dot_product_flash_attention_for_cpu(
                    query, k, v, 0.0, causal, scale=self.scale
                )
            case "lean-eager" | "hf-eager" | "sdpa-math":
                raise AssertionError("no fused kernel")
            case never:
                assert_never(never)
        return out.transpose(1, 2), sums[:, :, : query.shape[2]]
