"""How many values a head has, where the class has a number of its own for it."""

from __future__ import annotations

from llmprof.importing.config import Config, Read
from llmprof.importing.parts import per_head


def stated_head_dim(c: Config, hidden: Read[int], heads: Read[int], default: int) -> Read[int]:
    """``head_dim``: absent is the class's `default`, null is hidden / heads."""
    found = c.optional_size("head_dim", default=default)
    if found.value is None:
        return per_head(hidden, heads, c)
    return Read(found.value, found.keys, found.note)
