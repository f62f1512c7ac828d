"""Bytes by level on a device, by hand and by what must hold of any pass (docs/reference-dram.md)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmprof import catalog
from llmprof.device import Device, Figure, find
from llmprof.errors import InputError
from llmprof.predict.api import Prediction
from llmprof.predict.levels import Levels, levels, levels_of
from llmprof.predict.levels_record import levels_record
from llmprof.predict.sm_traffic import sm_bytes, tiles_of
from llmprof.predict.unconfirmed import EXPERTS_ORDER
from llmprof.routing import BALANCED, Routing
from llmprof.spec.arch import ArchSpec, Differential, Gqa, T5Bias
from llmprof.workload import Dtypes, Execution
from tests.predict_samples import FP32, FUSED, UNFUSED, at, decode, llama, llama_3_8b, prefill, run, single, t5_small

H200 = find("h200")
"""132 SMs of 228 KiB, and 50 MiB of cache."""


def caching(nbytes: int) -> Device:
    """An H200 with another cache."""
    return replace(H200, last_level_cache=Figure(value=nbytes, sources=()))


def levels_at(spec: ArchSpec, tokens: int, *, execution: Execution = FUSED, device: Device = H200) -> Levels:
    return levels_of(run(spec, prefill(tokens), execution), device)


def test_a_matrix_product_loads_an_operand_for_every_tile_of_the_other_side() -> None:
    """200 rows of 300 by 300 x 312: 2 x 3 tiles of 128 x 128, so 3 times the rows and twice the matrix."""
    prediction = run(single(Gqa(n_heads=3, n_kv_heads=3, head_dim=104), d=300), prefill(200), UNFUSED)
    (product,) = (op for op in prediction.program.groups[0].ops if op.path == "attn.q_proj")
    assert product.contraction is not None
    assert tiles_of(product.contraction) == (2, 3)
    assert sm_bytes(product) == 2 * (3 * 200 * 300 + 2 * 300 * 312 + 200 * 312) == 859_200


@pytest.mark.parametrize(("tokens", "tiles"), [(1, (1, 2)), (128, (1, 2)), (129, (2, 2)), (256, (2, 2)), (257, (3, 2))])
def test_a_tile_is_128_by_128(tokens: int, tiles: tuple[int, int]) -> None:
    """Rows of tokens by a matrix with 2 x 128 columns."""
    prediction = run(single(Gqa(n_heads=2, n_kv_heads=2, head_dim=128), d=64), prefill(tokens), UNFUSED)
    (product,) = (op for op in prediction.program.groups[0].ops if op.path == "attn.q_proj")
    assert product.contraction is not None
    assert tiles_of(product.contraction) == tiles


def test_an_addend_is_loaded_once() -> None:
    spec = single(Gqa(n_heads=3, n_kv_heads=3, head_dim=104, qkv_bias=True), d=300)
    (product,) = (op for op in run(spec, prefill(200)).program.groups[0].ops if op.path == "attn.q_proj")
    assert sm_bytes(product) == 859_200 + 312 * 2


def test_batched_products_are_tiled_one_by_one() -> None:
    """q k^T of 2 sequences of 200 tokens with 3 heads: six products of 200 x 104 by 104 x 200, 2 x 2 tiles each."""
    spec = single(Gqa(n_heads=3, n_kv_heads=3, head_dim=104), d=300)
    scores = next(
        op
        for op in run(spec, prefill(200, batch=2)).program.groups[0].ops
        if op.path == "attn.core" and op.contraction is not None
    )
    assert scores.contraction is not None
    operands = (scores.contraction.left, scores.contraction.right)
    addends = sum(tensor.nbytes for tensor in scores.reads if tensor not in operands)
    assert sm_bytes(scores) == 6 * 2 * (2 * 200 * 104 + 2 * 104 * 200 + 200 * 200) + addends


def test_every_other_kernel_moves_its_op_level_bytes() -> None:
    prediction = run(llama_3_8b(), prefill(300), FUSED)
    found = levels_of(prediction, H200)
    for path in ("embed", "layers.0.attn_norm", "layers.3.attn.rope", "layers.9.ffn.act", "final_norm"):
        assert found.l2_to_sm[path] == at(prediction, path), path


def test_llama_3_8b_on_an_h200_at_4096() -> None:
    """128 CTAs of a KV head (32 row tiles, 4 query heads) are less than are in flight: K and V are loaded once."""
    found = levels_at(llama_3_8b(), 4096)
    core = found.cores["layers.7.attn.core"]
    assert core.tile.label == "FlashAttention-2 forward sm90, 128x64 (d=128)"
    assert (core.splits, core.reread_bytes, found.reread) == (1, 0, 0)
    assert round(core.traffic.executed_flops / 1e9, 1) == 141.7
    assert len(found.cores) == 32
    assert found.untiled == {}


def test_keys_and_values_are_read_again_where_a_head_has_more_tiles_than_run_at_once() -> None:
    """131,072 tokens: 64 KiB a CTA, 3 on an SM, 396 at once; 1024 row tiles x 4 heads = 4096 in a row.

    8 heads x 4096 = 32768 CTAs are 83 waves, and none of the 82 borders between them is one between heads. K and V of a
    head are 131072 x 256 x 2 = 67,108,864 bytes, more than the cache: they come again at every border, in 32 layers.
    Where they fit and those of two heads do not, only the 7 waves with two heads cost something: of 67,108,864 bytes
    before and behind each, all but a tile of 64 keys.
    """
    head, tile = 131_072 * 256 * 2, 64 * 256 * 2
    found = levels_at(llama_3_8b(), 131_072)
    assert found.cores["layers.0.attn.core"].reread_bytes == 82 * head == 5_502_926_848
    assert found.reread == 32 * 5_502_926_848
    too_small = levels_at(llama_3_8b(), 131_072, device=caching(head - 1))
    assert too_small.reread == found.reread
    one_fits = levels_at(llama_3_8b(), 131_072, device=caching(head))
    assert one_fits.reread == 32 * 7 * 2 * (head - tile)
    kept = levels_at(llama_3_8b(), 131_072, device=caching(2 * head))
    assert kept.reread == 0


def test_the_ledger_has_what_is_read_again_in_its_dram_bytes() -> None:
    prediction = run(llama_3_8b(), prefill(131_072), FUSED)
    found, ledger = levels_of(prediction, H200), levels(prediction, H200)
    path = "layers.0.attn.core"
    assert ledger.at(path, "dram_bytes") == found.dram[path] + 5_502_926_848
    assert ledger.at(path, "smem_bytes") == found.cores[path].smem_bytes
    assert ledger.at(path, "matmul_flops_executed") == found.cores[path].traffic.executed_flops
    assert ledger.at("layers.0.attn.q_proj", "smem_bytes") is None


def test_a_decode_step_splits_its_keys() -> None:
    """8 KV heads are 8 CTAs for 132 SMs that take two each: all of the 32 tiles of 128 keys become splits.

    n splits fill n x 8 / 264 of a wave; 32 are 97%, and 85% of that takes 27.2. 28 to 31 would leave tiles two by two
    as 27 does, so 32 it is.
    """
    core = levels_of(run(llama_3_8b(), decode(4096), FUSED), H200).cores["layers.0.attn.core"]
    assert core.splits == 32
    assert core.tile.label == "FlashAttention-2 split-KV forward sm90, 64x128 (d=128)"
    assert core.reread_bytes == 0


@pytest.mark.parametrize(
    ("spec", "device", "kernel"),
    [
        (llama(layers=2, d=256, heads=2, kv_heads=2, d_ff=64, window=16), H200, "efficient"),
        (llama(layers=2, d=256, heads=2, kv_heads=2, d_ff=64), find("v100-16gb"), "flash"),
        (llama(layers=2, d=256, heads=2, kv_heads=2, d_ff=64), find("mi300x"), "flash"),
    ],
)
def test_a_kernel_without_a_tile_has_no_figure(spec: ArchSpec, device: Device, kernel: str) -> None:
    prediction = run(spec, prefill(64), FUSED)
    found, ledger = levels_of(prediction, device), levels(prediction, device)
    assert set(found.untiled) == {"layers.0.attn.core", "layers.1.attn.core"}
    assert found.untiled["layers.0.attn.core"].endswith(kernel)
    assert ledger.at("layers.0.attn.core", "l2_to_sm_bytes") is None
    assert ledger.at("layers.0.attn.core", "smem_bytes") is None
    assert ledger.at("layers.0.attn.core", "matmul_flops_executed") is None
    assert ledger.at("layers.0.attn.q_proj", "l2_to_sm_bytes") is not None
    record, why = levels_record(spec, prefill(64), device)
    assert record["l2_to_sm_bytes_fused"] is record["smem_bytes_fused"] is record["matmul_flops_executed"] is None
    assert record["dram_reread_bytes_fused"] is record["device_kernel"] is None
    if device.name == "v100-16gb":
        unable = "the fused kernel flash needs sm80 or later: v100-16gb (sm70) does not run it"
        assert unable in why["dram_bytes_fused"]
        assert unable in why["compulsory_bytes_fused"]
        assert "compulsory_bytes_unfused" not in why
    else:
        assert f"no tile is known on {device.name}" in why["dram_bytes_fused"]
        assert "compulsory_bytes_fused" not in why


def test_an_attention_of_several_maps_runs_a_kernel_for_each() -> None:
    """Two maps over two halves of the values: four kernels of 2 heads of 64, which are what one of plain heads is."""
    four = levels_at(single(Differential(n_heads=2, head_dim=64, lambda_init=0.5), d=64), 300)
    one = levels_at(single(Gqa(n_heads=2, n_kv_heads=2, head_dim=64), d=64), 300)
    path = "layers.0.attn.core"
    core, plain = four.cores[path], one.cores[path]
    assert core.tile == plain.tile
    assert core.smem_bytes == 4 * plain.smem_bytes
    assert core.traffic.executed_flops == 4 * plain.traffic.executed_flops
    assert core.traffic.l2_to_sm == 4 * plain.traffic.l2_to_sm < four.l2_to_sm[path]
    assert core.traffic.footprint_bytes == plain.traffic.footprint_bytes


def test_the_record_adds_what_is_read_again_and_names_kernels_and_splits() -> None:
    found = levels_at(llama_3_8b(), 131_072)
    record, why = levels_record(llama_3_8b(), prefill(131_072), H200)
    assert record["dram_reread_bytes_fused"] == found.reread > 0
    assert record["dram_bytes_fused"] == found.dram.total() + found.reread
    assert record["device_kernel"] == "FlashAttention-2 forward sm90, 128x64 (d=128)"
    assert "compulsory_bytes_fused" not in why
    step, _ = levels_record(llama_3_8b(), decode(4096), H200)
    assert step["device_kernel"] == "FlashAttention-2 split-KV forward sm90, 64x128 (d=128) in 32 splits"


def test_without_attention_no_tile_has_a_figure() -> None:
    record, _ = levels_record(catalog.find("mamba-130m").base, prefill(9), H200)
    assert record["smem_bytes_fused"] is record["matmul_flops_executed"] is record["device_kernel"] is None
    assert record["dram_reread_bytes_fused"] == 0 < record["l2_to_sm_bytes_fused"]


def test_experts_drawn_at_random_say_in_which_order_they_are_taken() -> None:
    moe = catalog.find("mixtral-8x7b").base
    drawn, balanced = (replace(prefill(9), routing=routing) for routing in (Routing("random", 1), BALANCED))
    keys = {"dram_bytes_fused", "dram_bytes_unfused"}
    assert {key for key, why in levels_record(moe, drawn, H200)[1].items() if EXPERTS_ORDER in why} == keys
    assert not any(EXPERTS_ORDER in why for why in levels_record(moe, balanced, H200)[1].values())
    assert not any(EXPERTS_ORDER in why for why in levels_record(llama_3_8b(), drawn, H200)[1].values())


def test_no_kernel_reads_packed_keys_and_values() -> None:
    """Of an fp8 cache no tile is known: it would have to be read in the 16 bits that the kernel is compiled for."""
    fp8 = Dtypes(kv_cache="fp8")
    assert len(levels_of(run(llama_3_8b(), decode(4096, dtypes=fp8), FUSED), H200).untiled) == 32
    record, why = levels_record(llama_3_8b(), decode(4096, dtypes=fp8), H200)
    assert record["l2_to_sm_bytes_fused"] is record["smem_bytes_fused"] is record["matmul_flops_executed"] is None
    assert "of the fused kernel flash over fp8 keys no tile is known on h200" in why["dram_bytes_fused"]
    for key in ("compulsory_bytes_fused", "compulsory_bytes_unfused", "dram_bytes_fused", "l2_to_sm_bytes_unfused"):
        assert "no kernel of the reference computes in fp8" in why[key]


def test_one_core_of_two_without_a_tile() -> None:
    """T5's self-attention has a bias; what is known of its cross-attention alone makes no total."""
    found = levels_of(run(t5_small(), prefill(64, source=64), FUSED), H200)
    assert any(path.endswith("attn.core") for path in found.untiled)


def test_refusals() -> None:
    plain = run(llama_3_8b(), prefill(9), FUSED)
    with pytest.raises(InputError, match=r"last-level cache of gb200 is not known .* known of a10, a100"):
        levels(plain, find("gb200"))
    with pytest.raises(InputError, match="kernels are compiled for on h200 is not known"):
        levels(plain, replace(H200, architecture=None))
    with pytest.raises(InputError, match="kernels of a CUDA device"):
        levels(run(llama_3_8b(), prefill(9, dtypes=FP32), Execution(attention="fused", kernels="cpu")), H200)
    with pytest.raises(InputError, match="use eager"):
        levels(run(llama_3_8b(), prefill(9), Execution(attention="fused", grouping="compiled")), H200)
    step = replace(prefill(9), phase="train", objective="causal-lm", loss_tokens=9)
    with pytest.raises(InputError, match="prefill and decode"):
        levels(run(llama_3_8b(), step, FUSED), H200)


def test_fused_attention_grows_with_the_tokens_and_unfused_with_their_square() -> None:
    """Without a cache that keeps anything: q, k, v and the output in memory, or T x S scores as well."""
    spec, small = llama_3_8b(), caching(1)
    path = "layers.0.attn.core"
    fused = [levels_at(spec, n, device=small).dram[path] for n in (4096, 8192, 16_384)]
    assert fused[2] - fused[1] == 2 * (fused[1] - fused[0]) == 8192 * (2 * 32 + 2 * 8) * 128 * 2 + 2 * 4 * 32 * 4096
    unfused = [levels_at(spec, n, execution=UNFUSED, device=small).dram[path] for n in (4096, 8192, 16_384)]
    assert 3.7 < unfused[1] / unfused[0] < unfused[2] / unfused[1] < 4
    through = [levels_at(spec, n, device=small).l2_to_sm[path] for n in (4096, 8192, 16_384)]
    assert 3.7 < through[1] / through[0] < through[2] / through[1] < 4


def op_level(prediction: Prediction) -> int:
    return prediction.cost.hbm_bytes


@settings(max_examples=25)
@given(
    heads=st.sampled_from([(2, 2), (4, 1), (8, 2)]),
    width=st.sampled_from([32, 64, 128]),
    tokens=st.integers(1, 400),
    batch=st.integers(1, 3),
    step=st.booleans(),
    execution=st.sampled_from([FUSED, UNFUSED]),
    capacities=st.lists(st.integers(0, 2**24), min_size=2, max_size=4),
)
def test_levels_are_in_order_and_fall_with_the_cache(
    heads: tuple[int, int],
    width: int,
    tokens: int,
    batch: int,
    step: bool,
    execution: Execution,
    capacities: list[int],
) -> None:
    spec = single(Gqa(n_heads=heads[0], n_kv_heads=heads[1], head_dim=width), d=64)
    prediction = run(spec, decode(tokens, batch=batch) if step else prefill(tokens, batch=batch), execution)
    above = op_level(prediction)
    for capacity in sorted(capacities):
        found = levels_of(prediction, caching(capacity))
        assert found.compulsory.total() <= found.dram.total() <= above
        above = found.dram.total()
    boundless = levels_of(prediction, caching(2**50))
    assert boundless.dram == boundless.compulsory
    assert levels_of(prediction, caching(0)).dram.total() == op_level(prediction)


def test_rows_of_a_bias_table_pass_the_cache_by() -> None:
    """They move whatever it holds, and are all that an op reads of the table."""
    spec = single(Gqa(n_heads=2, n_kv_heads=2, head_dim=32), position=T5Bias(n_buckets=8, max_distance=16), d=64)
    prediction = run(spec, prefill(100), UNFUSED)
    assert levels_of(prediction, caching(0)).dram.total() == op_level(prediction)
