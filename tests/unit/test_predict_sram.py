"""FlashAttention-2's shared memory over the cores of a pass: which kernel, what it costs, and where there is none.

Which tiles are visited, and what a tile costs: test_predict_tiles_visits.py and test_predict_tiles_kernels.py.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from llmprof.predict.sram import Core, shared_memory
from llmprof.predict.tiles import CAUSAL, Mask, Shape, Tile, both_ways, fa2_forward, split_kv, window
from llmprof.spec.arch import Alibi, ArchSpec, Gqa, NoPosition, Stack
from llmprof.workload import Dtypes, Workload
from tests.predict_samples import FP32, FUSED, decode, llama_3_8b, prefill, run, single, t5_small


@pytest.mark.parametrize(("head_dim", "kib"), [(64, 48), (128, 64), (256, 96), (80, 48)])
def test_what_must_fit_in_shared_memory(head_dim: int, kib: int) -> None:
    # 80 runs the kernel for 96: (128 x 96 + 64 x 192) x 2.
    sram = shared_memory(run(single(Gqa(n_heads=1, n_kv_heads=1, head_dim=head_dim)), prefill(9), FUSED).program)
    assert sram is not None
    assert sram.footprint.value == kib * 1024


def test_llama_3_8b_at_4096() -> None:
    prediction = run(llama_3_8b(), prefill(4096), FUSED)
    sram = shared_memory(prediction.program)
    assert sram is not None
    assert sram.kernel == "FlashAttention-2 forward sm80, 128x64 (d=128)"
    # Per head: 32 query tiles that see 2, 4, .. 64 key tiles.
    tiles = 32 * (2 * 32 * 33 // 2)
    assert round(tiles * 2 * 128 * 64 * 256 / 1e9, 1) == 141.7  # executed FLOPs of a layer
    rows = 32 * 4096 * 128 * 2
    writes = rows + tiles * 64 * 256 * 2 + rows  # queries, keys and values come in, the output goes out
    reads = tiles * (4 * 64 * 256 + 128 * 128) * 2 + rows
    assert sram.nbytes == 32 * (writes + reads)


def test_decode_folds_the_queries_of_a_kv_head_into_one_tile() -> None:
    sram = shared_memory(run(llama_3_8b(), decode(8192, batch=2), FUSED).program)
    assert sram is not None
    assert sram.kernel == "FlashAttention-2 split-KV forward sm80, 64x128 (d=128)"
    tiles = 2 * 8 * (8192 // 128)
    rows = 2 * 8 * 64 * 128 * 2  # 4 query heads in a tile of 64 rows
    writes = 2 * rows + tiles * 128 * 256 * 2
    reads = tiles * (4 * 128 * 256 + 64 * 128) * 2 + rows
    assert sram.nbytes == 32 * (writes + reads)
    assert sram.footprint.value == (64 * 128 + 128 * 256) * 2


@pytest.mark.parametrize("tokens", [2, 100, 129, 1000])
@pytest.mark.parametrize("past", [0, 1, 300])
@pytest.mark.parametrize("width", [None, 1, 65, 400])
def test_the_formula_is_the_traffic_of_the_closed_forms(tokens: int, past: int, width: int | None) -> None:
    attention = Gqa(n_heads=6, n_kv_heads=2, head_dim=64, window=width)
    s = tokens + past
    keys = s if width is None else min(s, tokens + width - 1)
    mask = CAUSAL if width is None or width >= s else window(width)
    shape = Shape(batch=3, queries=tokens, keys=keys, heads=6, kv_heads=2, head_dim=64, value_dim=64, mask=mask)
    work = replace(prefill(tokens, batch=3), context=s)
    assert figure(run(single(attention), work, FUSED).program) == moved(shape, mask)


def test_a_window_of_an_encoder_reaches_both_ways() -> None:
    found = run(
        single(Gqa(n_heads=2, n_kv_heads=2, head_dim=64, window=300), mask="bidirectional"), prefill(1000), FUSED
    )
    shape = Shape(batch=1, queries=1000, keys=1000, heads=2, kv_heads=2, head_dim=64, value_dim=64)
    assert figure(found.program) == moved(shape, both_ways(300))


def moved(shape: Shape, mask: Mask) -> int:
    shape = replace(shape, mask=mask)
    core = Core(shape, packs=True)
    assert core.tile is not None
    traffic = (split_kv if shape.queries == 1 else fa2_forward)(shape, core.tile)
    assert traffic.smem_writes is not None
    assert traffic.smem_reads is not None
    return traffic.smem_writes + traffic.smem_reads


def figure(program: object) -> int:
    sram = shared_memory(program)  # type: ignore[arg-type]
    assert sram is not None
    return sram.nbytes


def test_where_there_is_no_kernel_there_is_no_figure() -> None:
    attention = Gqa(n_heads=2, n_kv_heads=2, head_dim=64)

    def traffic(spec: Gqa, **options: object) -> object:
        return shared_memory(run(single(spec), prefill(9, **options), FUSED).program)  # type: ignore[arg-type]

    assert traffic(attention, dtypes=FP32) is None
    assert traffic(replace(attention, head_dim=264)) is None
    assert traffic(replace(attention, head_dim=12)) is None
    assert traffic(replace(attention, softcap=30.0)) is not None


def test_a_bias_changes_no_tile_but_keeps_heads_apart() -> None:
    attention = Gqa(n_heads=4, n_kv_heads=2, head_dim=64)
    plain, alibi = single(attention), single(attention, position=Alibi())
    assert figure(run(plain, prefill(300), FUSED).program) == figure(run(alibi, prefill(300), FUSED).program)
    # One query: with ALiBi every query head reads the 2 key tiles of 256 itself, and has a row tile of its own.
    width, rows = 64 * 2, 64
    packed = 2 * (3 * rows + 2 * (2 * 256 + 4 * 2 * 256 + rows)) * width
    assert figure(run(plain, decode(300), FUSED).program) == packed
    assert figure(run(alibi, decode(300), FUSED).program) == 2 * packed


def without_table(arch: ArchSpec) -> ArchSpec:
    """The same without T5's biases, which FlashAttention-2 does not take."""

    def plain(stack: Stack) -> Stack:
        return replace(stack, layers=tuple(replace(layer, position=NoPosition()) for layer in stack.layers))

    return replace(arch, stacks=tuple(plain(stack) for stack in arch.stacks))


def test_a_mask_or_bias_that_the_kernel_does_not_have_gives_no_figure() -> None:
    assert shared_memory(run(t5_small(), decode(200, source=100), FUSED).program) is None
    attention = Gqa(n_heads=2, n_kv_heads=2, head_dim=64)
    prefix = single(attention, mask="prefix")
    assert shared_memory(run(prefix, prefill(300, prefix=150), FUSED).program) is None
    assert shared_memory(run(prefix, prefill(300, prefix=300), FUSED).program) is not None


def test_every_core_of_both_sides_counts() -> None:
    arch = without_table(t5_small())
    first = shared_memory(run(arch, prefill(200, source=100), FUSED).program)
    later = shared_memory(run(arch, decode(200, source=100), FUSED).program)
    assert first is not None
    assert later is not None
    forward, split = (tile(queries) for queries in (200, 1))  # 128x128, 64x256

    def core(row_tiles: int, tiles: int, of: Tile) -> int:
        operands = tiles * (2 * of.keys + of.readers * 2 * of.keys + of.rows)
        return 8 * 2 * (3 * row_tiles * of.rows + operands) * 64

    encoder, own, cross = core(1, 1, forward), core(2, 1 + 2, forward), core(2, 2, forward)
    assert first.nbytes == 6 * (encoder + own + cross)
    assert later.nbytes == 6 * (core(1, 1, split) + core(1, 1, split))


def tile(queries: int) -> Tile:
    shape = Shape(batch=1, queries=queries, keys=200, heads=8, kv_heads=8, head_dim=64, value_dim=64)
    found = Core(shape, packs=True).tile
    assert found is not None
    return found


@pytest.mark.parametrize(
    "workload", [prefill(9, dtypes=Dtypes(kv_cache="fp8")), decode(9, dtypes=Dtypes(kv_cache="fp8"))]
)
def test_packed_keys_and_values_are_of_no_kernel(workload: Workload) -> None:
    """The reference reads an fp8 cache as it is stored; the kernel's operands have one dtype, of 16 bits."""
    assert shared_memory(run(llama_3_8b(), workload, FUSED).program) is None
