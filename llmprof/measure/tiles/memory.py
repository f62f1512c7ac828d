"""Counted memories: what moves through one of them is counted in bytes of the simulated dtype, and kept in float64.

A walk without values moves nothing but sizes: every value is None there, and the counts are the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Load = Callable[[int, int], Tensor | None]
"""Loads the rows of a tensor that exist between two of them."""

FLOAT32_BYTES = 4
"""Statistics, accumulators and partial results of a split are fp32."""


class Global:
    """Memory as a CTA sees it, through the cache: bytes loaded and stored."""

    __slots__ = ("loads", "stores")

    def __init__(self) -> None:
        self.loads = 0
        self.stores = 0


class Array:
    """A tensor in global memory; its last two axes are rows and values of a row.

    `values` is the data in float64, or None in a walk that only counts.
    """

    __slots__ = ("_memory", "_row_bytes", "rows", "shape", "values")

    def __init__(
        self, memory: Global, shape: tuple[int, ...], element_bytes: int, values: Tensor | None = None
    ) -> None:
        if values is not None and tuple(values.shape) != shape:
            raise ValueError(f"values of shape {tuple(values.shape)} in an array of shape {shape}")
        self._memory = memory
        self.shape = shape
        self.rows = shape[-2]
        self._row_bytes = shape[-1] * element_bytes
        self.values = values

    def load(self, at: tuple[int, ...], start: int, stop: int) -> Tensor | None:
        """The rows `start` to `stop` that exist, of the matrix at `at`: loads are predicated."""
        stop = min(stop, self.rows)
        self._memory.loads += (stop - start) * self._row_bytes
        return None if self.values is None else self.values[at][start:stop]

    def loader(self, at: tuple[int, ...]) -> Load:
        """Loads rows of the matrix at `at`."""
        return lambda start, stop: self.load(at, start, stop)

    def store(self, at: tuple[int, ...], start: int, stop: int, values: Tensor | None) -> None:
        """Overwrite the rows `start` to `stop` that exist with the first rows of `values`: stores are predicated."""
        stop = min(stop, self.rows)
        self._memory.stores += (stop - start) * self._row_bytes
        if self.values is not None and values is not None:
            self.values[at][start:stop] = values[: stop - start, : self.shape[-1]]

    def add(self, at: tuple[int, ...], start: int, stop: int, values: Tensor | None) -> None:
        """Add `values` to the rows `start` to `stop` by atomics: each value is loaded and stored."""
        moved = (stop - start) * self._row_bytes
        self._memory.loads += moved
        self._memory.stores += moved
        if self.values is not None and values is not None:
            self.values[at][start:stop] += values


class Shared:
    """The shared memory of one CTA after another: bytes written and read, and the most that one of them held."""

    __slots__ = ("element_bytes", "footprint", "held", "reads", "writes")

    def __init__(self, element_bytes: int) -> None:
        self.element_bytes = element_bytes
        self.writes = 0
        self.reads = 0
        self.held = 0
        self.footprint = 0

    def buffer(self, rows: int, width: int, element_bytes: int | None = None) -> Buffer:
        """Room for one tile, held until it is released; its elements are those of the dtype unless said otherwise."""
        buffer = Buffer(self, rows, width, element_bytes or self.element_bytes)
        self.held += buffer.size
        self.footprint = max(self.footprint, self.held)
        return buffer

    def release(self, *buffers: Buffer) -> None:
        """Something else may lie where these tiles were."""
        self.held -= sum(buffer.size for buffer in buffers)


class Buffer:
    """Room for one tile in shared memory. Tiles are written and read whole, whatever of them exists."""

    __slots__ = ("_memory", "_values", "rows", "size", "width")

    def __init__(self, memory: Shared, rows: int, width: int, element_bytes: int) -> None:
        self._memory = memory
        self.rows = rows
        self.width = width
        self.size = rows * width * element_bytes
        self._values: Tensor | None = None

    def write(self, values: Tensor | None) -> None:
        """A tile arrives: what does not exist of it arrives as zeros."""
        self._memory.writes += self.size
        self._values = None if values is None else padded(values, self.rows, self.width)

    def read(self, readers: int = 1) -> Tensor | None:
        """The tile, read by `readers` warps or warpgroups, by each of them whole."""
        self._memory.reads += readers * self.size
        return self._values


class Cores:
    """The tensor cores: FLOPs of whole tiles."""

    __slots__ = ("flops",)

    def __init__(self) -> None:
        self.flops = 0

    def product(self, rows: int, inner: int, columns: int, left: Tensor | None, right: Tensor | None) -> Tensor | None:
        """`left` [rows, inner] times `right` [inner, columns]: 2 FLOPs per multiply-accumulate."""
        self.flops += 2 * rows * inner * columns
        if left is None or right is None:
            return None
        if left.shape != (rows, inner) or right.shape != (inner, columns):
            raise RuntimeError(f"{tuple(left.shape)} times {tuple(right.shape)} is not {rows} x {inner} x {columns}")
        return left @ right


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What one kernel, or several, moved and executed; bytes and FLOPs."""

    global_loads: int = 0
    global_stores: int = 0
    smem_writes: int = 0
    smem_reads: int = 0
    executed_flops: int = 0
    visited_tiles: int = 0
    footprint_bytes: int = 0

    def __add__(self, other: Counts) -> Counts:
        """One kernel after the other: a footprint is the larger of the two."""
        return Counts(
            global_loads=self.global_loads + other.global_loads,
            global_stores=self.global_stores + other.global_stores,
            smem_writes=self.smem_writes + other.smem_writes,
            smem_reads=self.smem_reads + other.smem_reads,
            executed_flops=self.executed_flops + other.executed_flops,
            visited_tiles=self.visited_tiles + other.visited_tiles,
            footprint_bytes=max(self.footprint_bytes, other.footprint_bytes),
        )


class Machine:
    """The memories and tensor cores that one kernel runs on."""

    __slots__ = ("cores", "memory", "shared", "visited_tiles")

    def __init__(self, element_bytes: int) -> None:
        self.memory = Global()
        self.shared = Shared(element_bytes)
        self.cores = Cores()
        self.visited_tiles = 0

    def counts(self) -> Counts:
        """Everything that was counted here."""
        return Counts(
            global_loads=self.memory.loads,
            global_stores=self.memory.stores,
            smem_writes=self.shared.writes,
            smem_reads=self.shared.reads,
            executed_flops=self.cores.flops,
            visited_tiles=self.visited_tiles,
            footprint_bytes=self.shared.footprint,
        )


def padded(values: Tensor, rows: int, width: int) -> Tensor:
    """`values` with zeros below and to the right."""
    if values.shape == (rows, width):
        return values
    whole = torch.zeros(rows, width, dtype=values.dtype)
    whole[: values.shape[0], : values.shape[1]] = values
    return whole
