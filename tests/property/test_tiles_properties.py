"""What must hold of the tiled kernels' traffic at every size, without knowing any figure."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from llmprof.predict.masks import visible_pairs
from llmprof.predict.tiles import (
    CAUSAL,
    FULL,
    Shape,
    Tile,
    TileTraffic,
    both_ways,
    fa1_backward,
    fa1_forward,
    fa2_backward,
    fa2_forward,
    prefix,
    split_kv,
    window,
)

EXTENTS = st.integers(1, 3000)
MASKS = st.one_of(
    st.sampled_from([FULL, CAUSAL]),
    EXTENTS.map(window),
    EXTENTS.map(both_ways),
    EXTENTS.map(prefix),
)
SIDES = st.sampled_from([16, 32, 64, 80, 112, 128, 176, 192])


@st.composite
def shapes(draw: st.DrawFn) -> Shape:
    kv_heads, group = draw(st.sampled_from([(1, 1), (2, 1), (1, 4), (2, 3)]))
    return Shape(
        batch=draw(st.integers(1, 3)),
        queries=draw(st.integers(1, 3000)),
        keys=draw(st.integers(1, 3000)),
        heads=kv_heads * group,
        kv_heads=kv_heads,
        head_dim=draw(st.sampled_from([8, 64, 128])),
        value_dim=draw(st.sampled_from([8, 64, 128])),
        mask=draw(MASKS),
    )


@st.composite
def tiles(draw: st.DrawFn) -> Tile:
    return Tile(kernel="any", rows=draw(SIDES), keys=draw(SIDES), head_dim=128, value_dim=128, readers=4)


def every(shape: Shape, tile: Tile, splits: int, sram: int) -> list[TileTraffic]:
    return [
        fa1_forward(shape, sram),
        fa1_backward(shape, sram),
        fa2_forward(shape, tile),
        fa2_backward(shape, tile),
        split_kv(shape, tile, splits),
        split_kv(shape, tile, splits, 16),
    ]


@settings(max_examples=400)
@given(shape=shapes(), tile=tiles(), splits=st.integers(1, 40), sram=st.integers(1, 10**6))
def test_nothing_moves_less_than_what_is_compulsory(shape: Shape, tile: Tile, splits: int, sram: int) -> None:
    for traffic in every(shape, tile, splits, sram):
        assert traffic.compulsory_bytes <= traffic.l2_to_sm, traffic.kernel


@settings(max_examples=400)
@given(shape=shapes(), tile=tiles(), splits=st.integers(1, 40))
def test_whole_tiles_cover_what_is_visible(shape: Shape, tile: Tile, splits: int) -> None:
    """Executed FLOPs are at least those of the visible pairs, and at most those of the full square in whole tiles."""
    shape = replace(shape, head_dim=128, value_dim=128, mask=CAUSAL, keys=max(shape.keys, shape.queries))
    useful = 2 * shape.batch * shape.heads * visible_pairs(shape.queries, shape.keys) * 256
    causal, full = (fa2_forward(replace(shape, mask=mask), tile).executed_flops for mask in (CAUSAL, FULL))
    assert useful <= causal <= full
    assert 2 * fa2_backward(shape, tile).executed_flops == 5 * causal
    if shape.queries > 1 or shape.group == 1:  # one query of several heads shares its tile with them
        assert split_kv(shape, tile, splits).executed_flops == causal


@settings(max_examples=300)
@given(shape=shapes())
def test_compulsory_bytes_grow_by_the_same_with_every_token(shape: Shape) -> None:
    at = [replace(shape, mask=CAUSAL, queries=n, keys=n) for n in (shape.keys, shape.keys + 7, shape.keys + 14)]
    for of in ("compulsory_forward", "compulsory_backward"):
        first, second, third = (getattr(each, of) for each in at)
        assert third - second == second - first > 0


@settings(max_examples=300)
@given(shape=shapes(), tile=tiles(), splits=st.integers(1, 40))
def test_a_decoding_step_reads_the_keys_of_the_kv_heads(shape: Shape, tile: Tile, splits: int) -> None:
    shape = replace(shape, queries=1, mask=CAUSAL)
    found = split_kv(shape, tile, splits)
    kv = shape.batch * shape.kv_heads * shape.keys * (shape.head_dim + shape.value_dim) * 2
    queries = found.launches[0].loads - kv
    assert 0 < queries <= splits * shape.batch * shape.heads * shape.head_dim * 2


@settings(max_examples=300)
@given(shape=shapes(), sram=st.integers(1, 10**5), more=st.integers(1, 10**5))
def test_more_shared_memory_never_costs_the_papers_algorithm_more(shape: Shape, sram: int, more: int) -> None:
    """Without a mask: with one, a larger tile may hide fewer keys."""
    shape = replace(shape, mask=FULL)
    assert fa1_forward(shape, sram + more).l2_to_sm <= fa1_forward(shape, sram).l2_to_sm
    assert fa1_backward(shape, sram + more).l2_to_sm <= fa1_backward(shape, sram).l2_to_sm


@settings(max_examples=300)
@given(d=st.sampled_from([16, 64, 128]), keys=st.integers(1, 64), passes=st.integers(1, 500))
def test_the_papers_theorem(d: int, keys: int, passes: int) -> None:
    """With M = 4 d Bc and N = Bc passes, Q and O cross memory in every one of the 4 N d / M passes: N^2 d^2 / M."""
    n, m = keys * passes, 4 * d * keys
    shape = Shape(batch=1, queries=n, keys=n, heads=1, kv_heads=1, head_dim=d, value_dim=d)
    found = fa1_forward(shape, m)
    per_pass = 3 * n * d * 2 + 2 * n * 8  # q and O in, O out in 2 bytes; maxima and sums in and out
    assert found.l2_to_sm * m == 4 * n * d * per_pass + m * (2 * n * d * 2 + n * d * 2 + 8 * n)
