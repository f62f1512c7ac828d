"""The kernels' bytes and FLOPs by hand, and the figures that are known of them.

Sizes of Llama-3-8B: 32 query heads on 8 KV heads, head_dim 128, bf16 (meta-llama/Meta-Llama-3-8B, config.json).
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from llmprof.predict.tiles import (
    CAUSAL,
    FULL,
    Shape,
    Tile,
    both_ways,
    choose,
    choose_for,
    fa1_backward,
    fa1_forward,
    fa2_backward,
    fa2_forward,
    fa3_forward,
    paper_tile,
    split_kv,
    splits_heuristic,
    window,
)

LLAMA = Shape(batch=1, queries=4096, keys=4096, heads=32, kv_heads=8, head_dim=128, value_dim=128, mask=CAUSAL)
DECODE = replace(LLAMA, queries=1, keys=8192)

# 5 queries of 3 tokens' context more, two heads on one, tiles of 4 rows and 3 keys in a kernel 32 wide.
SMALL = Shape(batch=2, queries=5, keys=8, heads=2, kv_heads=1, head_dim=8, value_dim=16, mask=CAUSAL)
TILE = Tile(kernel="a kernel", rows=4, keys=3, head_dim=32, value_dim=32, readers=4)
# Rows 0-3 end at position 6 and see key tiles 0-2, row 4 sees key 7 and the same 3 tiles: 9 + 9 - 2 keys missing.
VISITS, KEY_LOADS = 3 + 3, 8 + 8


def tile(shape: Shape, family: str = "fa2", architecture: str = "sm80") -> Tile:
    found = choose_for(shape, family, architecture)  # type: ignore[arg-type]
    assert found is not None
    return found


def test_forward_by_hand() -> None:
    found = fa2_forward(SMALL, TILE)
    heads = 2 * 2
    assert found.visited_tiles == heads * VISITS
    assert found.global_loads == heads * (5 * 8 * 2 + KEY_LOADS * (8 + 16) * 2)
    assert found.global_stores == heads * 5 * (16 * 2 + 4)
    query, keys = 4 * 32 * 2, 3 * 32 * 2
    assert found.smem_writes == heads * (2 * query + VISITS * 2 * keys + 2 * query)
    assert found.smem_reads == heads * (VISITS * (4 * 2 * keys + query) + 2 * query)
    assert found.executed_flops == heads * VISITS * 2 * 4 * 3 * (32 + 32)
    assert found.footprint_bytes == query + 2 * keys
    assert found.compulsory_bytes == 2 * 2 * 5 * 8 * 2 + 2 * 1 * 8 * 24 * 2 + 2 * 2 * 5 * (16 * 2 + 4)
    assert found.l2_to_sm == found.global_loads + found.global_stores


def test_two_stages_and_scores_in_shared_memory() -> None:
    plain, staged = fa3_forward(SMALL, TILE), fa3_forward(SMALL, replace(TILE, stages=2, scores_in_shared=True))
    scores = 4 * VISITS * 4 * 3 * 2
    assert plain.smem_reads is not None
    assert plain.smem_writes is not None
    assert (staged.smem_reads, staged.smem_writes) == (plain.smem_reads + scores, plain.smem_writes + scores)
    assert staged.footprint_bytes == (4 * 32 + 2 * 3 * 64 + 4 * 3) * 2
    assert staged.launches == plain.launches


def test_what_is_not_modelled_is_said() -> None:
    square = replace(LLAMA, mask=FULL)
    at = tile(square, "fa3", "sm90")
    assert fa3_forward(square, at).kernel == "FlashAttention-3 forward sm90, 128x176 (d=128), without multicast"
    odd = replace(square, queries=128 * 31)  # an odd number of row tiles
    assert fa3_forward(odd, at).kernel == "FlashAttention-3 forward sm90, 128x176 (d=128)"
    causal = tile(LLAMA, "fa3", "sm90")
    assert fa3_forward(LLAMA, causal).kernel == "FlashAttention-3 forward sm90, 128x128 (d=128)"
    # 130 rows of 256 are 51%, 4 x 130 of 640 are 81%; with a head each there is nothing to pack.
    few = replace(LLAMA, queries=130)
    assert fa3_forward(few, causal).kernel.endswith(", without PackGQA")
    assert not fa3_forward(replace(few, kv_heads=32), causal).kernel.endswith("PackGQA")
    # 130 rows are 2 row tiles, 4 x 130 packed are 5: no two of them share. A window longer than the keys hides nothing.
    assert fa3_forward(replace(few, mask=FULL), at).kernel.endswith("(d=128), without PackGQA")
    assert fa3_forward(replace(square, mask=both_ways(9000)), at).kernel.endswith("without multicast")
    assert not fa3_forward(replace(square, mask=both_ways(8000)), at).kernel.endswith("without multicast")


def test_a_row_tile_that_sees_nothing_loads_nothing_and_stores_zeros() -> None:
    found = fa2_forward(replace(SMALL, queries=10, keys=4), TILE)  # rows 6-9 see keys; the row tiles are 0-3, 4-7, 8-9
    assert found.global_loads == 4 * (6 * 8 * 2 + (3 + 4) * 24 * 2)
    assert found.global_stores == 4 * 10 * 36


def test_splits_by_hand() -> None:
    # Key tiles 0-1 and 2: both row tiles visit both ranges. The kernel stores partials in fp32, another one adds them.
    found = split_kv(SMALL, TILE, 2)
    attention, combine = found.launches
    assert attention.loads == 4 * (2 * 5 * 8 * 2 + KEY_LOADS * 24 * 2)
    assert attention.stores == combine.loads == 2 * 4 * 5 * (16 + 1) * 4
    assert combine.stores == 4 * 5 * 36
    query = 4 * 32
    assert found.smem_writes == 4 * (4 * query * 2 + VISITS * 2 * 3 * 32 * 2 + 4 * query * 4)
    # Four ranges for three tiles: one tile each, the last one empty, with partials all the same.
    four = split_kv(SMALL, TILE, 4)
    assert four.launches[0].loads == 4 * (3 * 5 * 8 * 2 + KEY_LOADS * 24 * 2)
    assert four.launches[1].loads == 2 * attention.stores
    assert split_kv(SMALL, TILE).launches == fa2_forward(SMALL, TILE).launches


def test_a_single_query_shares_its_tile_with_the_heads_of_its_group() -> None:
    one = replace(SMALL, queries=1)
    packed, apart = split_kv(one, TILE), split_kv(one, TILE, packs=False)
    assert packed.global_loads == 2 * (2 * 8 * 2 + 8 * 24 * 2)
    assert apart.global_loads == 4 * (8 * 2 + 8 * 24 * 2)
    assert packed.visited_tiles == 2 * 3
    assert packed.global_stores == apart.global_stores == 4 * 36
    # A window keeps heads apart; one longer than the keys is none.
    assert split_kv(replace(one, mask=window(2)), TILE).global_loads == 4 * (8 * 2 + 2 * 24 * 2)
    assert split_kv(replace(one, mask=window(8)), TILE).global_loads == apart.global_loads
    assert split_kv(replace(one, mask=window(9)), TILE).global_loads == packed.global_loads


def test_pages_are_looked_up_by_every_cta() -> None:
    # One CTA per sequence and KV head: keys 0-7 in pages of 3. With ranges of one tile of 3 keys each CTA has one page.
    one = replace(SMALL, queries=1)
    plain, paged = split_kv(one, TILE), split_kv(one, TILE, page_tokens=3)
    assert paged.global_loads - plain.global_loads == 2 * 3 * 4
    assert paged.compulsory_bytes - plain.compulsory_bytes == 2 * 3 * 4
    # Pages of 4: keys 0-2, 3-5 and 6-7 lie in pages {0}, {0, 1} and {1}.
    assert split_kv(one, TILE, 3, 4).global_loads - split_kv(one, TILE, 3).global_loads == 2 * 4 * 4


def test_backward_by_hand() -> None:
    found = fa2_backward(SMALL, TILE)
    heads, row_loads, rounded = 4, 3 * 4 + 3 * 1, 8
    dot, main, convert, added = found.launches
    accumulator = heads * rounded * 32 * 4
    assert (dot.loads, dot.stores) == (2 * heads * 5 * 16 * 2, heads * rounded * 4 + accumulator)
    atomics = heads * VISITS * 4 * 32 * 4
    visits = row_loads * ((8 + 16) * 2 + 4) + VISITS * 4 * 4
    assert main.loads == heads * (8 * 24 * 2 + visits) + atomics
    assert main.stores == atomics + heads * 8 * 24 * 2
    assert (convert.loads, convert.stores) == (accumulator, heads * 5 * 8 * 2)
    assert (added.loads, added.stores) == (heads * 8 * 24 * 2, 2 * 8 * 24 * 2)
    assert 2 * found.executed_flops == 5 * fa2_forward(SMALL, TILE).executed_flops
    assert found.smem_reads is None
    assert len(fa2_backward(replace(SMALL, kv_heads=2), TILE).launches) == 3


def test_the_papers_algorithms_by_hand() -> None:
    # M = 96 elements and h = 8: 3 keys, and 3 rows, which is below h. Rows 0-2 see keys 0-5: 2 tiles; rows 3-4 all 3.
    assert paper_tile(SMALL, 96) == (3, 3)
    assert paper_tile(SMALL, 10**6) == (5, 8)
    assert paper_tile(replace(SMALL, queries=100), 10**6) == (8, 8)
    forward, backward = fa1_forward(SMALL, 96), fa1_backward(SMALL, 96, partial_bytes=4)
    visits, row_loads, keys = 2 + 3, 3 * 2 + 2 * 3, 8 * 24 * 2
    statistics = 8
    assert forward.global_stores == 4 * (5 + row_loads) * (16 * 2 + statistics)
    assert forward.global_loads == 4 * (keys + row_loads * (8 * 2 + 16 * 2 + statistics))
    assert forward.executed_flops == 4 * visits * 2 * 3 * 3 * 24
    assert backward.launches[0].stores == 4 * 5 * 8 * 4
    assert backward.launches[1].loads == 4 * (keys + row_loads * ((8 + 2 * 16) * 2 + 8 * 4 + statistics))
    assert backward.launches[1].stores == 4 * (row_loads * 8 * 4 + keys)
    assert backward.executed_flops == 4 * visits * 2 * 3 * 3 * (3 * 8 + 2 * 16)
    with pytest.raises(ValueError, match="sram_elements"):
        fa1_forward(SMALL, 0)


# --- known figures ----------------------------------------------------------------------------------


def test_flops_of_a_layer_of_llama_3_8b_at_4096() -> None:
    executed = fa2_forward(LLAMA, tile(LLAMA)).executed_flops
    dense = 2 * 32 * 4096 * 4096 * 256
    causal = 2 * 32 * (4096 * 4097 // 2) * 256
    assert [round(each / 1e9, 1) for each in (executed, causal, dense)] == [141.7, 137.5, 274.9]
    assert 2 * fa2_backward(LLAMA, tile(LLAMA)).executed_flops == 5 * executed


def test_compulsory_bytes_of_a_layer_of_llama_3_8b_at_4096() -> None:
    # q and output 2 x 33.6 MB, keys and values 2 x 8.4 MB, log-sum-exp 0.5 MB.
    assert fa2_forward(LLAMA, tile(LLAMA)).compulsory_bytes == 2 * 33_554_432 + 2 * 8_388_608 + 524_288


@pytest.mark.parametrize(("head_dim", "kib"), [(64, 48), (128, 64), (256, 96)])
def test_footprints_of_flashattention_2(head_dim: int, kib: int) -> None:
    found = choose("fa2", "sm90", head_dim)
    assert found is not None
    assert found.footprint(2) == kib * 1024


def test_partials_of_32_splits_are_3_percent_of_the_cache() -> None:
    # One sequence of 8192 keys: 2 x 32 x 32 heads x 129 x 4 bytes, beside 33.6 MB of keys and values.
    one, split = (split_kv(DECODE, tile(DECODE, "fa2-split"), n) for n in (1, 32))
    partials = split.launches[0].stores + split.launches[1].loads
    assert partials == 2 * 32 * 32 * 129 * 4
    assert round(partials / (8192 * 8 * 256 * 2), 3) == 0.031
    assert one.visited_tiles == split.visited_tiles == 8 * 64


def test_every_kernel_fits_the_shared_memory_of_its_architecture() -> None:
    # Opt-in maximum per block: 163 KiB on 8.0, 99 on 8.6 and 8.9, 227 on 9.0 (CUDA C++ programming guide; recalled).
    room = {"sm80": 163, "sm86": 99, "sm89": 99, "sm90": 227}
    for architecture, kib in room.items():
        for head_dim in (32, 64, 96, 128, 192, 256):
            for causal, local in ((False, False), (True, False), (False, True)):
                for family in ("fa2", "fa2-split", "fa2-split-alone", "fa2-backward", "fa3"):
                    found = choose(family, architecture, head_dim, causal=causal, local=local)  # type: ignore[arg-type]
                    if found is None:
                        assert family == "fa3"
                        assert architecture != "sm90"
                        continue
                    backward = family == "fa2-backward"
                    held = found.backward_footprint(2) if backward else found.footprint(2)
                    assert held <= kib * 1024, (found.label, held)


@pytest.mark.parametrize(
    ("family", "architecture", "dims", "causal", "local", "expected"),
    [
        ("fa2", "sm80", (128, 128), True, False, (128, 64, 4)),
        ("fa2", "sm86", (128, 128), True, False, (64, 64, 4)),
        ("fa2", "sm89", (128, 128), False, False, (128, 32, 4)),
        ("fa2", "sm89", (128, 128), True, True, (128, 32, 4)),  # a window is not the causal kernel
        ("fa2", "sm80", (256, 256), False, False, (128, 64, 8)),
        ("fa2", "sm90", (200, 200), False, False, (64, 64, 4)),
        ("fa2-split", "sm90", (128, 128), False, False, (64, 128, 4)),
        ("fa2-backward", "sm80", (128, 128), False, False, (64, 128, 8)),
        ("fa2-backward", "sm86", (256, 256), False, False, (64, 32, 8)),
        ("fa3", "sm90", (64, 64), False, False, (192, 192, 3)),
        ("fa3", "sm90", (32, 32), True, False, (192, 128, 3)),
        ("fa3", "sm90", (128, 128), False, False, (128, 176, 2)),
        ("fa3", "sm90", (128, 128), False, True, (128, 128, 2)),
        ("fa3", "sm90", (64, 40), True, False, (192, 128, 3)),
        ("fa3", "sm90", (192, 128), False, False, (128, 128, 2)),
        ("fa3", "sm90", (136, 104), False, True, (128, 96, 2)),
        ("fa3", "sm90", (192, 192), True, False, (128, 112, 2)),
        ("fa3", "sm90", (256, 256), True, True, (128, 64, 2)),
    ],
)
def test_tiles_of_the_source(
    family: str, architecture: str, dims: tuple[int, int], causal: bool, local: bool, expected: tuple[int, int, int]
) -> None:
    found = choose(family, architecture, *dims, causal=causal, local=local)  # type: ignore[arg-type]
    assert found is not None
    assert (found.rows, found.keys, found.readers) == expected


def test_where_there_is_no_kernel_there_is_no_tile() -> None:
    assert choose("fa2", "sm80", 264) is None
    assert choose("fa2", "sm80", 12) is None
    assert choose("fa3", "sm80", 128) is None
    # Values of another width: of no kernel in FlashAttention 2, and in 3 of those listed apart alone.
    assert choose("fa2", "sm90", 192, 128) is choose("fa2-split", "sm80", 64, 128) is None
    assert choose("fa2-backward", "sm80", 128, 64) is None
    for dims in ((64, 72), (64, 256), (64, 512), (96, 64), (128, 64), (192, 96), (192, 136), (256, 128)):
        assert choose("fa3", "sm90", *dims) is None, dims
    assert choose_for(replace(LLAMA, element_bytes=4), "fa2", "sm80") is None
    # A causal mask on one query, or a window as long as the keys, reaches the kernel as another mask.
    assert tile(replace(LLAMA, queries=1), architecture="sm86").keys == 32
    assert tile(replace(LLAMA, mask=window(4097)), architecture="sm86").keys == 64
    assert tile(replace(LLAMA, mask=window(4096)), architecture="sm86").keys == 32
    assert tile(replace(LLAMA, head_dim=96, value_dim=96, mask=window(4096)), "fa3", "sm90").keys == 144
    assert tile(replace(LLAMA, head_dim=96, value_dim=96, mask=window(4095)), "fa3", "sm90").keys == 128


@pytest.mark.parametrize(
    ("ctas", "sms", "key_tiles", "splits"),
    [
        (173, 216, 64, 1),  # 80% of an A100's 2 x 108 are 172.8
        (172, 216, 64, 5),  # 860 CTAs are 3.98 waves of 4; 1, 2, 3 and 4 splits have 0.796 of theirs
        (8, 10, 64, 1),  # exactly 80%; else 5 splits would fill 4 waves
        (8, 264, 64, 32),  # 256 of 264 CTAs; one split less is not eligible, 22 have 176
        (48, 216, 64, 4),  # 192 of 216
        (1, 216, 4, 4),  # no more than there are key tiles
        (1, 2, 100, 2),  # nor than SMs
        (
            1,
            1000,
            1000,
            112,
        ),  # nor than 128: 125 is the best that is eligible, and 107 is 85% of it: 112, of 9 tiles each
    ],
)
def test_number_of_splits(ctas: int, sms: int, key_tiles: int, splits: int) -> None:
    assert splits_heuristic(ctas, sms, key_tiles) == splits
