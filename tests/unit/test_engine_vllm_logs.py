"""vLLM's pages and groups against the logs that real servers printed (docs/engines.md)."""

from __future__ import annotations

import pytest

from llmprof import catalog
from llmprof.engines.api import VllmSetting
from llmprof.engines.vllm import tokens_in, vllm_cache
from llmprof.spec.arch import ArchSpec, GatedDeltaNet, Gqa, Mamba2, ShortConv
from tests.unit.engine_archs import at, decoder, layer
from tests.unit.engine_archs import vllm_reasons as reasons

GIB = 2**30


def named(name: str) -> ArchSpec:
    (arch,) = catalog.resolve([name], variant=None, all_variants=False)
    return arch


def test_the_log_of_llama_3_1_8b() -> None:
    """vLLM 0.19.0: "Available KV cache memory: 5.29 GiB", "GPU KV cache size: 43,296 tokens" (2,706 pages of 16)."""
    arch = named("llama-3.1-8b")
    assert tokens_in(arch, at(1), 2706 * 16 * 131_072) == 43_296
    assert tokens_in(arch, at(1), 2706 * 16 * 131_072 - 1) == 43_280
    assert round(2706 * 16 * 131_072 / GIB, 2) == 5.29


@pytest.mark.parametrize(("gib", "blocks"), [(3.81, 1952), (2.89, 1478)])
def test_an_older_log_of_llama_3_1_8b(gib: float, blocks: int) -> None:
    """https://github.com/vllm-project/vllm/issues/10517, read 2026-11-24: kv_cache_size and "GPU blocks"."""
    arch = named("llama-3.1-8b")
    least, most = int((gib - 0.005) * GIB), int((gib + 0.005) * GIB)
    assert tokens_in(arch, at(1), least) <= 16 * blocks <= tokens_in(arch, at(1), most)
    assert tokens_in(arch, at(1), most) - tokens_in(arch, at(1), least) <= 16 * 6, "the log must decide something"


def test_the_log_of_gemma_3_1b() -> None:
    """vLLM 0.13.0: 25.39 GiB, "Add 2 padding layers, may waste at most 9.09%", 950,864 tokens, 461.21x of 2,048 tokens."""
    arch = named("gemma-3-1b")
    for blocks in (416_007, 416_009):
        assert tokens_in(arch, at(1), blocks * 4 * 16_384) == 950_864
        assert round(blocks * 4 * 16_384 / GIB, 2) == 25.39
        # A request of 2,048 tokens may take 128 blocks, and 129 in each of the six groups of windows.
        assert round(blocks / (128 + 6 * 129), 2) == 461.21
    assert tokens_in(arch, at(1), 416_003 * 4 * 16_384 - 1) == 950_848
    assert reasons(arch, context=2048) == {"padding layers of groups": 2 * 16_384 * 32}


QWEN3_NEXT = decoder(
    *(
        [layer(GatedDeltaNet(n_heads=32, n_key_heads=16, key_dim=128, value_dim=128, chunk=64, d_conv=4))] * 3
        + [layer(Gqa(n_heads=16, n_kv_heads=2, head_dim=256))]
    )
    * 12,
    d_model=2048,
)


def test_the_log_of_qwen3_next_80b_on_two_devices() -> None:
    """vLLM 0.10.2: block size 544, mamba pages padded by 1.49%, 44.59 GiB a device: 973,760 tokens."""
    setting = VllmSetting(tensor_parallel=2)
    found = vllm_cache(QWEN3_NEXT, at(262_144), setting)
    assert found.setting == "pages of 544 tokens in 4 groups, 2 devices together"
    assert tokens_in(QWEN3_NEXT, at(1), int(44.59 * GIB), setting) == 973_760
    differences = {each.reason: each.nbytes for each in found.state_differences}
    filled = differences.pop("states filled up to a page")
    assert round(100 * filled / (found.recurrent_state_bytes - filled), 2) == 1.49
    assert differences == {"states in the activations' dtype": -36 * 32 * 128 * 128 * 2}
    pages = -(-262_144 // 544)
    assert found.kv_cache_bytes == 12 * pages * 544 * 2 * 2 * 256 * 2


def test_block_sizes_that_hybrids_get() -> None:
    """672: https://github.com/vllm-project/vllm/issues/24280; 784 and 544: LMCache's guide (states in fp32); all read 2026-11-24."""
    nano = decoder(
        layer(Mamba2(n_heads=128, head_dim=80, d_state=128, n_groups=8, chunk=128, norm_groups=8, d_conv=4)),
        layer(Gqa(n_heads=40, n_kv_heads=8, head_dim=128)),
    )
    assert vllm_cache(nano, at(9)).setting.startswith("pages of 672 tokens")
    wide = VllmSetting(state_dtype="fp32")
    for heads, kv_heads, tokens in ((48, 4, 784), (16, 2, 544)):
        qwen = decoder(
            layer(GatedDeltaNet(n_heads=heads, n_key_heads=16, key_dim=128, value_dim=128, chunk=64, d_conv=4)),
            layer(Gqa(n_heads=kv_heads * 4, n_kv_heads=kv_heads, head_dim=256)),
        )
        assert vllm_cache(qwen, at(9), wide).setting.startswith(f"pages of {tokens} tokens")


def test_padding_layers_of_lfm_2() -> None:
    """A log of LFM2.5-1.2B: "Add 2 padding layers, may waste at most 20.00%": 10 convolutions, 6 attentions."""
    arch = decoder(
        *[layer(ShortConv(d_conv=3))] * 10, *[layer(Gqa(n_heads=32, n_kv_heads=8, head_dim=64))] * 6, d_model=2048
    )
    page = 16 * 2 * 8 * 64 * 2
    assert reasons(arch, states=True, context=100) == {
        "padding layers of groups": 2 * page,
        "states filled up to a page": 10 * (page - 2048 * 2 * 2),
    }
    assert reasons(arch, context=100) == {"whole pages": 6 * page * 7 - 6 * 100 * 2 * 8 * 64 * 2}
