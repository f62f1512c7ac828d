"""What an attention kernel is given: sizes and a mask (reference-tiles.md, sections 1, 4 and 9)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

MaskKind = Literal["full", "causal", "window", "both ways", "prefix"]


@dataclass(frozen=True, slots=True)
class Mask:
    """Which keys a query sees, aligned to the bottom right; `extent` is w of a window, p of a prefix, else 0."""

    kind: MaskKind
    extent: int = 0

    def __post_init__(self) -> None:
        least = {"window": 1, "both ways": 0, "prefix": 0}.get(self.kind)
        if (self.extent != 0) if least is None else (self.extent < least):
            raise ValueError(f"a {self.kind} mask has no extent of {self.extent}")

    @property
    def before(self) -> int | None:
        """How far back a query sees; None: to the first key."""
        return {"window": self.extent - 1, "both ways": self.extent // 2}.get(self.kind)

    @property
    def after(self) -> int | None:
        """How far ahead a query sees; None: to the last key."""
        return None if self.kind == "full" else self.extent // 2 if self.kind == "both ways" else 0


FULL = Mask("full")
CAUSAL = Mask("causal")


def window(w: int) -> Mask:
    """Key k is visible from position q where q - w < k <= q."""
    return Mask("window", w)


def both_ways(w: int) -> Mask:
    """Keys at most floor(w / 2) away on either side."""
    return Mask("both ways", w)


def prefix(p: int) -> Mask:
    """Key k is visible from position q where k <= q or k < p."""
    return Mask("prefix", p)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """One attention core. T `queries` and S `keys` of a sequence; `heads` is a multiple of `kv_heads`."""

    batch: int
    queries: int
    keys: int
    heads: int
    kv_heads: int
    head_dim: int
    value_dim: int
    element_bytes: int = 2
    mask: Mask = FULL

    def __post_init__(self) -> None:
        sizes = (self.batch, self.queries, self.keys, self.heads, self.kv_heads, self.head_dim, self.value_dim)
        if min(*sizes, self.element_bytes) < 1 or self.heads % self.kv_heads:
            raise ValueError(f"sizes must be positive and kv_heads must divide heads: {self}")

    @property
    def group(self) -> int:
        """g: query heads that share a KV head."""
        return self.heads // self.kv_heads

    @property
    def seeing_rows(self) -> int:
        """Ts: rows that see a key. Where there are fewer keys than rows the first rows stand before all of them."""
        after = self.mask.after
        if after is None or (self.mask.kind == "prefix" and self.mask.extent):
            return self.queries
        return min(self.queries, self.keys + after)

    @property
    def seen_keys(self) -> int:
        """Ss: keys that a row sees; a window may hide the first ones from all."""
        before = self.mask.before
        return self.keys if before is None else min(self.keys, self.queries + before)

    @property
    def compulsory_forward(self) -> int:
        """Bytes of each tensor once: Q, K, V in, O and the fp32 log-sum-exp out."""
        e, queries = self.element_bytes, self.batch * self.heads
        read = queries * self.seeing_rows * self.head_dim + self._kv(self.seen_keys)
        return e * (read + queries * self.queries * self.value_dim) + 4 * queries * self.queries

    @property
    def compulsory_backward(self) -> int:
        """Bytes of each tensor once: Q, K, V, O, dO and the log-sum-exp in, dQ, dK and dV out."""
        e, queries, rows = self.element_bytes, self.batch * self.heads, self.seeing_rows
        read = queries * rows * (self.head_dim + 2 * self.value_dim) + self._kv(self.seen_keys)
        written = queries * self.queries * self.head_dim + self._kv(self.keys)
        return e * (read + written) + 4 * queries * rows

    def _kv(self, keys: int) -> int:
        return self.batch * self.kv_heads * keys * (self.head_dim + self.value_dim)
