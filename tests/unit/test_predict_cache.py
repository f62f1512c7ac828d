"""The KV cache: what is stored, what is moved, in each of its regimes. A row of k is K h e = 2 x 8 x 2 = 32 bytes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llmprof.spec.arch import Gqa
from llmprof.workload import Dtypes
from tests.predict_samples import at, decode, gpt2, kinds, llama_2_70b, prefill, run, single, t5_small

GQA = Gqa(n_heads=6, n_kv_heads=2, head_dim=8)
WINDOW = replace(GQA, window=3)
CACHE, CORE = "layers.0.attn.cache", "layers.0.attn.core"
ROW = 32


def test_new_rows_are_written_in_place() -> None:
    assert at(run(single(GQA), prefill(4)), CACHE) == 2 * (4 + 4) * ROW
    assert at(run(single(GQA), decode(1000)), CACHE) == 2 * (1 + 1) * ROW  # not the 999 rows before


def test_a_full_window_takes_one_row_and_is_read_whole() -> None:
    prediction = run(single(WINDOW), decode(9))
    assert at(prediction, CACHE) == 2 * (1 + 1) * ROW
    assert prediction.ledger.at(CORE, "matmul_flops") == 2 * 2 * 6 * 1 * 3 * 8
    assert prediction.ledger.at(f"{CACHE}.k", "kv_cache_bytes") == 3 * ROW


def test_a_fresh_prompt_longer_than_the_window_keeps_its_last_rows() -> None:
    prediction = run(single(WINDOW), prefill(5))
    assert at(prediction, CACHE) == 2 * (3 + 3) * ROW
    assert prediction.ledger.at(CORE, "matmul_flops") == 2 * 2 * 6 * 5 * 5 * 8


@pytest.mark.parametrize(("dtypes", "cast"), [(Dtypes(), 0), (Dtypes(kv_cache="fp16"), 2 + 2)])
def test_a_chunk_reads_past_rows_before_it_overwrites_them(dtypes: Dtypes, cast: int) -> None:
    prediction = run(single(WINDOW), prefill(2, context=9, dtypes=dtypes))
    keys, kept = 2 + 3 - 1, 2
    assert at(prediction, CACHE) == 2 * (cast + 2 * keys + 2 * kept) * ROW
    one = (["cast", "cast"] if cast else []) + ["cat", "copy_"]  # positions 5 and 6 stand in slots 2 and 0: two parts
    assert kinds(prediction, CACHE) == one + one
    assert prediction.ledger.at(CORE, "matmul_flops") == 2 * 2 * 6 * 2 * keys * 8


def test_bytes_per_token() -> None:
    assert run(llama_2_70b(), decode(1)).kv_cache_bytes == 80 * 2 * 8 * 128 * 2 == 327_680
    assert run(gpt2(), decode(1)).kv_cache_bytes == 12 * 2 * 12 * 64 * 2 == 36_864


def test_both_caches_of_a_decoder_and_none_of_an_encoder() -> None:
    prediction = run(t5_small(), decode(10, batch=3, source=7))
    assert prediction.kv_cache_bytes_self == 6 * 2 * 3 * 10 * 512 * 2
    assert prediction.kv_cache_bytes_cross == 6 * 2 * 3 * 7 * 512 * 2
    assert prediction.ledger.at("decoder.layers.5.cross_attn.cache.v", "kv_cache_bytes") == 3 * 7 * 512 * 2
    assert run(single(GQA, mask="bidirectional"), prefill(4)).kv_cache_bytes == 0


def test_cross_keys_are_stored_in_prefill_and_only_read_in_decode() -> None:
    path = "decoder.layers.0.cross_attn"
    first, later = run(t5_small(), prefill(5, source=7)), run(t5_small(), decode(5, source=7))
    assert at(first, f"{path}.cache") == 2 * 2 * 7 * 512 * 2
    assert first.ledger.at(f"{path}.k_proj", "matmul_flops") == 2 * 7 * 512 * 512
    for leaf in ("cache", "k_proj", "v_proj"):
        assert at(later, f"{path}.{leaf}") == 0
    assert later.ledger.at(f"{path}.core", "matmul_flops") == 2 * 2 * 8 * 1 * 7 * 64


def test_a_packed_cache_holds_its_scales() -> None:
    prediction = run(single(GQA), decode(5, dtypes=Dtypes(kv_cache="int4")))
    assert prediction.kv_cache_bytes == 2 * 5 * 2 * (4 + 2)
    assert at(prediction, CACHE) == 2 * (ROW + 2 * (4 + 2))
