"""What a tiled attention kernel moves and multiplies, level by level (reference-tiles.md, section 2)."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Launch:
    """One kernel of several: bytes that its CTAs load and store through the cache."""

    name: str
    loads: int
    stores: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TileTraffic:
    """All CTAs of a core together. Bytes, but for `executed_flops` (whole tiles) and `visited_tiles`.

    `smem_writes`, `smem_reads` and `footprint_bytes` are None where the kernel's layout is not predicted.
    """

    kernel: str
    launches: tuple[Launch, ...]
    visited_tiles: int
    executed_flops: int
    compulsory_bytes: int
    smem_writes: int | None = None
    smem_reads: int | None = None
    footprint_bytes: int | None = None

    @property
    def global_loads(self) -> int:
        """Bytes loaded through the cache."""
        return sum(launch.loads for launch in self.launches)

    @property
    def global_stores(self) -> int:
        """Bytes stored through the cache."""
        return sum(launch.stores for launch in self.launches)

    @property
    def l2_to_sm(self) -> int:
        """Bytes between the cache and the SMs, both ways."""
        return self.global_loads + self.global_stores

    def plus(self, other: TileTraffic) -> TileTraffic:
        """That of both kernels, one after the other."""
        return replace(
            self,
            launches=self.launches + other.launches,
            visited_tiles=self.visited_tiles + other.visited_tiles,
            executed_flops=self.executed_flops + other.executed_flops,
            compulsory_bytes=self.compulsory_bytes + other.compulsory_bytes,
            smem_writes=_sum(self.smem_writes, other.smem_writes),
            smem_reads=_sum(self.smem_reads, other.smem_reads),
            footprint_bytes=max(self.footprint_bytes or 0, other.footprint_bytes or 0) or None,
        )


def _sum(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other
