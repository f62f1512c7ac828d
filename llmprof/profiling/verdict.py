"""The verdict of a result: confirmed needs every row that was asked for, not only that no row objects.

A pass that left no rows, a module that one half or both forgot, a cache that nobody saw: none of these differs from
anything, so they are looked for by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from llmprof import confirm
from llmprof.ledger import Row, Verdict

Outcome = Literal["confirmed", "failed", "unconfirmed", "not-applicable"]

Passes = Iterable[tuple[str, str]]
"""(phase, attention) of every pass that was asked for."""

Key = tuple[str, str, str, str]
"""(path, quantity, phase, attention)."""

KEPT = ("kv_cache_bytes", "recurrent_state_bytes")
"""What a tensor that outlives a pass counts as, the one or the other."""

TRAINING = (("lm_head", "logits_bytes"), ("loss", "loss_tokens"))
"""(path, quantity) that every training pass has beside what is confirmed of each module, whatever its attention."""


OF_PARAMETERS = ("gradient_bytes", "optimizer_bytes")
"""What every leaf module has in a training pass, zeros included."""

OF_THE_OPTIMIZER = ("optimizer_peak_bytes", "hbm_bytes_optimizer")
"""What the whole model has in a training pass, whatever its attention."""

WALKED = ("hbm_bytes_backward", "peak_live_bytes")
"""What the whole model has in a training pass, the one with the other, where there is a rule for its backward."""


def outcome(rows: Sequence[Row], passes: Passes, *, cached: bool) -> Outcome:
    """``failed`` on any DIFFERS; ``confirmed`` if every row agrees and none is missing; else ``unconfirmed``."""
    found = confirm.outcome(rows)
    if found == "confirmed" and gaps(rows, passes, cached=cached):
        return "unconfirmed"
    return found


def gaps(rows: Sequence[Row], passes: Passes, *, cached: bool) -> list[str]:
    """What a confirmation needs and `rows` does not have, in words.

    Needed are an AGREES row for the parameters, dense and causal FLOPs and op-level bytes of every leaf module in every
    pass, for the bytes of every cache and state in every phase, and in a training pass for what `TRAINING`,
    `OF_PARAMETERS`, `OF_THE_OPTIMIZER` and `WALKED` name; `cached` says whether there are caches
    at all.
    """
    own = [row for row in rows if not row.witness.startswith("referee:")]
    tensors = {row.path: row.quantity for row in own if row.quantity in KEPT}
    # A layer that runs again in backward saves its inputs at a path of its own, and is no leaf.
    of_leaves = dict.fromkeys(row.path for row in own if row.quantity != "saved_bytes")
    leaves = [path for path in of_leaves if path and path not in tensors]
    agreed = {(row.path, row.quantity, row.phase, row.attention) for row in own if row.verdict is Verdict.AGREES}
    asked = list(passes)
    needed: dict[Key, None] = {(path, "params", "", ""): None for path in leaves}
    for phase, attention in asked:
        needed.update({(path, "matmul_flops", phase, attention): None for path in leaves})
        needed.update({(path, "matmul_flops_causal", phase, attention): None for path in leaves})
        needed.update({(path, "hbm_bytes", phase, attention): None for path in leaves})
        needed.update({(path, quantity, phase, ""): None for path, quantity in tensors.items()})
        if phase == "train":
            needed.update({(path, quantity, phase, ""): None for path, quantity in TRAINING})
            needed["", "matmul_flops_backward", phase, attention] = None
            needed.update({(path, quantity, phase, ""): None for path in leaves for quantity in OF_PARAMETERS})
            needed.update({("", quantity, phase, ""): None for quantity in OF_THE_OPTIMIZER})
            if any(row.quantity in WALKED and row.phase == phase and row.attention == attention for row in own):
                needed.update({("", quantity, phase, attention): None for quantity in WALKED})
    missing = [" ".join(filter(None, key)) for key in needed if key not in agreed]
    if not leaves:
        missing.append("every module")
    if cached and not tensors:
        missing.append("every cache tensor")
    return missing
