"""What a leaf of a model takes inside a pass, beside what its kernels take by themselves.

Timed one after the other, a kernel finds its operands near, memory at hand that the last launch gave back, and its code
warm. In a pass other kernels have just run. Beside kernels there are the host's own steps: calling a module, making
views, finding a kernel; most of them where attention splits heads, turns them and keeps them. So leaves are of a few
kinds, and each kind takes ``module_s + kernel_s * kernels + factor * (what they take alone)``, out of passes of small
models (docs/latency.md, "Calibrating this machine").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from llmprof.work import Work

LeafKind = Literal["product", "mover", "fused core", "unfused core", "rope", "cache", "embed"]
"""What a leaf is to the host: one with a product of matrices, with an attention core in one kernel or in many, one of
three that are mostly views, or any other, which only moves memory."""

_NAMED: dict[str, LeafKind] = {"rope": "rope", "cache": "cache", "embed": "embed"}


def leaf_kind(path: str, works: Sequence[Work]) -> LeafKind:
    """The kind of the leaf at `path` whose kernels do `works`."""
    families = {work.family for work in works}
    if "core" in families:
        return "fused core"
    if "batched" in families:
        return "unfused core"
    named = _NAMED.get(path.rpartition(".")[2])
    return named or ("product" if "matmul" in families else "mover")


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """Of one kind of leaf: seconds for each, seconds for each of its kernels, and how much slower these are."""

    module_s: float = 0.0
    kernel_s: float = 0.0
    factor: float = 1.0

    def seconds(self, kernels: int, alone: float) -> float:
        """What a leaf with so many kernels takes, which take `alone` seconds by themselves."""
        return self.module_s + kernels * self.kernel_s + self.factor * alone


@dataclass(frozen=True, slots=True, kw_only=True)
class InPass:
    """Of all kinds that were seen. `low` and `high` are the factors that 90% of passes of models lay between which
    nothing was fitted to; `passes` is how many there were, `error` the median of ``|predicted / measured - 1|``."""

    leaves: Mapping[LeafKind, Surroundings]
    low: float
    high: float
    passes: int
    error: float

    def of(self, kind: LeafKind) -> Surroundings:
        """Those of `kind`, or where no such leaf was seen those of what only moves memory; KeyError without these."""
        found = self.leaves.get(kind)
        return self.leaves["mover"] if found is None else found
