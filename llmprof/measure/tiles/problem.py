"""What is simulated: the sizes of one attention, its mask, a tile, and the values where there are any."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

MaskKind = Literal["full", "causal", "window", "both ways", "prefix"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mask:
    """Which entries of the scores are visible; `size` is the window, or the tokens of the prefix."""

    kind: MaskKind = "full"
    size: int = 0

    def hides_by_window(self, keys: int) -> bool:
        """Whether a window reaches the kernel as one: it is shorter than the keys (section 3 of the page)."""
        match self.kind:
            case "window":
                return self.size <= keys
            case "both ways":
                return self.size // 2 < keys
            case _:
                return False

    def visible(self, queries: int, keys: int) -> Tensor:
        """[queries, keys], true where the query sees the key: the last query stands at the last key."""
        position = (torch.arange(queries) + keys - queries).unsqueeze(1)
        key = torch.arange(keys).unsqueeze(0)
        match self.kind:
            case "full":
                return torch.ones(queries, keys, dtype=torch.bool)
            case "causal":
                return key <= position
            case "window":
                return (key <= position) & (key > position - self.size)
            case "both ways":
                return (position - key).abs() <= self.size // 2
            case "prefix":
                return (key <= position) | (key < self.size)


def visits(visible: Tensor, rows: int, keys: int) -> list[list[int]]:
    """The key tiles that each row tile visits: those of which some entry is visible, found by looking at each."""
    queries, columns = visible.shape
    down, across = ceil_div(queries, rows), ceil_div(columns, keys)
    whole = torch.zeros(down * rows, across * keys, dtype=torch.bool)
    whole[:queries, :columns] = visible
    seen = whole.view(down, rows, across, keys).any(dim=3).any(dim=1)
    return [[tile for tile, some in enumerate(row) if some] for row in seen.tolist()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """The sizes of one attention. `element_bytes` are those of queries, keys, values and outputs."""

    batch: int
    queries: int
    keys: int
    heads: int
    kv_heads: int
    head_dim: int
    value_dim: int
    element_bytes: int = 2
    mask: Mask = Mask()

    def __post_init__(self) -> None:
        """ValueError where heads do not divide, or something is empty."""
        sizes = (self.batch, self.queries, self.keys, self.heads, self.kv_heads, self.head_dim, self.value_dim)
        if min(sizes) < 1 or self.heads % self.kv_heads:
            raise ValueError(f"sizes are at least 1 and KV heads divide query heads, but got {self}")

    @property
    def group(self) -> int:
        """Query heads of a KV head."""
        return self.heads // self.kv_heads

    @property
    def scale(self) -> float:
        """What scores are multiplied by."""
        return float(self.head_dim**-0.5)


@dataclass(frozen=True, slots=True)
class Tile:
    """Rows and keys of a tile, and the warps of a CTA."""

    rows: int
    keys: int
    warps: int = 4


@dataclass(frozen=True, slots=True)
class Values:
    """The tensors of a problem in float64: [batch, heads, rows, dim], keys and values with KV heads.

    `gradient` is that of the outputs; a forward pass does not look at it.
    """

    queries: Tensor
    keys: Tensor
    values: Tensor
    gradient: Tensor

    @staticmethod
    def drawn(problem: Problem, seed: int = 0) -> Values:
        """Normal values, the same for the same seed."""
        draw = torch.Generator().manual_seed(seed)

        def normal(heads: int, rows: int, width: int) -> Tensor:
            return torch.randn(problem.batch, heads, rows, width, generator=draw, dtype=torch.float64)

        return Values(
            normal(problem.heads, problem.queries, problem.head_dim),
            normal(problem.kv_heads, problem.keys, problem.head_dim),
            normal(problem.kv_heads, problem.keys, problem.value_dim),
            normal(problem.heads, problem.queries, problem.value_dim),
        )


def ceil_div(count: int, size: int) -> int:
    """How many pieces of `size` hold `count`."""
    return -(-count // size)


def compiled_width(head_dim: int, value_dim: int, widths: tuple[int, ...]) -> int:
    """The narrowest of the compiled `widths` that holds a row of both; ValueError where none does."""
    needed = max(head_dim, value_dim)
    for width in widths:
        if width >= needed:
            return width
    raise ValueError(f"a row of {needed} values: kernels are compiled for {', '.join(map(str, widths))}")
