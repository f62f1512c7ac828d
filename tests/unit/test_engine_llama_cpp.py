"""llama.cpp's cells and states, against the lines that it prints when it makes them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmprof import catalog
from llmprof.engines.api import engine_cache
from llmprof.errors import InputError
from llmprof.spec.arch import (
    ArchSpec,
    ChannelMix,
    GatedDeltaNet,
    Gqa,
    Indexer,
    Mamba1,
    Mla,
    RgLru,
    RmsNorm,
    Rwkv4,
    ShortConv,
)
from tests.unit.engine_archs import at, decoder, layer

MIB = 2**20
FULL = Gqa(n_heads=8, n_kv_heads=4, head_dim=16)
ROW = 2 * 4 * 16 * 2

QWEN_27B = decoder(
    *(
        [layer(GatedDeltaNet(n_heads=48, n_key_heads=16, key_dim=128, value_dim=128, chunk=64, d_conv=4))] * 3
        + [layer(Gqa(n_heads=24, n_kv_heads=4, head_dim=256))]
    )
    * 16,
    d_model=5120,
)
"""The layers of Qwen3.5-27B, Qwen3.6-27B and Qwen3.8-27B."""

GEMMA_4_12B = decoder(
    *(
        [layer(Gqa(n_heads=16, n_kv_heads=8, head_dim=256, window=1024))] * 5
        + [layer(Gqa(n_heads=16, n_kv_heads=1, head_dim=512))]
    )
    * 8,
    d_model=3840,
)


def differences(arch: ArchSpec, context: int, **more: object) -> dict[str, int]:
    found = engine_cache(arch, at(context, **more), "llama.cpp")  # type: ignore[arg-type]
    return {each.reason: each.nbytes for each in found.kv_differences}


@pytest.mark.parametrize(("kv_dtype", "mib"), [("fp16", 16_384), ("bf16", 16_384), ("int8", 8_704), ("int4", 4_608)])
def test_the_cache_of_a_hybrid_at_262144_cells(kv_dtype: str, mib: int) -> None:
    """ "llama_kv_cache: size = 16384.00 MiB (262144 cells, 16 layers, 1/1 seqs)", 8704.00 in q8_0, 4608.00 in q4_0."""
    # The architecture's own int8 is of gqa alone, so that the hybrid's attention layers are asked by themselves.
    arch = (
        QWEN_27B
        if kv_dtype in ("fp16", "bf16")
        else decoder(*[layer(Gqa(n_heads=24, n_kv_heads=4, head_dim=256))] * 16)
    )
    found = engine_cache(arch, at(262_144, kv_dtype=kv_dtype), "llama.cpp")
    assert found.kv_cache_bytes == mib * MIB
    if kv_dtype == "fp16":
        assert found.own_kv_bytes == found.kv_cache_bytes


def test_the_states_of_a_hybrid() -> None:
    """ "llama_memory_recurrent: size = 149.62 MiB (1 cells, 64 layers, 1 seqs), R (f32): 5.62 MiB, S (f32): 144.00 MiB"."""
    found = engine_cache(QWEN_27B, at(16_384), "llama.cpp")
    convolutions, states = 48 * 3 * 10_240 * 4, 144 * MIB
    assert found.recurrent_state_bytes == convolutions + states
    assert f"{convolutions / MIB:.3f}" == "5.625"
    (difference,) = found.state_differences
    assert (difference.reason, difference.nbytes) == ("convolution states in fp32", convolutions // 2)
    assert engine_cache(QWEN_27B, at(9, batch=4), "llama.cpp").recurrent_state_bytes == 4 * (convolutions + states)


def test_both_caches_of_a_model_with_windows() -> None:
    """q8_0: "136.00 MiB (16384 cells, 8 layers)" and, with -ub 512, "255.00 MiB (1536 cells, 40 layers)"."""
    found = engine_cache(GEMMA_4_12B, at(16_384, kv_dtype="int8"), "llama.cpp")
    assert found.kv_cache_bytes == (136 + 255) * MIB
    assert (
        found.setting == "one cache of 16,384 cells, 1,536 for windows (a batch of 512), K and V in q8_0, states in f32"
    )


def test_published_shapes() -> None:
    """gemma-3-27b at 8,192: 10 layers of all cells, 52 of 1,536."""
    (arch,) = catalog.resolve(["gemma-3-27b"], variant=None, all_variants=False)
    token = 2 * 16 * 128 * 2
    assert engine_cache(arch, at(8192), "llama.cpp").kv_cache_bytes == (10 * 8192 + 52 * 1536) * token


def test_cells_are_a_multiple_of_256() -> None:
    arch = decoder(layer(FULL), layer(FULL))
    assert differences(arch, 256) == {}
    assert differences(arch, 35_000) == {"cells up to a multiple of 256": 2 * 72 * ROW}
    # One cache for all sequences: 3 * 100 tokens in 512 cells.
    assert differences(arch, 100, batch=3) == {"cells up to a multiple of 256": 2 * 212 * ROW}


def test_windows_have_room_for_a_batch() -> None:
    arch = decoder(layer(Gqa(n_heads=8, n_kv_heads=4, head_dim=16, window=1000)))
    assert differences(arch, 4096) == {
        "room for a batch of new tokens beside windows": 512 * ROW,
        "cells up to a multiple of 256": 24 * ROW,
    }
    # No more than the context has.
    assert differences(arch, 1030) == {
        "room for a batch of new tokens beside windows": 30 * ROW,
        "cells up to a multiple of 256": 250 * ROW,
    }
    assert differences(arch, 700) == {"cells up to a multiple of 256": 68 * ROW}
    assert differences(arch, 4096, batch=2) == {
        "room for a batch of new tokens beside windows": 512 * ROW,
        "cells up to a multiple of 256": 48 * ROW,
    }


@given(context=st.integers(1, 5000), window=st.integers(1, 5000), batch=st.integers(1, 3))
def test_the_window_s_cache_is_what_the_source_says(context: int, window: int, batch: int) -> None:
    """size_swa = PAD(min(n_ctx, n_swa * n_seq_max + n_ubatch), 256) with n_ctx = PAD(context of all, 256)."""
    arch = decoder(layer(Gqa(n_heads=8, n_kv_heads=4, head_dim=16, window=window)))
    n_ctx = (batch * context + 255) // 256 * 256
    n_ubatch = min(512, batch * context)
    cells = (min(n_ctx, window * batch + n_ubatch) + 255) // 256 * 256
    found = engine_cache(arch, at(context, batch=batch), "llama.cpp")
    assert found.kv_cache_bytes == cells * ROW
    assert all(each.nbytes > 0 for each in found.kv_differences)


def test_latent_attention_keeps_one_row_and_no_values() -> None:
    mla = Mla(n_heads=8, q_rank=None, kv_rank=64, nope_dim=8, rope_dim=16, value_dim=8, norm=RmsNorm())
    assert engine_cache(decoder(layer(mla)), at(512), "llama.cpp").kv_cache_bytes == 512 * 80 * 2


def test_other_states() -> None:
    inner = decoder(layer(Mamba1(d_conv=4, d_inner=64, d_state=4, dt_rank=2)))
    assert engine_cache(inner, at(9), "llama.cpp").recurrent_state_bytes == (3 * 64 + 4 * 64) * 4
    short = decoder(layer(ShortConv(d_conv=3)), d_model=32)
    assert engine_cache(short, at(9), "llama.cpp").recurrent_state_bytes == 2 * 32 * 4
    assert engine_cache(inner, at(9, dtype="fp32"), "llama.cpp").state_differences == ()


def test_what_it_has_not_is_refused() -> None:
    indexer = Indexer(n_heads=2, head_dim=128, top_k=4)
    mla = Mla(n_heads=8, q_rank=None, kv_rank=64, nope_dim=8, rope_dim=16, value_dim=8, norm=RmsNorm(), indexer=indexer)
    windows = [layer(Gqa(n_heads=8, n_kv_heads=4, head_dim=16, window=window)) for window in (100, 200)]
    chunk = layer(Gqa(n_heads=8, n_kv_heads=4, head_dim=16, chunk=100))
    refused = {
        "the keys of an indexer are not covered": decoder(layer(mla)),
        "layers.0: llama.cpp has no rg-lru": decoder(layer(RgLru(d_conv=4, width=32, n_blocks=4))),
        "layers.0: llama.cpp has no rwkv-4": decoder(layer(Rwkv4(width=32), ffn=ChannelMix(d_ff=48))),
        "but there are window 100 and window 200": decoder(*windows),
        "but there are chunk 100 and window 100": decoder(windows[0], chunk),
    }
    for message, arch in refused.items():
        with pytest.raises(InputError, match=message):
            engine_cache(arch, at(9), "llama.cpp")
    with pytest.raises(InputError, match="sample is an encoder-decoder"):
        engine_cache(decoder(layer(FULL, cross=FULL), encoder=[layer(FULL)]), at(9, source=5), "llama.cpp")
    with pytest.raises(InputError, match=r"no cache in fp8; use fp32, bf16, fp16, int8 \(q8_0\) or int4 \(q4_0\)"):
        engine_cache(decoder(layer(FULL)), at(9, kv_dtype="fp8"), "llama.cpp")
    with pytest.raises(InputError, match="q8_0 keeps blocks of 32 values, and a token has 48"):
        engine_cache(decoder(layer(Gqa(n_heads=6, n_kv_heads=3, head_dim=16))), at(9, kv_dtype="int8"), "llama.cpp")


def test_blocks_have_scales_of_their_own() -> None:
    # The architecture's int8: a scale per head and token, 4 * (16 + 2); q8_0: a scale per 32 values of the 64.
    assert differences(decoder(layer(FULL)), 256, kv_dtype="int8") == {"a scale for every 32 values": -256 * 2 * 4}
