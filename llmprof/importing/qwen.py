"""The windows of Qwen's dense classes: those of the layers from ``max_window_layers`` on, where they are used."""

from __future__ import annotations

from llmprof.importing.config import Config, Read
from llmprof.importing.dense import FULL, SLIDING, by_window, layer_kinds
from llmprof.importing.document import Doc


def used_window(c: Config, used: Read[bool], *, default: int | None) -> Read[int] | Read[None]:
    """``sliding_window``, or none where it is not `used`; if it is there it must be a window all the same."""
    window = c.optional_size("sliding_window", default=default) if used.value or c.has("sliding_window") else None
    return window if used.value and window is not None else Read(None, used.keys)


def windowed_above(c: Config, count: Read[int], common: Doc, *, above: int = 28) -> Doc:
    """A stack of `common` layers; ``sliding_window`` holds in the layers of its kind, if it is used at all.

    `above` is the class's ``max_window_layers``.
    """
    used = c.flag("use_sliding_window", default=False)
    window = used_window(c, used, default=4096)
    slides = window.value is not None
    first = count.value
    if c.has("max_window_layers") or (slides and not c.has("layer_types")):
        first = c.size("max_window_layers", default=above, least=0).value
    kinds = layer_kinds(
        c,
        count,
        default=[SLIDING if slides and i >= first else FULL for i in range(count.value)],
        why=f"not stated: the layers from max_window_layers = {first} on have the window, as the family has it",
    )
    if SLIDING in kinds.value and not used.value:
        c.stop("use_sliding_window", f"true, for the layers of {SLIDING}")
    return by_window(c, count, kinds, window, common)
