"""Faults planted in the formulas of times: each makes arithmetic by hand come out otherwise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from llmprof.latency import attention, collective, common, gemm, mla, moe, routing
from tests.faults import planted
from tests.unit import test_latency_kernels as kernels
from tests.unit import test_latency_routing as loads

FAULTS: list[tuple[Callable[..., Any], str, str, Callable[[], None]]] = [
    (
        common.overlapped,
        "long * (1 +",
        "long * (2 +",
        kernels.test_a_product_takes_its_start_its_smallest_tile_and_its_bytes,
    ),
    (
        common.waves,
        "max(tiles_per_unit, 1.0)",
        "tiles_per_unit",
        kernels.test_waves_overlap_and_what_is_kept,
    ),
    (common.waves, "ceil(tiles_per_unit)", "tiles_per_unit", kernels.test_waves_overlap_and_what_is_kept),
    (gemm._searched, "q * ceil(tiles))", "q * tiles)", kernels.test_a_product_of_two_waves_takes_twice_as_long),
    (common.kept, "1 / (1 +", "0 / (1 +", kernels.test_a_warm_weight_is_read_from_the_cache),
    (gemm.seconds, "op.k * op.n * ew", "op.k * op.m * ew", kernels.test_a_product_of_two_waves_takes_twice_as_long),
    (
        gemm._tiles,
        "2.0 * tm * tn / rate",
        "tm * tn / rate",
        kernels.test_a_product_takes_its_start_its_smallest_tile_and_its_bytes,
    ),
    (gemm._searched, "depth * per", "k * per", kernels.test_a_split_pays_where_the_contraction_is_long),
    (gemm._searched, "8.0 * s *", "4.0 * s *", kernels.test_a_split_pays_where_the_contraction_is_long),
    (gemm._by_rows, "ceil(rows / cluster)", "ceil(rows / tm)", kernels.test_a_kernel_chosen_by_rows_fills_its_cluster),
    (gemm._quantising, "(2 + ex)", "(1 + ex)", kernels.test_rounding_the_input_reads_it_in_bf16_and_writes_it_in_fp8),
    (
        attention.decode_seconds,
        "min(op.context, op.window) if op.window",
        "op.context if op.window",
        kernels.test_a_window_cuts_what_is_read,
    ),
    (
        attention.decode_seconds,
        "2.0 * op.batch * s * op.kv_heads",
        "2.0 * op.batch * s * op.heads * 2",
        kernels.test_a_decode_step_takes_its_block_its_keys_and_its_cache,
    ),
    (
        attention.decode_seconds,
        "ceil(r / 16) * 16",
        "ceil(r)",
        kernels.test_a_decode_step_takes_its_block_its_keys_and_its_cache,
    ),
    (
        attention.decode_seconds,
        "op.kv_heads > 1 and r > 1",
        "op.kv_heads > 1 and r > 99",
        kernels.test_grouped_heads_are_repacked_by_the_kernel_that_must,
    ),
    (
        attention.prefill_seconds,
        "tau + most * per_key",
        "tau + keys * per_key",
        kernels.test_a_prompt_takes_its_longest_tile_its_bytes_and_its_cache_write,
    ),
    (
        attention.prefill_seconds,
        "4.0 * b * s * op.heads * d",
        "2.0 * b * s * op.heads * d",
        kernels.test_a_prompt_takes_its_longest_tile_its_bytes_and_its_cache_write,
    ),
    (
        attention.prefill_seconds,
        "b * op.kv_heads * ceil(s * r / ROWS)",
        "b * op.heads * ceil(s / ROWS)",
        kernels.test_heads_that_share_keys_share_tiles_where_the_kernel_packs,
    ),
    (
        mla.projected,
        "dims.nope_dim + dims.value_dim",
        "dims.nope_dim",
        kernels.test_latent_attention_reads_one_latent_for_all_heads,
    ),
    (
        mla.decode_seconds,
        "max(op.heads, LEAST_HEADS)",
        "op.heads",
        kernels.test_latent_attention_reads_one_latent_for_all_heads,
    ),
    (
        mla.prefill_seconds,
        '(op.new_tokens + c["tile"]) / 2',
        "op.new_tokens",
        kernels.test_prompts_see_half_of_themselves,
    ),
    (moe.seconds, "matrices - 1", "matrices", kernels.test_a_gate_is_a_third_matrix),
    (moe.seconds, "width % ALIGNED", "width % 2", kernels.test_a_width_that_vectors_do_not_divide_takes_longer),
    (moe.seconds, "op.ep > 1", "op.ep > 9", kernels.test_divided_experts_are_fewer_and_start_later),
    (moe.seconds, 'form == "all-pairs"', 'form == "none"', kernels.test_divided_experts_are_fewer_and_start_later),
    (
        routing._busiest,
        "max(groups, key=sum)",
        "groups[0]",
        loads.test_a_power_law_has_fewer_active_experts_and_a_busier_device,
    ),
    (collective.seconds, 'c["link"] * GIGA', 'c["link"]', kernels.test_links_that_are_twice_as_fast_halve_the_slope),
]


@pytest.mark.parametrize(
    ("function", "old", "new", "check"), FAULTS, ids=[f"{f.__name__}: {new}" for f, _, new, _ in FAULTS]
)
def test_a_planted_fault_shows(function: Callable[..., Any], old: str, new: str, check: Callable[[], None]) -> None:
    check()
    _forget()
    try:
        with planted(function, old, new), pytest.raises(AssertionError):
            check()
    finally:
        _forget()


def _forget() -> None:
    for remembered in (routing.load, routing._shares, gemm._tiles, gemm._sizes):
        remembered.cache_clear()
