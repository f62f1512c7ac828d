"""The formulas of kernels' times, by hand, on a device with round figures."""

from __future__ import annotations

from dataclasses import replace
from math import ceil

import pytest

from llmprof.latency import attention, collective, common, gemm, mla, moe
from llmprof.latency.op import (
    Collective,
    DecodeAttention,
    Dtype,
    Gemm,
    LatentDims,
    MlaDecode,
    MlaPrefill,
    Moe,
    PrefillAttention,
)
from tests.unit.latency_samples import DECODE, GEMM, MLA, MOE, PREFILL, ROUND

US = 1e-6


def test_waves_overlap_and_what_is_kept() -> None:
    assert [common.waves(w, 0) for w in (0.5, 2.5)] == [1, 2.5]
    assert [common.waves(w, 1) for w in (0.5, 2.5, 3.0)] == [1, 3, 3]
    assert common.waves(2.5, 0.5) == 2.75
    assert [common.overlapped(3, 4, p) for p in (1, 2)] == pytest.approx([7, 5])
    assert common.overlapped(0, 0, 2) == 0
    assert [common.kept(r) for r in (0, 1, 2)] == pytest.approx([1, 1 / 2, 1 / 65])


def product(constants: dict[str, float], form: str = "searched", **sizes: int) -> float:
    return gemm.seconds(Gemm(**{"m": 128, "n": 128, "k": 1024, **sizes}), ROUND, constants, form) / US  # type: ignore[arg-type]


@pytest.mark.parametrize("q", [0.0, 0.4, 1.0])
@pytest.mark.parametrize(("n", "k"), [(1000, 8192), (28672, 4096), (64, 512)])
def test_no_tile_is_left_out_that_would_be_the_fastest(q: float, n: int, k: int) -> None:
    c = {**GEMM, "q": q, "p": 3.0, "t_s": 0.5, "tau": 0.9}
    rate, feed, fast = ROUND.bf16 * c["e_c"] / ROUND.units, c["b_sm"] * ROUND.clock, c["r_l2"] * ROUND.bandwidth
    for m in (1, 40, 700, 9000):
        memory = 1e-9 * m * n
        times = [
            common.overlapped(
                common.waves(ceil(m / tm) * ceil(n / tn) * s / ROUND.units, q)
                * (k / s * max(2 * tm * tn / rate, (tm + tn) * 2 / feed) + c["tau"] * 1e3 / ROUND.clock),
                memory,
                c["p"],
            )
            + (s > 1) * (c["t_s"] * US + 8 * s * m * n / fast)
            for tm, tn in gemm.TILES
            for s in gemm.SPLITS
            if s == 1 or k / s >= gemm.SHORTEST_SPLIT
        ]
        found = gemm._searched(Gemm(m=m, n=n, k=k), ROUND, c, memory, 2.0, 2.0)
        assert found == pytest.approx(min(times), rel=1e-12)


def test_a_product_takes_its_start_its_smallest_tile_and_its_bytes() -> None:
    # 16 tiles of 16 x 64 on 128 processors: 2 * 16 * 64 * 1024 FLOPs at 1e12; (128*1024*2 twice + 128*128*2) bytes.
    assert product(GEMM) == pytest.approx(1 + 2.097152 + 0.557056)


def test_a_product_of_two_waves_takes_twice_as_long() -> None:
    # 129 tiles of 16 x 64 and as many of 64 x 16; 32 x 64 has 65: one wave of twice the FLOPs is as long as two.
    one = product(GEMM, m=16, n=64 * 128)
    two = product(GEMM, m=16, n=64 * 129)
    read = 2 * 1024 * 64 / 1e6 + 2 * 16 * 64 / 1e6
    assert two - one == pytest.approx(2.097152 + read)


@pytest.mark.parametrize(
    ("change", "more"),
    [
        ({"b_sm": 1.0}, 1024 * (16 + 64) * 2 / 1e3 - 2.097152),  # a byte a cycle: 160 ns for each of 1024 steps
        ({"tau": 2.0}, 2.0),  # kilocycles per tile, whatever its size
        ({"tau": 2.0, "u": 1.0}, 2.0 / 16),  # a tile of 1024 of 16384 elements
        ({"k_t": 1.0}, 2.097152 * (1 / 16 + 1) / (2 / 16) - 2.097152),
        ({"e_q": 1.0, "r_row": 1.0, "t_q": 4.0}, 0.0),  # nothing is rounded for bf16
    ],
)
def test_each_constant_of_a_product_adds_its_term(change: dict[str, float], more: float) -> None:
    assert product({**GEMM, **change}) - product(GEMM) == pytest.approx(more)


def test_a_split_pays_where_the_contraction_is_long() -> None:
    # 16 splits of 4096 on 16 tiles fill 128 processors twice: 2 waves of 256 steps instead of one of 4096.
    split = product({**GEMM, "t_s": 0.0}, k=4096)
    whole = product(GEMM, k=4096)
    steps = 2 * 16 * 64 / 1e6  # microseconds each
    extra = 8 * 8 * 128 * 128 / 1e6  # eight splits in one wave: fewest bytes of partial sums for that speed
    assert whole - split == pytest.approx(4096 * steps - 512 * steps - extra)


def test_rounding_the_input_reads_it_in_bf16_and_writes_it_in_fp8() -> None:
    op = Gemm(m=128, n=128, k=1024, dtype="fp8")
    c = {**GEMM, "t_q": 4.0, "r_row": 10.0, "e_q": 0.5}
    plain = gemm.seconds(op, ROUND, GEMM, "searched") / US
    assert gemm.seconds(op, ROUND, c, "searched") / US - plain == pytest.approx(4 + 1.28 + 128 * 1024 * 3 / 0.5 / 1e6)
    assert gemm.seconds(replace(op, rounded=True), ROUND, c, "searched") / US == plain  # it arrives so
    # A device without fp8 multiplies in bf16 what it reads in fp8: nothing is rounded.
    without = gemm.seconds(op, replace(ROUND, fp8=None), c, "searched") / US
    assert without == pytest.approx(1 + 2.097152 + (1024 * 128 + 128 * 1024 * 2 + 2 * 128 * 128) / 1e6)


@pytest.mark.parametrize(("dtype", "weights"), [("bf16", 2.0), ("int8", 1.0), ("int4", 0.515625), ("fp16", 2.0)])
def test_weights_alone_are_narrower_and_multiplied_in_bf16(dtype: Dtype, weights: float) -> None:
    op = Gemm(m=128, n=128, k=1024, dtype=dtype)
    read = (1024 * 128 * weights + 128 * 1024 * 2 + 2 * 128 * 128) / 1e6
    assert gemm.seconds(op, ROUND, GEMM, "searched") / US == pytest.approx(1 + 2.097152 + read)


def test_a_kernel_chosen_by_rows_fills_its_cluster() -> None:
    c = {**GEMM, "panel": 0.0, "reread": 0.0}

    def compute(m: int, n: int = 128) -> float:
        read = (1024 * n * 2 + m * 1024 * 2 + 2 * m * n) / 1e6
        return product(c, "by-rows", m=m, n=n) - 1 - read

    assert compute(64) == pytest.approx(1024 * 2 * 64 * 64 / 1e6)  # two tiles of 64 x 64
    assert compute(128) == pytest.approx(1024 * 2 * 64 * 128 / 1e6)
    assert compute(129) == pytest.approx(1024 * 2 * 128 * 128 / 1e6) == pytest.approx(compute(256))
    assert compute(129, 8192) == pytest.approx(compute(129))  # two tiles for each of 64 columns: one wave
    assert compute(257, 8192) == pytest.approx(2 * compute(129))


def test_a_warm_weight_is_read_from_the_cache() -> None:
    c = {**GEMM, "hot": 1.0, "r_l2": 4.0}
    cold = gemm.seconds(Gemm(m=1, n=1024, k=1024), ROUND, c, "searched")
    warm = gemm.seconds(Gemm(m=1, n=1024, k=1024, weight_copies=1), ROUND, c, "searched")
    assert cold - warm == pytest.approx(1024 * 1024 * 2 * (1 - 1 / 4) / 1e12, rel=1e-3)


def decode(constants: dict[str, float], form: str = "split", **sizes: int) -> float:
    op = DecodeAttention(**{"batch": 1, "context": 64, "heads": 1, "kv_heads": 1, "head_dim": 128, **sizes})  # type: ignore[arg-type]
    return attention.decode_seconds(op, ROUND, constants, form) / US


def test_a_decode_step_takes_its_block_its_keys_and_its_cache() -> None:
    block = 0.65 + 0.35 / 128
    keys = 64 * 4 * 128 * 16 / 0.6e6  # sixteen rows at least, at 0.6 of 1e12
    assert decode(DECODE) == pytest.approx(1 + block + keys + (2 * 64 * 128 * 2 + 4 * 128) / 1e6)


def test_a_window_cuts_what_is_read() -> None:
    assert decode(DECODE, context=4096, window=64) == pytest.approx(decode(DECODE))


@pytest.mark.parametrize(("form", "falls"), [("split", True), ("unsplit-mha", False)])
def test_only_a_kernel_that_splits_is_faster_with_free_splits(form: str, falls: bool) -> None:
    free = {**DECODE, "t_s": 0.0}
    assert (decode(free, form, context=65536) < 0.1 * decode(DECODE, form, context=65536)) == falls


def test_grouped_heads_are_repacked_by_the_kernel_that_must() -> None:
    c = {**DECODE, "t_g": 7.0, "e_g": 0.5}
    sizes = {"batch": 2, "heads": 8, "kv_heads": 2}
    more = decode(c, "unsplit-mha", **sizes) - decode(DECODE, "unsplit-mha", **sizes)
    assert more == pytest.approx(7 + 4 * 2 * 8 * 128 / 0.5 / 1e6)
    assert decode(c, "split", **sizes) == pytest.approx(decode(DECODE, "split", **sizes))


@pytest.mark.parametrize(
    ("change", "more"),
    [
        ({"t_d": 4.0}, 2.0),  # 4 us at a width of 128
        ({"v": 1.0}, (1 / 128 - 0.65 - 0.35 / 128) * 0.85),  # one block of 128 processors is hardly a start
        ({"y": 1.0}, (0.5 - 0.85) * (0.65 + 0.35 / 128)),  # half of the width, half of the start
        ({"q_sm": 1.0}, 4 * 64 / 1e3),  # a row of 64 elements in and out, a byte a cycle
        ({"t_b": 500.0}, 0.5),  # nanoseconds for a sequence
    ],
)
def test_each_constant_of_a_decode_step_adds_its_term(change: dict[str, float], more: float) -> None:
    assert decode({**DECODE, **change}, head_dim=64) - decode(DECODE, head_dim=64) == pytest.approx(more)


def prefill(form: str = "per-head", **sizes: int) -> float:
    given = {"batch": 1, "new_tokens": 128, "heads": 1, "kv_heads": 1, "head_dim": 128, **sizes}
    return attention.prefill_seconds(PrefillAttention(**given), ROUND, PREFILL, form) / US  # type: ignore[arg-type]


def test_a_prompt_takes_its_longest_tile_its_bytes_and_its_cache_write() -> None:
    key = 4 * 128 * 128 / 1e6
    ends = 4 * 128 * 128 / 1e6  # queries and outputs; keys and values are as many bytes, and are written once more
    assert prefill() == pytest.approx(1 + (1 + 128 * key) + 2 * ends + ends)


def test_a_tile_alone_is_faster_and_a_narrow_head_writes_whole_sectors() -> None:
    op = PrefillAttention(batch=1, new_tokens=128, heads=1, kv_heads=1, head_dim=64)
    plain = attention.prefill_seconds(op, ROUND, PREFILL, "per-head") / US
    alone = attention.prefill_seconds(op, ROUND, {**PREFILL, "sp": 1.0}, "per-head") / US
    assert plain - alone == pytest.approx(128 * 4 * 64 * 128 / 1e6 * (1 - 1 / 128))  # one tile on 128 processors
    wide = attention.prefill_seconds(op, ROUND, {**PREFILL, "d_w": 128.0, "t_d": 2.0, "t_n": 10.0}, "per-head") / US
    assert wide - plain == pytest.approx(2 * 128 * 64 * 2 / 1e6 + 1 + 128 * 0.01)


def test_heads_that_share_keys_share_tiles_where_the_kernel_packs() -> None:
    # 64 tokens of 2 heads: two tiles of their own on two processors, or one together; longest tile alike.
    assert prefill("per-head", new_tokens=64, heads=2 * 128, kv_heads=128) > prefill(
        "packed", new_tokens=64, heads=2 * 128, kv_heads=128
    )


@pytest.mark.parametrize(
    ("prefix", "new", "window", "mean"),
    [(0, 8, 0, 4.0), (8, 8, 0, 12.0), (0, 8, 8, 4.0), (0, 8, 4, 3.0), (8, 8, 4, 4.0), (2, 4, 4, 3.5)],
)
def test_keys_seen_on_average(prefix: int, new: int, window: int, mean: float) -> None:
    # (2, 4, 4): token 1 starts at 2, token 2 at 3 (on average 3 while the window grows by two), then 4 and 4.
    assert attention.seen(prefix, new, window) == mean


SMALL = LatentDims(d_model=64, query_rank=32, kv_rank=16, rope_dim=8, nope_dim=16, value_dim=16)


def test_latent_attention_reads_one_latent_for_all_heads() -> None:
    # 64*32 + 32*2*24, 64*24 + 16*2*32, 2*16*64
    assert mla.projected(SMALL, 2) == 3584 + 2560 + 2048
    op = MlaDecode(batch=1, context=1024, heads=2, dims=SMALL)
    projections = 2 * 8192 / 1e6  # bytes; its FLOPs are a hundred times faster
    read, multiplied = 1024 * 24 * 2 / 1e6, 2 * 64 * 1024 * 40 / 128e6
    assert mla.decode_seconds(op, ROUND, MLA) / US == pytest.approx(1 + projections + read + multiplied, rel=1e-4)


def test_a_prompt_in_the_latent_space_multiplies_more_than_one_outside_it() -> None:
    op = MlaPrefill(batch=1, new_tokens=256, heads=2, dims=SMALL)
    inside = mla.prefill_seconds(op, ROUND, {**MLA, "e_b": 1e9}, "latent")
    outside = mla.prefill_seconds(op, ROUND, {**MLA, "e_b": 1e9}, "per-head")
    # Half of the keys on average, 40 multiplications for each in the latent space, 24 + 16 outside: alike here.
    assert inside == pytest.approx(outside)
    wide = replace(op, dims=LatentDims())
    assert mla.prefill_seconds(wide, ROUND, MLA, "latent") > mla.prefill_seconds(wide, ROUND, MLA, "per-head")
    assert mla.prefill_seconds(op, ROUND, MLA, "latent-blocks") > mla.prefill_seconds(op, ROUND, MLA, "latent")


def test_prompts_see_half_of_themselves() -> None:
    op = MlaPrefill(batch=1, new_tokens=1000, heads=2, dims=SMALL)
    only = {**MLA, "e_b": 1e9, "e_w": 1e9, "e_p": 1e9}
    # 2 * 1000 tokens * 500 keys * 2 heads * (24 + 16) multiplications; the rest costs next to nothing.
    assert mla.prefill_seconds(op, ROUND, only, "per-head") / US == pytest.approx(1 + 80e6 / 128e6, rel=1e-3)


def experts(form: str = "local-pairs", *, gated: bool = False, **sizes: int) -> float:
    given = {"tokens": 8, "experts": 8, "experts_per_token": 1, "d_model": 128, "d_ff": 128, **sizes}
    return moe.seconds(Moe(gated=gated, **given), ROUND, MOE, form) / US  # type: ignore[arg-type]


TILE = 2 * 16 * 128 * 128 / 1e6
"""Of 16 rows, 128 columns and a contraction of 128."""


def test_experts_take_two_products_their_weights_and_their_rows() -> None:
    weights, rows = 8 * 2 * 128 * 128 * 2 / 1e6, 8 * (4 * 128 + 4 * 128) / 1e6
    assert experts() == pytest.approx(1 + 2 * TILE + weights + rows)


def test_a_gate_is_a_third_matrix() -> None:
    # Two column tiles of the first product still fit beside each other: only bytes are more.
    assert experts(gated=True) - experts() == pytest.approx((8 * 128 * 128 * 2 + 8 * 2 * 128) / 1e6)
    # Sixteen column tiles of each of eight experts fill 128 processors; twice as many fill them twice.
    moved = (8 * 2 * 128 * 2048 * 2 + 8 * (4 * 128 + 4 * 2048)) / 1e6
    assert experts(d_ff=2048) == pytest.approx(1 + TILE + 16 * TILE + moved)
    more = TILE + (8 * 128 * 2048 * 2 + 8 * 2 * 2048) / 1e6
    assert experts(gated=True, d_ff=2048) - experts(d_ff=2048) == pytest.approx(more)


def test_divided_experts_are_fewer_and_start_later() -> None:
    weights, rows = 4 * 2 * 128 * 128 * 2 / 1e6, (4 * 4 * 128 + 4 * 4 * 128) / 1e6
    assert experts(ep=2) == pytest.approx(1 + 5 + 2 * TILE + weights + rows)
    assert experts("all-pairs", ep=2) - experts(ep=2) == pytest.approx(rows)


def test_a_width_that_vectors_do_not_divide_takes_longer() -> None:
    # 128 / 16 = 8 columns: half a vector.
    weights, second = 8 * 2 * 128 * 8 * 2 / 1e6, 2 * 16 * 128 * 8 / 1e6
    assert experts(tp=16) == pytest.approx(1 + 8 * (4 * 128 + 4 * 8) / 1e6 + 3 * (TILE + second + weights))


COLLECTIVE = {
    "link": 100.0,
    **{f"a1_{n}": 1.0 * n for n in (2, 8)},
    **{f"c1_{n}": 10.0 for n in (2, 8)},
    **{f"a2_{n}": 10.0 * n for n in (2, 8)},
    **{f"c2_{n}": 100.0 for n in (2, 8)},
}


@pytest.mark.parametrize(
    ("moved", "devices", "time"),
    [
        (10, 2, 2 + 1.0),
        (10_000, 2, 20 + 100.0),
        (10, 8, 8 + 1.0),
        (10, 4, 27**0.5),  # half way between 3 and 9 in the logarithm of the devices
        (10, 16, 9.0),
        (10, 1, 0.0),
    ],
)
def test_a_collective_takes_the_faster_of_two_kernels(moved: int, devices: int, time: float) -> None:
    op = Collective(bytes=moved, devices=devices)
    assert collective.seconds(op, ROUND, COLLECTIVE) / US == pytest.approx(time)


def test_links_that_are_twice_as_fast_halve_the_slope() -> None:
    fast = replace(ROUND, link=200e9)
    op = Collective(bytes=10_000, devices=2)
    assert collective.seconds(op, fast, COLLECTIVE) / US == pytest.approx(20 + 50)
    assert collective.linked(op, fast) == pytest.approx(10e-6 + 10_000 / (0.8 * 200e9))
    assert collective.linked(op, replace(ROUND, link=None)) is None
