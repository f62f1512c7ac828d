"""The record of `count`: its keys, its derived figures, and what it says is unconfirmed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llmprof.errors import InputError
from llmprof.predict.api import predict
from llmprof.predict.record import count_record, keeps_in_kv_dtype
from llmprof.spec.arch import Gqa, Linear
from llmprof.workload import Dtypes, NotApplicable
from tests.predict_samples import (
    FP32,
    FUSED,
    bert_base,
    decode,
    gpt2,
    llama_2_70b,
    llama_3_8b,
    prefill,
    single,
    t5_small,
)

KEYS = [
    "name",
    "variant",
    "phase",
    "batch",
    "new_tokens",
    "context",
    "source_tokens",
    "prefix_tokens",
    "logits",
    "routing",
    "latent",
    "mtp",
    "params_total",
    "params_embedding",
    "params_non_embedding",
    "params_active",
    "params_mtp",
    "matmul_flops_dense",
    "matmul_flops_dense_unfused",
    "matmul_flops_causal",
    "matmul_flops_dense_per_token",
    "vector_flops",
    "kv_cache_bytes",
    "kv_cache_bytes_self",
    "kv_cache_bytes_cross",
    "kv_cache_bytes_per_token",
    "recurrent_state_bytes",
    "weight_bytes",
    "weight_bytes_released",
    "weight_bytes_released_mtp",
    "activation_peak_bytes_fused",
    "activation_peak_bytes_unfused",
    "total_bytes_fused",
    "total_bytes_unfused",
    "hbm_bytes_fused",
    "hbm_bytes_unfused",
    "experts_touched",
    "experts_expected",
    "hbm_bytes_expected_fused",
    "hbm_bytes_expected_unfused",
    "hbm_level",
    "grouping",
    "unfused_reference",
    "fused_kernel",
    "sram_bytes_fused",
    "sram_kernel",
    "sram_tile_footprint_bytes",
    "arithmetic_intensity_fused",
    "arithmetic_intensity_unfused",
    "weight_dtype",
    "activation_dtype",
    "kv_dtype",
    "unconfirmed",
]


def test_keys_and_their_order() -> None:
    assert list(count_record(gpt2(), prefill(8))) == KEYS


def test_llama_2_70b() -> None:
    record = count_record(llama_2_70b(), prefill(128))
    linears = 80 * (2 * 8192 * 8192 + 2 * 8192 * 1024 + 3 * 8192 * 28672) + 32000 * 8192
    attention = 80 * 2 * 2 * 64 * 128 * 128 * 128
    assert record["matmul_flops_dense"] == 2 * 128 * linears + attention == 17_633_525_104_640
    causal = attention * (128 * 129 // 2) // (128 * 128)
    assert record["matmul_flops_causal"] == 2 * 128 * linears + causal
    assert record["matmul_flops_dense_per_token"] == 17_633_525_104_640 // 128
    assert record["weight_bytes"] == 2 * 68_976_648_192
    assert record["kv_cache_bytes_per_token"] == 327_680
    assert record["kv_cache_bytes"] == 128 * 327_680


@pytest.mark.parametrize(
    ("workload", "flops"),
    [(prefill(128, source=128), 16_089_350_144), (decode(128, source=127), 80_072_704)],
    ids=["prefill", "decode"],
)
def test_t5_small(workload: object, flops: int) -> None:
    record = count_record(t5_small(), workload)  # type: ignore[arg-type]
    assert record["matmul_flops_dense"] == flops
    assert record["kv_cache_bytes_per_token"] == 6 * 2 * 8 * 64 * 2 == 12_288
    assert record["fused_kernel"] == "mixed: flash, efficient"  # cross-attention has no bias


def test_gpt2_decode() -> None:
    record = count_record(gpt2(), decode(128))
    assert record["matmul_flops_dense"] == 2 * (85_056_000 - 12 * 9 * 768 - 12 * 4 * 768 - 2 * 768 + 50257 * 768) + (
        12 * 2 * 2 * 128 * 768
    )
    assert record["matmul_flops_dense"] == record["matmul_flops_causal"] == 251_782_656


def test_an_encoder_has_no_cache() -> None:
    record = count_record(bert_base(), prefill(128))
    assert record["kv_cache_bytes"] == record["kv_cache_bytes_per_token"] == 0
    assert record["matmul_flops_dense"] == 28_499_116_032


def test_totals_and_ratios() -> None:
    record = count_record(llama_3_8b(), prefill(64, logits="last"))
    for reference in ("fused", "unfused"):
        parts = ("weight_bytes", "kv_cache_bytes", f"activation_peak_bytes_{reference}")
        assert record[f"total_bytes_{reference}"] == sum(record[part] for part in parts)
        ratio = record["matmul_flops_dense"] / record[f"hbm_bytes_{reference}"]
        assert record[f"arithmetic_intensity_{reference}"] == ratio
    assert (record["hbm_level"], record["unfused_reference"]) == ("op-level", "lean-eager")
    # The output matrix runs for one of 64 tokens: 2 x 4096 x 128256 / 64 is whole, so this is an integer.
    assert record["matmul_flops_dense_per_token"] * 64 == record["matmul_flops_dense"]
    odd = count_record(gpt2(), prefill(7, logits="last"))
    assert isinstance(odd["matmul_flops_dense_per_token"], float)


def test_unconfirmed_says_why() -> None:
    always = {"vector_flops", "sram_bytes_fused", "sram_tile_footprint_bytes"}
    assert set(count_record(gpt2(), prefill(8))["unconfirmed"]) == always
    traffic = {
        f"{name}_{reference}"
        for name in ("hbm_bytes", "arithmetic_intensity", "activation_peak_bytes", "total_bytes")
        for reference in ("fused", "unfused")
    }
    packed = count_record(gpt2(), prefill(8, dtypes=Dtypes(weights="int4", kv_cache="fp8")))
    assert set(packed["unconfirmed"]) == {"vector_flops"} | traffic  # and no kernel has shared memory for packed keys
    assert "int4 and fp8" in packed["unconfirmed"]["hbm_bytes_fused"]
    capped = count_record(single(Gqa(n_heads=2, n_kv_heads=2, head_dim=8, softcap=30.0)), prefill(8))
    assert set(capped["unconfirmed"]) == always | {name for name in traffic if name.endswith("_fused")}


def test_sram_is_null_in_fp32() -> None:
    record = count_record(gpt2(), prefill(8, dtypes=FP32))
    assert record["sram_bytes_fused"] is record["sram_kernel"] is record["sram_tile_footprint_bytes"] is None
    assert "sram_bytes_fused" not in record["unconfirmed"]


def test_dtypes_are_named_as_they_were_asked_for() -> None:
    dtypes = Dtypes(weights="int8", activations="fp16", kv_cache="tf32")
    record = count_record(gpt2(), prefill(8, dtypes=dtypes))
    assert (record["weight_dtype"], record["activation_dtype"], record["kv_dtype"]) == ("int8", "fp16", "tf32")


def test_what_cannot_be_run_raises() -> None:
    with pytest.raises(NotApplicable):
        count_record(bert_base(), decode(5))
    with pytest.raises(InputError):
        count_record(gpt2(), prefill(2000))
    with pytest.raises(InputError):
        count_record(gpt2(), replace(prefill(8), context=4))


def test_the_dtype_of_a_cache_that_is_not_there_makes_nothing_unconfirmed() -> None:
    int8 = Dtypes(kv_cache="int8")
    assert set(count_record(bert_base(), prefill(8, dtypes=int8))["unconfirmed"]) <= {
        "vector_flops",
        "sram_bytes_fused",
        "sram_tile_footprint_bytes",
    }
    assert "total_bytes_fused" in count_record(gpt2(), prefill(8, dtypes=int8))["unconfirmed"]


def test_what_is_kept_in_the_dtype_of_the_cache() -> None:
    fp32 = Dtypes(kv_cache="fp32")
    linear, gqa = Linear(n_heads=2, head_dim=8, chunk=4), Gqa(n_heads=2, n_kv_heads=2, head_dim=8)
    for spec, workload, kept in (
        (single(gqa), prefill(8, dtypes=fp32), True),
        (single(linear), prefill(8, dtypes=fp32), False),  # its state is in bf16, as the activations
        (bert_base(), prefill(8, dtypes=fp32), False),
        (t5_small(), prefill(8, source=8, dtypes=fp32), True),
    ):
        assert keeps_in_kv_dtype(predict(spec, workload, FUSED)) is kept
