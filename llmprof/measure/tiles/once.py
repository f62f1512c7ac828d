"""What a kernel cannot do without: each tensor once, of what it reads only what the mask lets it see (section 9)."""

from __future__ import annotations

import torch

from llmprof.measure.tiles.memory import FLOAT32_BYTES
from llmprof.measure.tiles.problem import Problem


def forward_bytes(p: Problem) -> int:
    """Rows of queries that see a key, keys and values that a row sees, and all outputs."""
    rows, keys = _seen(p)
    read = rows * p.heads * p.head_dim + keys * p.kv_heads * (p.head_dim + p.value_dim)
    written = p.queries * p.heads * p.value_dim
    return p.batch * ((read + written) * p.element_bytes + p.queries * p.heads * FLOAT32_BYTES)


def backward_bytes(p: Problem) -> int:
    """What the forward pass read, its outputs with their gradient, and all gradients."""
    rows, keys = _seen(p)
    read = rows * p.heads * (p.head_dim + 2 * p.value_dim) + keys * p.kv_heads * (p.head_dim + p.value_dim)
    written = p.queries * p.heads * p.head_dim + p.keys * p.kv_heads * (p.head_dim + p.value_dim)
    return p.batch * ((read + written) * p.element_bytes + rows * p.heads * FLOAT32_BYTES)


def _seen(p: Problem) -> tuple[int, int]:
    """Rows that see some key, and keys that some row sees, found entry by entry."""
    visible = p.mask.visible(p.queries, p.keys)
    return int(torch.count_nonzero(visible.any(dim=1))), int(torch.count_nonzero(visible.any(dim=0)))
