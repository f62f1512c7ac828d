"""Which steps of an answer stand for all of them."""

from __future__ import annotations

from collections.abc import Iterator

from llmprof.spec.arch import ArchSpec


def chunks(arch: ArchSpec) -> set[int]:
    """Sizes of the chunks within which layers of the decoder attend."""
    found = (getattr(layer.attention, "chunk", None) for layer in arch.main.layers)
    return {size for size in found if size is not None}


def sampled(first: int, last: int, sizes: set[int]) -> dict[int, float]:
    """Contexts whose steps stand for all from `first` to `last`, and the share of each: their mean is that of all.

    That is exact where cost grows evenly with the context, and too little where a window stops the growth on the way:
    of a concave function the chord lies below. Attention within chunks starts anew in each, and grows evenly within
    one; so the parts of the answer that lie in the first chunk, in the last and in those between are taken apart. Of
    chunks of several sizes only that is known that no step asks for less than one at the very beginning.
    """
    if len(sizes) > 1:
        return {1: 1.0}
    found: dict[int, float] = {}
    for start, end, steps in _pieces(first, last, *sizes):
        for context in (start, end):
            found[context] = found.get(context, 0.0) + steps / (2 * (last - first + 1))
    return found


def _pieces(first: int, last: int, chunk: int | None = None) -> Iterator[tuple[int, int, float]]:
    """First and last context of pieces within one chunk each, and how many steps each stands for.

    Of the chunks that are filled, the means grow evenly, so that the first and the last of them stand for all.
    """
    if chunk is None or (first - 1) // chunk == (last - 1) // chunk:
        yield first, last, last - first + 1
        return
    opening, closing = -(-(first - 1) // chunk) * chunk, (last - 1) // chunk * chunk
    if first <= opening:
        yield first, opening, opening - first + 1
    if opening < closing:
        filled = (closing - opening) / 2
        yield opening + 1, opening + chunk, filled
        yield closing - chunk + 1, closing, filled
    yield closing + 1, last, last - closing
