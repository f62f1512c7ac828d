"""The ops of a pass of real architectures, by hand."""

from __future__ import annotations

from collections import Counter

import pytest

from llmprof.errors import InputError
from llmprof.latency.compose import Layout, Precision
from llmprof.latency.compose_layers import SKEW
from llmprof.latency.op import (
    Collective,
    DecodeAttention,
    Elementwise,
    Gemm,
    MlaDecode,
    MlaPrefill,
    Moe,
    Op,
    PrefillAttention,
)
from llmprof.latency.routing import load
from llmprof.sharding import Sharding
from llmprof.workload import Dtypes
from tests.unit.serving_samples import BOTH, PROMPT, STEP, composer, ops


def of(kind: type, found: Counter[Op]) -> dict[Op, int]:
    return {op: times for op, times in found.items() if isinstance(op, kind)}


def test_a_step_of_a_dense_decoder_on_two_devices() -> None:
    # Llama 3.1 8B: 32 layers, d 4096, 32 heads of 128 on 8 of keys, d_ff 14336, vocabulary 128256. Half of each.
    found = ops("llama-3.1-8b", STEP, Layout(tensor=2, group=2))
    assert of(Gemm, found) == {
        Gemm(m=8, n=(16 + 2 * 4) * 128, k=4096): 32,
        Gemm(m=8, n=4096, k=16 * 128): 32,
        Gemm(m=8, n=2 * 7168, k=4096): 32,
        Gemm(m=8, n=4096, k=7168): 32,
        Gemm(m=8, n=64128, k=4096): 1,
    }
    assert of(DecodeAttention, found) == {
        DecodeAttention(batch=8, context=1000, heads=16, kv_heads=4, head_dim=128): 32
    }
    # After attention, after feed-forward, after the embedding; the logits are gathered: 8 x 128256 of 2 bytes.
    assert of(Collective, found) == {
        Collective(bytes=8 * 4096 * 2, devices=2): 65,
        Collective(kind="allgather", bytes=8 * 128256 * 2, devices=2): 1,
    }
    # Two norms a layer and the last read and write 4 x 8 x 4096 of 2 bytes; a rotation reads and writes 20 heads of 128;
    # the gate reads two of 7168 and writes one; the embedding reads and writes; logits are made fp32 and read.
    assert of(Elementwise, found) == {
        Elementwise(bytes=4 * 8 * 4096 * 2): 65,
        Elementwise(bytes=2 * 8 * 20 * 128 * 2): 32,
        Elementwise(bytes=3 * 8 * 7168 * 2): 32,
        Elementwise(bytes=2 * 8 * 4096 * 2): 1,
        Elementwise(bytes=8 * 128256 * 10, kernels=2): 1,
    }


def test_a_pass_of_prompts_and_a_mixed_one() -> None:
    found = ops("llama-3.1-8b", PROMPT)
    assert of(PrefillAttention, found) == {
        PrefillAttention(batch=2, new_tokens=512, prefix=256, heads=32, kv_heads=8, head_dim=128): 32
    }
    assert of(DecodeAttention, found) == {}
    # 1,024 rows in the layers, 2 in the head.
    assert {op.m for op in of(Gemm, found) if isinstance(op, Gemm)} == {1024, 2}
    mixed = ops("llama-3.1-8b", BOTH)
    assert {op.m for op in of(Gemm, mixed) if isinstance(op, Gemm)} == {8 + 512, 8 + 1}
    assert len(of(DecodeAttention, mixed)) == len(of(PrefillAttention, mixed)) == 1


def test_heads_of_keys_are_kept_by_several_devices_where_there_are_fewer() -> None:
    # Qwen2.5 7B: 28 heads on 4 of keys. On 4 devices 7 on 1.
    found = ops("qwen2.5-7b", STEP, Layout(tensor=4, group=4))
    assert {(op.heads, op.kv_heads) for op in of(DecodeAttention, found) if isinstance(op, DecodeAttention)} == {(7, 1)}
    with pytest.raises(InputError, match="8 devices cannot share the heads \\(28\\)"):
        ops("qwen2.5-7b", STEP, Layout(tensor=8, group=8))


def test_windows_and_norms_of_queries() -> None:
    # Gemma 3 27B: five of six layers see 1024 tokens; sandwich norms, four a layer; norms of queries and keys.
    found = ops("gemma-3-27b", STEP)
    windows = {op.window: times for op, times in of(DecodeAttention, found).items() if isinstance(op, DecodeAttention)}
    assert sum(windows.values()) == 62
    assert windows == {1024: 52, 0: 10}
    assert found[Elementwise(bytes=4 * 8 * 5376 * 2)] == 4 * 62 + 1
    assert found[Elementwise(bytes=2 * 8 * (32 + 16) * 128 * 2)] == 2 * 62


def test_a_parallel_block_is_summed_once() -> None:
    # Falcon 40B: attention and feed-forward side by side, one all-reduce a layer, and one of the embedding.
    found = ops("falcon-40b", STEP, Layout(tensor=2, group=2))
    assert found[Collective(bytes=8 * 8192 * 2, devices=2)] == 60 + 1


def test_experts_of_one_group_of_devices() -> None:
    # Qwen3 30B-A3B: 48 layers of 128 experts of 768, 8 a token. On 4 devices by whole experts and by width.
    for layout, tp, ep in ((Layout(tensor=4, group=4), 4, 1), (Layout(tensor=4, group=4, expert=4), 1, 4)):
        found = ops("qwen3-30b-a3b", STEP, layout)
        assert of(Moe, found) == {
            Moe(
                tokens=8,
                experts=128,
                experts_per_token=8,
                d_model=2048,
                d_ff=768,
                tp=tp,
                ep=ep,
                routing="power_law",
                skew=1.01,
            ): 48
        }
        assert found[Gemm(m=8, n=128, k=2048)] == 48  # the router
        assert found[Collective(bytes=8 * 2048 * 2, devices=4)] == 2 * 48 + 1


def test_copies_of_the_attention_send_tokens_to_the_experts_and_back() -> None:
    # Four copies of 8 sequences each: 32 tokens meet the experts.
    found = ops("qwen3-30b-a3b", STEP, Layout(tensor=1, group=4, expert=4))
    experts = Moe(
        tokens=32, experts=128, experts_per_token=8, d_model=2048, d_ff=768, ep=4, routing="power_law", skew=1.01
    )
    assert of(Moe, found) == {experts: 48}
    assert of(Collective, found) == {
        Collective(kind="allgather", bytes=32 * 2048 * 2, devices=4): 48,
        Collective(kind="reducescatter", bytes=32 * 2048 * 2, devices=4): 48,
    }


def test_the_device_with_the_busiest_experts_is_waited_for() -> None:
    """8 of 128 experts for each of 4,096 tokens, on 8 devices: an even part is 4,096 pairs, and one of them has more."""
    even, uneven = (load(4096, 128, 8, 8, skew) for skew in (0.0, SKEW))
    assert even.pairs == 4096
    assert 1.2 * 4096 < uneven.pairs < 3 * 4096
    # Of few tokens' choices on one device several are the same experts: fewer are read.
    assert load(8, 128, 8, 1, SKEW).active < load(8, 128, 8, 1, 0.0).active == 64


def test_latent_attention_and_shared_experts() -> None:
    # DeepSeek-V3: 61 layers, three of them dense; 128 heads on 8 devices; a shared expert of 2048, divided by 8.
    precision = Precision(dense="fp8_block", experts="fp8_block")
    found = ops("deepseek-v3", BOTH, Layout(tensor=8, group=8, expert=8), precision=precision)
    assert {(op.heads, op.batch, times) for op, times in of(MlaDecode, found).items() if isinstance(op, MlaDecode)} == {
        (16, 8, 61)
    }
    assert {op.new_tokens for op in of(MlaPrefill, found) if isinstance(op, MlaPrefill)} == {512}
    assert found[Gemm(m=520, n=2 * 18432 // 8, k=7168, dtype="fp8_block")] == 3
    assert found[Gemm(m=520, n=2 * 2048 // 8, k=7168, dtype="fp8_block")] == 58
    assert found[Gemm(m=520, n=256, k=7168)] == 58  # a router stays in 16 bits
    assert {op.dtype for op in of(Moe, found) if isinstance(op, Moe)} == {"fp8_block"}


def test_stages_of_a_pipeline_send_what_they_have() -> None:
    found = ops("llama-3.1-8b", STEP, Layout(pipeline=4))
    assert of(Collective, found) == {Collective(kind="p2p", bytes=8 * 4096 * 2, devices=2): 3}
    with pytest.raises(InputError, match="33 stages are too many"):
        composer("llama-3.1-8b", Layout(pipeline=33))


def test_an_engine_that_rounds_with_stored_scales_launches_no_kernel_for_it() -> None:
    # Queries, keys and values; what attention gives; gate and up; down. vLLM's attention gives 16 bits.
    cases = {("trtllm", True): (1, 1, 1, 1), ("vllm", True): (1, 0, 1, 1), ("sglang", True): (0, 0, 0, 0)}
    for (engine, static), expected in (cases | {("trtllm", False): (0, 0, 0, 0)}).items():
        found = ops("llama-3.1-8b", STEP, engine=engine, precision=Precision(dense="fp8", static=static))
        packed = {(op.n, op.k): int(op.rounded) for op in found if isinstance(op, Gemm) and op.dtype == "fp8"}
        assert packed == dict(zip([(6144, 4096), (4096, 4096), (28672, 4096), (4096, 14336)], expected, strict=True))


def test_a_release_that_leaves_its_attention_in_16_bits() -> None:
    found = ops("llama-3.1-8b", STEP, precision=Precision(dense="fp8", attention="bf16"))
    # Queries, keys and values 4096 + 2 x 1024 wide, and the output's 4096; 2 x 14336 of gate and up, and down.
    assert {(op.n, op.k): op.dtype for op in found if isinstance(op, Gemm)} == {
        (6144, 4096): "bf16",
        (4096, 4096): "bf16",
        (28672, 4096): "fp8",
        (4096, 14336): "fp8",
        (128256, 4096): "bf16",
    }


def test_an_engine_that_joins_norms_to_all_reduces_has_one_left() -> None:
    two = Layout(tensor=2, group=2)
    norm = 4 * 8 * 4096 * 2
    assert ops("llama-3.1-8b", STEP, two, engine="trtllm")[Elementwise(bytes=norm)] == 1
    assert ops("llama-3.1-8b", STEP, two, engine="vllm")[Elementwise(bytes=norm)] == 65
    assert ops("llama-3.1-8b", STEP, engine="trtllm")[Elementwise(bytes=norm)] == 65


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("mamba2-2.7b", "attention of kind mamba-2"),
        ("t5-base", "is of structure encoder-decoder"),
        ("deepseek-v3.2", "latent attention with an indexer"),
        ("falcon-h1-0.5b", "a mixer \\(mamba-2\\) beside its attention"),
    ],
)
def test_what_has_no_times_is_refused(name: str, text: str) -> None:
    with pytest.raises(InputError, match=text):
        composer(name).time(STEP)


def test_layouts_and_formats_of_a_deployment() -> None:
    assert Layout.of(Sharding(tensor_parallel=4, data_parallel=2, expert_parallel=8)) == Layout(
        tensor=4, group=8, expert=8
    )
    assert Layout.of(Sharding(tensor_parallel=8, expert_parallel=4)).expert_tensor == 2
    with pytest.raises(InputError, match="context_parallel is 2"):
        Layout.of(Sharding(context_parallel=2))
    with pytest.raises(InputError, match="expert_parallel is 6"):
        Layout.of(Sharding(tensor_parallel=4, expert_parallel=6))
    assert Precision.of(Dtypes(weights="int4", kv_cache="fp8")) == Precision(
        dense="int4", experts="int4", kv_cache="fp8"
    )
    with pytest.raises(InputError, match="no times are known for tensors in fp32"):
        Precision.of(Dtypes(weights="fp32"))


def test_queries_without_a_bottleneck_have_the_weights_of_one_product() -> None:
    # DeepSeek-V2-Lite: 2048 x 16 heads of 192. q (2048 + 3072) = 2048 x 3072: q = 1228.8.
    (op,) = of(MlaDecode, ops("deepseek-v2-lite", STEP))
    assert isinstance(op, MlaDecode)
    assert op.dims.query_rank == 1229
