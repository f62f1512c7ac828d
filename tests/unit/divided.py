"""A small model that is divided over devices, for the tests of that."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from llmprof.claims.papers.shapes import gpt
from llmprof.workload import Workload

SMALL = gpt("small", "megatron-recompute", layers=3, d_model=64, heads=8, vocab_size=1000, tokens=32)
ROWS = {"b": 2, "t": 32, "d": 64}
"""The axes of its rows."""


def trained(tokens: int, **more: object) -> Workload:
    """A training pass over two sequences of so many tokens."""
    return replace(
        Workload(phase="train", batch=2, new_tokens=tokens, context=tokens, objective="causal-lm", loss_tokens=tokens),
        **more,  # type: ignore[arg-type]
    )


def prefill(tokens: int = 12, *, batch: int = 2, **more: Any) -> Workload:
    """A fresh prompt of so many tokens."""
    return Workload(phase="prefill", batch=batch, new_tokens=tokens, context=tokens, **more)


def decode(context: int, *, batch: int = 2, **more: Any) -> Workload:
    """One token behind `context` - 1 others."""
    return Workload(phase="decode", batch=batch, new_tokens=1, context=context, **more)
