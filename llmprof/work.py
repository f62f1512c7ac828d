"""What one kernel has to do, in the numbers that decide its time. Both halves say it, each from its own ops."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Family = Literal["matmul", "batched", "core", "memory"]
"""One product of matrices; many small ones; an attention core in one kernel; everything else, which moves memory."""

_FAMILIES: dict[str, Family] = {
    "mm": "matmul",
    "addmm": "matmul",
    "convolution": "matmul",
    "bmm": "batched",
    "baddbmm": "batched",
    "baddbmm_": "batched",
    "linalg_solve_triangular": "batched",
    "flash": "core",
    "efficient": "core",
    "cpu": "core",
    "none": "core",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One kernel. `kind` is its name in docs/reference-execution.md.

    `flops` are those of its contractions, an attention core's under its mask, on a CPU those of the whole blocks of
    queries that it runs; `bytes` are op-level; `products` is how many independent matrix products it has: 1 but for
    batched products and cores, which have one per sequence and head. `reread` are bytes that it reads again: a core on
    a CPU goes through keys and values once for every head of queries, also where several share them.
    """

    kind: str
    flops: int
    bytes: int
    products: int = 1
    reread: int = 0

    @property
    def family(self) -> Family:
        """What kind of work it is."""
        return _FAMILIES.get(self.kind, "memory")
