"""Masks: what a core adds to its scores for a sight, and the biases that depend on distance.

Axis legend: T new tokens (query rows), S keys that the core reads, H query heads.

A *sight* says who sees whom; which one an attention has, the `view` of its class says.
Query rows are the positions context - T .. context - 1 (docs/reference-execution.md, section 6).
All constants of shape `[.., T, S]` that a core adds to its scores are views of storage whose rows are a
multiple of eight elements long, so that every row starts aligned.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from llmprof.errors import InputError
from llmprof.spec import arch

MaskKind = Literal["full", "causal", "dense"]

EVERY_ROW = slice(None)

_ROW_MULTIPLE = 8


class Sight(Protocol):
    """Which keys the rows of one attention see. A value: attentions of a stack with equal sights share a mask."""

    @property
    def kind(self) -> MaskKind:
        """``full`` hides nothing, ``causal`` is the bottom-right triangle, ``dense`` is all else."""

    @property
    def rows(self) -> int:
        """T."""

    @property
    def keys(self) -> int:
        """S."""

    def seen(self, device: torch.device, rows: slice = EVERY_ROW) -> Tensor:
        """Whether a row sees a key, bool `[T, S]`, the keys in the order in which the core gets them.

        `rows` cuts a part out of the T, so that a large mask need not lie in memory as a whole.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class PositionSight:
    """The sight of an attention whose keys are positions: causal, prefix or bidirectional, with or without a window.

    `first_row` is the position of the first query row. `window`, `chunk` and `prefix` are kept only where the mask is
    dense: two attentions share a constant exactly if their sights are equal. A window that is `two_sided` reaches
    window // 2 positions to either side, any other hides what comes after a row. `ring` says that the core gets the
    keys in the order of a ring cache's slots.
    """

    kind: MaskKind
    rows: int
    keys: int
    first_row: int
    window: int | None = None
    chunk: int | None = None
    two_sided: bool = False
    prefix: int = 0
    ring: bool = False

    def query_positions(self, device: torch.device) -> Tensor:
        """The position of each query row, int64 `[T]`."""
        return torch.arange(self.first_row, self.first_row + self.rows, device=device)

    def key_positions(self, device: torch.device) -> Tensor:
        """The position of each key in the order in which the core gets it, int64 `[S]`."""
        context = self.first_row + self.rows
        if self.ring:
            # Slot j of a full ring holds the latest position p with p mod S = j.
            last = context - 1
            return last - torch.remainder(last - torch.arange(self.keys, device=device), self.keys)
        return torch.arange(context - self.keys, context, device=device)

    def seen(self, device: torch.device, rows: slice = EVERY_ROW) -> Tensor:
        """Whether a row sees a key, bool `[T, S]`, or of `rows` alone."""
        q = self.query_positions(device)[rows, None]
        if self.kind == "full":
            return torch.ones(len(q), self.keys, dtype=torch.bool, device=device)
        k = self.key_positions(device)[None, :]
        if self.two_sided:
            assert self.window is not None, "without a window all is visible"
            return (k - q).abs() <= self.window // 2
        seen = k <= q
        if self.window is not None:
            seen &= k > q - self.window
        if self.chunk is not None:
            seen &= k // self.chunk == q // self.chunk
        if self.prefix:
            seen |= k < self.prefix
        return seen


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressedSight:
    """The sight of a compressed attention of `factor` f (docs/reference-attention.md, section 5).

    In a causal stack compressed key j stands for the positions (j - 1) f + 1 .. j f, and position x sees the keys
    j <= x // f. In a bidirectional one every row sees every key.
    """

    factor: int
    causal: bool
    rows: int
    context: int

    @property
    def kind(self) -> MaskKind:
        """Full for the last position alone, which sees every key there is."""
        return "dense" if self.causal and self.rows > 1 else "full"

    @property
    def keys(self) -> int:
        """S: how many compressed keys there are."""
        return -(-self.context // self.factor)

    def seen(self, device: torch.device, rows: slice = EVERY_ROW) -> Tensor:
        """Whether a row sees a key, bool `[T, S]`, or of `rows` alone."""
        x = torch.arange(self.context - self.rows, self.context, device=device)[rows, None]
        j = torch.arange(self.keys, device=device)[None, :]
        return j <= x // self.factor if self.causal else torch.ones_like(j <= x)


def sight(
    stack_mask: arch.Mask, window: int | None, *, rows: int, context: int, prefix: int, chunk: int | None = None
) -> PositionSight:
    """The sight of a self-attention over its own stack's `context` positions, `rows` of them new."""
    if stack_mask == "bidirectional":
        return _two_sided(window, rows=rows, context=context)
    if window is not None and stack_mask != "causal":
        raise InputError(f"an attention window is not defined for a {stack_mask} mask")
    if chunk is not None and context > chunk:
        if window is not None or stack_mask != "causal":
            raise InputError("chunks are defined for causal stacks only, without a window")
        return _chunked(chunk, rows=rows, context=context)
    keys = context if window is None else min(context, rows + window - 1)
    ring = window is not None and context > window and rows == 1
    first_row = context - rows
    kind: MaskKind
    if rows == 1 or (stack_mask == "prefix" and prefix >= context):
        kind = "full"
    elif stack_mask == "causal":
        kind = "causal" if window is None or window >= context else "dense"
    else:
        kind = "causal" if prefix <= first_row + 1 else "dense"
    if kind != "dense":
        return PositionSight(kind=kind, rows=rows, keys=keys, first_row=first_row, ring=ring)
    return PositionSight(kind=kind, rows=rows, keys=keys, first_row=first_row, window=window, prefix=prefix)


def _two_sided(window: int | None, *, rows: int, context: int) -> PositionSight:
    """Everything, or the positions at most window // 2 away on either side."""
    if window is None or window // 2 >= context - 1:
        return PositionSight(kind="full", rows=rows, keys=context, first_row=context - rows)
    return PositionSight(kind="dense", rows=rows, keys=context, first_row=context - rows, window=window, two_sided=True)


def _chunked(chunk: int, *, rows: int, context: int) -> PositionSight:
    """The positions up to a row in its own chunk, of a context that is longer than a chunk.

    The core gets the keys from the start of the first new token's chunk on.
    """
    first_row = context - rows
    keys = first_row % chunk + rows
    if rows == 1 or keys <= chunk:
        return PositionSight(kind="full" if rows == 1 else "causal", rows=rows, keys=keys, first_row=first_row)
    return PositionSight(kind="dense", rows=rows, keys=keys, first_row=first_row, chunk=chunk)


def cross_sight(rows: int, source: int) -> PositionSight:
    """The sight of a cross-attention: every row sees every position of the source."""
    return PositionSight(kind="full", rows=rows, keys=source, first_row=source - rows)


def aligned_rows(*shape: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """An unfilled tensor of `shape` in storage whose rows are a multiple of eight elements long."""
    *outer, columns = shape
    stored = -(-columns // _ROW_MULTIPLE) * _ROW_MULTIPLE
    return torch.empty(*outer, stored, dtype=dtype, device=device)[..., :columns]


def mask(see: Sight, dtype: torch.dtype, device: torch.device) -> Tensor:
    """0 where a row sees a key and -inf elsewhere, `[T, S]`."""
    out = aligned_rows(see.rows, see.keys, dtype=dtype, device=device)
    out.zero_()
    return hide(out, see)


def hide(scores: Tensor, see: Sight) -> Tensor:
    """-inf into `scores` `[.., T, S]` where a row does not see a key, in place."""
    # On meta there is nothing to fill in, and a pattern of tokens can be too large to be worked out in vain.
    if see.kind != "full" and not scores.is_meta:
        scores.masked_fill_(~see.seen(scores.device), -math.inf)
    return scores


# --- ALiBi ------------------------------------------------------------------------------------


def alibi_slopes(n_heads: int) -> list[float]:
    """A slope per head: 2^(-8 i / n) for i = 1 .. n where n is a power of two.

    For other n, the slopes of the power of two below, then every other one of the power of two above
    (https://arxiv.org/abs/2108.12409 and its code).
    """
    below = 1 << (n_heads.bit_length() - 1)
    slopes = [2.0 ** (-8.0 * i / below) for i in range(1, below + 1)]
    slopes += [2.0 ** (-8.0 * i / (2 * below)) for i in range(1, 2 * (n_heads - below), 2)]
    return slopes


def alibi(
    see: PositionSight, n_heads: int, dtype: torch.dtype, device: torch.device, *, own: range | None = None
) -> Tensor:
    """-slope * |distance|, the mask added in, `[H, T, S]`; of the heads `own` alone, where it is given."""
    q = see.query_positions(device)[:, None]
    k = see.key_positions(device)[None, :]
    heads = range(n_heads) if own is None else own
    slopes = torch.tensor(alibi_slopes(n_heads)[heads.start : heads.stop], dtype=torch.float32, device=device)
    out = aligned_rows(len(heads), see.rows, see.keys, dtype=dtype, device=device)
    out.copy_(slopes[:, None, None] * -(q - k).abs().to(torch.float32))
    return hide(out, see)


# --- squared distances ------------------------------------------------------------------------


def squared_distances(see: PositionSight, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The squared distance of every (row, key) pair, `[T, S]`: what the Gaussian prior weighs."""
    ahead = see.key_positions(device)[None, :] - see.query_positions(device)[:, None]
    out = aligned_rows(see.rows, see.keys, dtype=dtype, device=device)
    return out.copy_(ahead * ahead)


# --- T5 ---------------------------------------------------------------------------------------


def t5_buckets(see: PositionSight, spec: arch.T5Bias, *, two_sided: bool, device: torch.device) -> Tensor:
    """The bucket of every (row, key) pair, int64 `[T, S]`.

    Half of a side's buckets are one distance each, the other half grow logarithmically up to `max_distance`
    (section 2.1 of https://arxiv.org/abs/1910.10683 and its code).
    """
    ahead = see.key_positions(device)[None, :] - see.query_positions(device)[:, None]
    if two_sided:
        side = spec.n_buckets // 2
        first = (ahead > 0) * side
        distance = ahead.abs()
    else:
        side = spec.n_buckets
        first = torch.zeros_like(ahead)
        distance = (-ahead).clamp(min=0)
    exact = side // 2
    growth = torch.log(distance.clamp(min=1).float() / exact) / math.log(spec.max_distance / exact)
    logarithmic = (exact + (growth * (side - exact)).long()).clamp(max=side - 1)
    return first + torch.where(distance < exact, distance, logarithmic)
