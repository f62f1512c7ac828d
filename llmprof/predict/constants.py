"""Constants prepared before the pass (reference-execution.md, section 4).

Each is made when a kernel first takes it, so only those that some kernel takes exist. They live from
before the pass until after it. Axis legend: see `tensor.py`.
"""

from __future__ import annotations

from math import prod

from llmprof.predict.formats import FP32, INT64, Format
from llmprof.predict.masks import Sight
from llmprof.predict.setting import Side
from llmprof.predict.tensor import Axes, Home, Tensor, new
from llmprof.spec.arch import Moe, Rope, Sparse


def padded(axes: Axes) -> dict[str, int]:
    """The axes of the storage behind a [.., s] tensor whose rows are rounded up to 8 elements (s8)."""
    *outer, (name, keys) = axes.items()
    return {**dict(outer), f"{name}8": 8 * -(-keys // 8)}


def columns(storage: Tensor, keys: int) -> Tensor:
    """The view of the first `keys` columns of such a storage."""
    *outer, _ = storage.axes.items()
    return Tensor(storage.name, {**dict(outer), "s": keys}, storage.format, storage.storage, None, of=storage)


def token_ids(side: Side) -> Tensor:
    """int64 [B, T], or the source's [B, M]."""
    return side.setting.constant((side.stack.prefix, "token ids"), side.rows, INT64)


def next_ids(side: Side, index: int) -> Tensor:
    """int64 [B, T]: what the layer of that index, of those that predict further tokens, is told of the tokens."""
    return side.setting.constant((side.stack.prefix, index, "next ids"), side.rows, INT64)


def features(side: Side, channels: int) -> Tensor:
    """[B, bands, frames], in the activation dtype: sound, two frames for a position."""
    axes = {"b": side.setting.b, "bands": channels, "frames": 2 * side.tokens}
    return side.setting.constant((side.stack.prefix, "features"), axes, side.setting.activations)


def segment_ids(side: Side) -> Tensor:
    """int64 [B, T]."""
    return side.setting.constant((side.stack.prefix, "segment ids"), side.rows, INT64)


def position_ids(side: Side) -> Tensor:
    """int64 [T]."""
    return side.setting.constant((side.stack.prefix, "position ids"), {side.row: side.tokens}, INT64)


def sinusoid(side: Side) -> Tensor:
    """[T, D], in the activation dtype."""
    axes = {side.row: side.tokens, "d": side.setting.arch.d_model}
    return side.setting.constant((side.stack.prefix, "sinusoid"), axes, side.setting.activations)


def rope_tables(side: Side, rope: Rope, rotary_dim: int) -> tuple[Tensor, Tensor]:
    """cos and sin, [T, r] each, one pair per distinct (theta, r, axes) of a stack."""
    axes = {side.row: side.tokens, "r": rotary_dim}
    key = (side.stack.prefix, rope.theta, rotary_dim, rope.axes)
    fmt = side.setting.activations
    return side.setting.constant((*key, "cos"), axes, fmt), side.setting.constant((*key, "sin"), axes, fmt)


def mask(side: Side, sight: Sight) -> Tensor:
    """[T, S] of 0 and -inf, rows of S8; layers share it if kind, S and, where it is dense, window or chunk agree."""
    key = (side.stack.prefix, sight.kind, sight.keys, sight.window, sight.chunk, "mask")
    storage = side.setting.constant(key, padded({side.row: sight.queries, "s": sight.keys}), side.setting.activations)
    return columns(storage, sight.keys)


def alibi(side: Side, n_heads: int, sight: Sight) -> Tensor:
    """[H, T, S], rows of S8, the mask (if there is one) added in; one per distinct (H, mask)."""
    key = (side.stack.prefix, n_heads, sight.kind, sight.window, sight.chunk, sight.keys, "alibi")
    axes = padded({"n": n_heads, side.row: sight.queries, "s": sight.keys})
    return columns(side.setting.constant(key, axes, side.setting.activations), sight.keys)


def buckets(side: Side, sight: Sight) -> Tensor:
    """int64 [T, S]: the row of the T5 table for every (query, key) pair."""
    return side.setting.constant((side.stack.prefix, "buckets"), {side.row: sight.queries, "s": sight.keys}, INT64)


def distances(side: Side, sight: Sight) -> Tensor:
    """[T, S], rows of S8: the squared distance of every (query, key) pair, in the activation dtype; one per stack."""
    axes = padded({side.row: sight.queries, "s": sight.keys})
    storage = side.setting.constant((side.stack.prefix, "distances"), axes, side.setting.activations)
    return columns(storage, sight.keys)


# --- sparse attention: one each per distinct (block, pattern) of a stack --------------------------


def pattern_mask(side: Side, spec: Sparse) -> Tensor:
    """[T, S] of 0 and -inf, rows of S8: what the pattern hides."""
    axes = padded({side.row: side.tokens, "s": side.context})
    return columns(_of_pattern(side, spec, "pattern mask", axes, side.setting.activations), side.context)


def pair_rows(side: Side, spec: Sparse, pairs: int, rows: int) -> Tensor:
    """int64 [P βq]: the new tokens of each pair's query block."""
    return _of_pattern(side, spec, "rows", {"pairs": pairs, "bq": rows}, INT64)


def pair_columns(side: Side, spec: Sparse, pairs: int) -> Tensor:
    """int64 [P β]: the keys of each pair's key block."""
    return _of_pattern(side, spec, "columns", {"pairs": pairs, "bk": spec.block}, INT64)


def pair_blocks(side: Side, spec: Sparse, pairs: int) -> Tensor:
    """int64 [P]: which query block each pair is of."""
    return _of_pattern(side, spec, "blocks", {"pairs": pairs}, INT64)


def pair_mask(side: Side, spec: Sparse, pairs: int, rows: int) -> Tensor:
    """[P, βq, β] of 0 and -inf, contiguous."""
    axes = {"pairs": pairs, "bq": rows, "bk": spec.block}
    return _of_pattern(side, spec, "pair mask", axes, side.setting.activations)


def _of_pattern(side: Side, spec: Sparse, name: str, axes: Axes, fmt: Format) -> Tensor:
    return side.setting.constant((side.stack.prefix, spec.block, spec.pattern, name), axes, fmt)


# --- compressed attention -------------------------------------------------------------------------


def compressed_mask(side: Side, factor: int, sight: Sight) -> Tensor:
    """[T, C] of 0 and -inf, rows of C rounded up to 8; one per distinct factor of a stack."""
    key = (side.stack.prefix, factor, "compressed mask")
    storage = side.setting.constant(key, padded({side.row: sight.queries, "s": sight.keys}), side.setting.activations)
    return columns(storage, sight.keys)


# --- experts: one each per distinct (E, k) of the model and number of tokens -----------------------


def chosen(side: Side, spec: Moe) -> Tensor:
    """int64 [N, k]: which experts each token goes to."""
    return _of_table(side, spec, "chosen", {"tokens": prod(side.rows.values()), "top_k": spec.top_k})


def order(side: Side, spec: Moe, routed: int) -> Tensor:
    """int64 [N k]: the tokens in the order of experts."""
    return _of_table(side, spec, "order", {"routed": routed})


def slots(side: Side, spec: Moe, routed: int) -> Tensor:
    """int64 [N k]: the entry of the flattened table that each row of `order` comes from."""
    return _of_table(side, spec, "slots", {"routed": routed})


def arrived(side: Side, spec: Moe, routed: int) -> Tensor:
    """int64 [G]: the rows that other ranks sent in the order of experts (reference-sharding.md, section 9)."""
    return _of_table(side, spec, "arrived", {"routed": routed})


def _of_table(side: Side, spec: Moe, name: str, axes: Axes) -> Tensor:
    return side.setting.constant((spec.n_experts, spec.top_k, *axes.values(), name), axes, INT64)


def correction_bias(spec: Moe) -> Tensor:
    """[E] in fp32: a buffer of one layer, stored like a weight."""
    return new("correction bias", {"experts": spec.n_experts}, FP32, Home.BUFFER)
