"""The windows of Qwen's dense classes: those of the layers from ``max_window_layers`` on, where they are used."""

from __future__ import annotations

from llmprof.importing.config import Config, Read
from llmprof.importing.dense import FULL, SLIDING, by_window, layer_kinds
from llmprof.importing.document import Doc


def windowed_above(c: Config, count: Read[int], common: Doc, *, above: int = 28) -> Doc:
    """A stack of `common` layers; ``sliding_window`` holds in the layers of its kind, if it is used at all.

    `above` is the class's ``max_window_layers``.
    """
    used = c.flag("use_sliding_window", default=False)
    first = c.size("max_window_layers", default=above, least=0)
    window = c.optional_size("sliding_window", default=4096) if used.value else Read(None, used.keys)
    c.ignore("sliding_window")
    slides = window.value is not None
    kinds = layer_kinds(
        c,
        count,
        default=[SLIDING if slides and i >= first.value else FULL for i in range(count.value)],
        why=f"not stated: the layers from max_window_layers = {first.value} on have the window, as the family has it",
    )
    if SLIDING in kinds.value and not used.value:
        c.stop("use_sliding_window", f"true, for the layers of {SLIDING}")
    return by_window(c, count, kinds, window, common)
