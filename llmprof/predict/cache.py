"""The KV cache: appended in place, read as a whole or as a ring (reference-execution.md, section 9; chunks:
reference-options.md, section 3).

Axis legend: see `tensor.py`. Preallocated and contiguous, [b, k, c, h] in the cache dtype; not part of
peak live bytes. C = s, or min(w, s) with a window, or min(c, s) with chunks, or m in cross-attention.
"""

from __future__ import annotations

from llmprof.predict.lowering import Kept
from llmprof.predict.masks import Sight, before_chunk
from llmprof.predict.setting import Side
from llmprof.predict.tape import Tape
from llmprof.predict.tensor import Axes, Home, Tensor, new


def keys_and_values(side: Side, n_kv_heads: int, rows: int, head_dim: int, value_dim: int | None = None) -> Kept:
    """Room for `rows` keys and values of every sequence; values are as wide as keys unless told otherwise."""
    return {
        "cache.k": allocate(side, "k", b=side.setting.b, k=n_kv_heads, c=rows, h=head_dim),
        "cache.v": allocate(side, "v", b=side.setting.b, k=n_kv_heads, c=rows, h=value_dim or head_dim),
    }


def allocate(side: Side, name: str, **axes: int) -> Tensor:
    """A tensor in the cache dtype that outlives the pass."""
    return new(name, axes, side.setting.cache, Home.KV_CACHE)


def append(
    tape: Tape,
    side: Side,
    sight: Sight,
    held: Kept,
    k: Tensor,
    v: Tensor,
    *,
    window: int | None = None,
    chunk: int | None = None,
) -> tuple[Tensor, Tensor]:
    """The leaf `cache` of self-attention: store the new rows of k and v [b, t, k, h], return what the core reads."""

    def one(cached: Tensor, x: Tensor) -> Tensor:
        if chunk is not None and side.context > chunk:
            return _append_chunked(tape, side, chunk, sight, cached, x)
        return _append_one(tape, side, window, sight, cached, x)

    with tape.module("cache", k, v):
        return one(held["cache.k"], k), one(held["cache.v"], v)


def store(tape: Tape, held: Kept, k: Tensor, v: Tensor) -> None:
    """The leaf `cache` of cross-attention in prefill: store the source's rows [b, m, k, h]."""
    with tape.module("cache", k, v):
        tape.copy(k, held["cache.k"])
        tape.copy(v, held["cache.v"])


def whole(held: Tensor) -> Tensor:
    """All rows of a cache, as the keys [b, k, s, h] of a core."""
    return held.renamed("c", "s")


def fresh(x: Tensor, row: str) -> Tensor:
    """k or v as projected, [b, t, k, h] in memory, seen as the keys [b, k, s, h] of a core."""
    return x.renamed(row, "s").ordered("b", "k", "s", "h")


def _append_one(tape: Tape, side: Side, window: int | None, sight: Sight, held: Tensor, x: Tensor) -> Tensor:
    t, s = side.tokens, side.context
    if window is None or s <= window or t == 1:
        # In a full ring the one new row takes the oldest slot: softmax does not mind the order.
        tape.copy(x, held.sliced("c", t, side.row))
        return whole(held)
    kept = min(t, window)
    if t == s:
        _store_last(tape, side, x, held, kept)
        return fresh(x, side.row)
    # The first new query still sees rows that the new ones will overwrite, so they are read out first.
    joined = _joined(tape, side, held, sight.keys - t, x, sight.keys)
    _store_last(tape, side, x, held, kept)
    return joined


def _append_chunked(tape: Tape, side: Side, chunk: int, sight: Sight, held: Tensor, x: Tensor) -> Tensor:
    """The same where the context has more than one chunk: of a chunk that is over, nothing is read again."""
    t, past = side.tokens, before_chunk(side.tokens, side.context, chunk)
    if sight.keys <= chunk:
        # All new tokens are of one chunk, whose rows lie at the beginning of the cache.
        tape.copy(x, held.sliced("c", t, side.row))
        begun = {**whole(held).axes, "s": sight.keys}
        return Tensor(held.name, begun, held.format, held.storage, tuple(begun), of=held)
    kept = (side.context - 1) % chunk + 1
    if past == 0:
        _store_last(tape, side, x, held, kept)
        return fresh(x, side.row)
    joined = _joined(tape, side, held, past, x, sight.keys)
    _store_last(tape, side, x, held, kept)
    return joined


def _joined(tape: Tape, side: Side, held: Tensor, rows: int, x: Tensor, keys: int) -> Tensor:
    """`rows` past rows read out of a cache, and the new ones behind them."""
    past = [held.sliced("c", size, name) for name, size in _parts(side.context - keys, rows, held, "past").items()]
    if not held.format.packed:
        past = [tape.cast(part) for part in past]
    return tape.run("cat", *past, x, axes={**whole(held).axes, "s": keys})


def _store_last(tape: Tape, side: Side, x: Tensor, held: Tensor, rows: int) -> None:
    """`copy_` of the last `rows` new rows."""
    for name, size in _parts(side.context - rows, rows, held, "kept").items():
        tape.copy(x.sliced(side.row, size, name), held.sliced("c", size, name))


def _parts(first: int, rows: int, held: Tensor, name: str) -> Axes:
    """How the slots of `rows` positions from `first` on lie in a ring: in two parts where they wrap around."""
    slots = held.axes["c"]
    before = min(rows, slots - first % slots)
    return {name: before} if before == rows else {name: before, f"{name}_wrapped": rows - before}
