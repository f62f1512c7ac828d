"""Running something again in backward instead of keeping what it saves (docs/reference-training.md, section 8)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils.checkpoint import checkpoint, set_checkpoint_early_stop


def computed_again(function: Callable[..., Tensor], *inputs: Any, draws: bool) -> Tensor:
    """`function` of `inputs`, which backward runs again as a whole, from its inputs alone.

    `draws`: whether it draws random numbers, the same ones then.
    """
    # Stopping as soon as the last saved tensor is there would leave out the last kernels of what is said to run again.
    with set_checkpoint_early_stop(False):
        out: Tensor = checkpoint(function, *inputs, use_reentrant=False, preserve_rng_state=draws)
    return out
