"""Queries, keys and values that are cut behind their projections (docs/reference-options.md, section 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from llmprof.twin.in_place import clipped
from llmprof.twin.leaf import Leaf


class QkvClip(Leaf):
    """Each of its operands cut at -limit and limit, in its place where no gradient is taken."""

    if TYPE_CHECKING:

        def __call__(self, *args: Any) -> tuple[Tensor, Tensor, Tensor]: ...

    def __init__(self, limit: float) -> None:
        super().__init__()
        self.limit = limit

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return clipped(q, self.limit), clipped(k, self.limit), clipped(v, self.limit)
