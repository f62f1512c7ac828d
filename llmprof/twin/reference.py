"""By which ops a core is known again: every kind of attention says it of its own cores.

A measurement tells what ran by the ops that it saw, never by what was planned; `llmprof/measure/kernel_names.py` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reference:
    """A kernel or reference of the pages on execution, and aten ops that it launches, each at least so often.

    Those are ops of the core; ``absorb.bmm`` is one of the leaf `absorb` of the same attention, and ``bmm mul`` a `mul`
    that comes directly after a `bmm`.
    """

    name: str
    ops: Mapping[str, int]


FUSED: tuple[Reference, ...] = (
    Reference("flash", {"_scaled_dot_product_flash_attention": 1}),
    Reference("efficient", {"_scaled_dot_product_efficient_attention": 1}),
    Reference("cpu", {"_scaled_dot_product_flash_attention_for_cpu": 1}),
)
"""The fused kernels of a softmax core."""

SOFTMAX: tuple[Reference, ...] = (Reference("lean-eager", {"_softmax": 1}), *FUSED)
"""A softmax core, in any way that it can run without a named reference."""

NAMED: tuple[Reference, ...] = (
    Reference("sdpa-math", {"isneginf": 1, "_softmax": 1}),
    Reference("hf-eager", {"bmm mul": 1, "_softmax": 1}),
)
"""The unfused references of docs/reference-unfused.md, which plain attention alone can run."""
