"""The memory of a deployment's fullest device: against hand arithmetic, against count, and against what vLLM printed."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from llmprof import catalog
from llmprof.device import find
from llmprof.engines.vllm import VllmSetting, vllm_cache
from llmprof.errors import InputError
from llmprof.lengths import default_source
from llmprof.planning import assumptions, caches, overheads
from llmprof.planning.assumptions import DRIVER_TOTALS, GIB, MIB, VllmVersion
from llmprof.planning.experts import dense_values, expert_values, hidden_states
from llmprof.planning.footprint import footprint
from llmprof.planning.memory import Deployment, memory_bar
from llmprof.planning.overheads import Overheads
from llmprof.planning.sampler import sampling_bytes
from llmprof.planning.terms import MemoryBar
from llmprof.predict.api import predict
from llmprof.predict.sharding.api import sharded_as
from llmprof.sharding import Sharding
from llmprof.spec.arch import ArchSpec, Gqa
from llmprof.workload import Dtypes, Execution, Phase, StorageDtype, Workload
from tests.unit.engine_archs import decoder, layer


def named(name: str) -> ArchSpec:
    (arch,) = catalog.resolve([name], variant=None, all_variants=False)
    return arch


def on(device: str, **deployment: object) -> Deployment:
    return Deployment(device=find(device), **deployment)  # type: ignore[arg-type]


def terms(bar: MemoryBar) -> dict[str, int]:
    return {term.name: term.bytes for term in bar.terms}


# --- by hand ------------------------------------------------------------------------------------


def test_llama_3_1_8b_on_an_h100() -> None:
    """8,030,261,248 parameters; 32 layers of 8 heads of 128, keys and values, in bf16: 131,072 bytes a token."""
    bar = memory_bar(named("llama-3.1-8b"), on("h100-sxm"), sequences=64, tokens=4100, chunk_tokens=8192)
    found = terms(bar)
    assert bar.capacity_bytes == 7918 * GIB // 100
    assert found["weights"] == 2 * 8_030_261_248
    assert found["kv cache"] == 64 * 4100 * 131_072
    assert found["kv pages"] == 64 * 12 * 131_072, "4,100 tokens lie in 257 pages of 16"
    assert found["page never given out"] == 16 * 131_072
    # Gate, up, activated gate and product; residual stream, norm and its input; tokens. Prompts are packed in pieces of
    # 256, which share two angles for each rotation.
    assert found["activations"] == 8192 * (2 * (4 * 14336 + 3 * 4096) + 8) + 256 * 2 * 2 * 128
    assert found["logits"] == 0, "64 rows of them take less than the layers did"
    assert found["library workspaces"] == 32 * MIB
    assert found["communication"] == 0
    # vLLM 0.33.0 requests 92 of a hundred; the context lies in the rest, and graphs do not.
    unrequested = bar.capacity_bytes - -(-bar.capacity_bytes * 92 // 100)
    assert found["kept free by the engine"] == unrequested - found["runtime context"]
    assert sum(found.values()) + bar.free_bytes == bar.capacity_bytes


@pytest.mark.parametrize("version", ["0.11.0", "0.19.0"])
def test_older_versions_request_less_and_leave_graphs_out(version: VllmVersion) -> None:
    deployment = on("h100-sxm", vllm_version=version)
    bar = memory_bar(named("llama-3.1-8b"), deployment, sequences=64, tokens=4100, chunk_tokens=8192)
    unrequested = bar.capacity_bytes - math.ceil(bar.capacity_bytes * 9 / 10)
    inside = bar.bytes_of("runtime context") + bar.bytes_of("graphs")
    assert bar.bytes_of("kept free by the engine") == unrequested - inside
    # Where less is left than lies in it, nothing more is kept free.
    small = on("h100-sxm", vllm_version=version, memory_bytes=10 * GIB)
    bar = memory_bar(named("llama-3.2-1b"), small, sequences=1, tokens=4, chunk_tokens=4)
    assert bar.bytes_of("kept free by the engine") == 0


@pytest.mark.parametrize(
    ("rows", "version", "units", "each"),
    [
        # Logits in bf16, their copy in fp32 (6), then sorted values, indices, indices beside, and cub's of both.
        (1, "0.11.0", None, 38),
        (1024, "0.11.0", None, 38 * 1024),
        # All rows at once: pairs in two buffers, a copy of the values, and cub's of values and pairs.
        (2, "0.11.0", None, 50 * 2),
        (127, "0.11.0", None, 50 * 127),
        # 128 rows alone take 38 * 128 = 4,864, but 127 of them are met on the way.
        (128, "0.11.0", None, 50 * 127),
        (7, "0.19.0", 132, 50 * 7),
        # 8 * (6 + 8) and 8 rows of fp32 are 144: seven rows take more.
        (8, "0.19.0", 132, 50 * 7),
        # 256 rows for the powers of two, but not more than SMs.
        (256, "0.19.0", 132, 256 * 14 + 132 * 4),
        (100, "0.19.0", 132, 100 * 14 + 128 * 4),
        (300, "0.19.0", None, 300 * 14 + 512 * 4),
        (1, "0.33.0", 132, 14),
        (300, "0.33.0", None, 300 * 14),
    ],
)
def test_bytes_that_a_sampler_holds_of_each_entry_of_the_vocabulary(
    rows: int, version: VllmVersion, units: int | None, each: int
) -> None:
    assert sampling_bytes(rows, 1000, 2, version, units) == 1000 * each


def test_logits_in_fp32_are_not_copied() -> None:
    assert sampling_bytes(1024, 10, 4, "0.11.0", None) == 10 * 1024 * 36


# --- what vLLM printed --------------------------------------------------------------------------

LLM_D = (7918, "0.11.0", 1024, 8192)
"""H100 of 79.18 GiB, vLLM 0.11.0's own 1,024 sequences and 8,192 tokens: docs/empirical-vllm-memory-results.md of
llm-d-planner at e50305af90f0812e77e1827f3bc740fe75b76370."""


@pytest.mark.parametrize(
    ("name", "devices", "start", "printed"),
    [
        ("llama-3.1-8b", 1, LLM_D, 4.76),
        ("qwen3-0.6b", 1, LLM_D, 5.56),
        ("qwen3-32b", 1, LLM_D, 5.64),
        ("qwen3-32b", 2, LLM_D, 5.64),
        ("llama-3.1-70b", 2, LLM_D, 4.84),
        ("gpt-oss-20b", 1, LLM_D, 7.38),
        ("gpt-oss-120b", 1, LLM_D, 7.38),
        # https://github.com/vllm-project/vllm/pull/10511: 256 sequences, 8,192 tokens.
        ("llama-3-8b", 1, (7922, "0.11.0", 256, 8192), 1.26),
        ("llama-3-8b", 2, (7922, "0.11.0", 256, 8192), 1.26),
    ],
)
def test_peaks_of_activations_that_vllm_printed(
    name: str, devices: int, start: tuple[int, VllmVersion, int, int], printed: float
) -> None:
    """What torch allocates beside the weights: activations, sampling and cuBLAS. To 0.01 GiB, twice what is rounded.

    The sampler decides all of them. torch rounds every tensor up to 512 bytes, and inputs of a pass are not counted.
    """
    capacity, version, sequences, chunk = start
    deployment = on(
        "h100-sxm",
        memory_bytes=capacity * GIB // 100,
        sharding=Sharding(tensor_parallel=devices),
        vllm_version=version,
    )
    bar = memory_bar(named(name), deployment, sequences=sequences, tokens=2048, chunk_tokens=chunk)
    found = bar.bytes_of("activations") + bar.bytes_of("logits") + bar.bytes_of("library workspaces")
    assert abs(found / GIB - printed) < 0.01


def test_peaks_of_other_devices() -> None:
    """https://github.com/xming521/WeClone/issues/101: 256 sequences, 3,072 tokens, vocabulary 152,064: 1.41 GiB."""
    deployment = on("rtx-4090", vllm_version="0.11.0")
    bar = memory_bar(named("qwen2.5-7b"), deployment, sequences=256, tokens=3072, chunk_tokens=3072)
    found = bar.bytes_of("activations") + bar.bytes_of("logits") + bar.bytes_of("library workspaces")
    assert round(found / GIB, 2) == 1.41


@pytest.mark.parametrize(
    ("name", "devices", "dtype", "weights", "pool"),
    [
        ("llama-3.1-8b", 1, "bf16", 14.99, 51.38),
        ("qwen3-0.6b", 1, "bf16", 1.12, 64.45),
        ("qwen3-32b", 1, "bf16", 61.03, 4.45),
        ("qwen3-32b", 2, "bf16", 30.59, 34.49),
        ("llama-3.3-70b", 2, "fp8", 33.88, 32.00),
        # It did not start: "-1.44 GiB remaining".
        ("llama-3.3-70b", 1, "fp8", 67.72, -1.44),
    ],
)
def test_pools_that_vllm_printed(name: str, devices: int, dtype: StorageDtype, weights: float, pool: float) -> None:
    """The same starts. Weights lack vLLM's tables of rotations (32 MiB for 131,072 positions) and its buffers of a
    replica; non-torch memory is an assumption, the largest that was printed: 0.1 GiB together."""
    capacity, version, sequences, chunk = LLM_D
    sharding, dtypes = Sharding(tensor_parallel=devices), Dtypes(weights=dtype)
    deployment = on("h100-sxm", sharding=sharding, dtypes=dtypes, vllm_version=version)
    assert deployment.capacity_bytes == capacity * GIB // 100
    made = footprint(named(name), deployment, chunk, None)
    (found,) = made.pool(sequences, 2048)
    assert abs(found / GIB - pool) < 0.05
    (held,) = made.model.weights(1)
    assert 0 <= weights - held / GIB < 0.1


def test_where_layers_decide_vllm_holds_less() -> None:
    """Qwen2.5-1.5B, 32,768 tokens: 2.02 GiB printed (vLLM 0.7.2 on a T4). Its activation writes one tensor, not two."""
    bar = memory_bar(named("qwen2.5-1.5b"), on("t4"), sequences=1, tokens=32768, chunk_tokens=32768)
    fewer = 32768 * 8960 * 2
    assert bar.bytes_of("activations") - fewer < 2.02 * GIB < bar.bytes_of("activations")


def test_experts_run_all_at_once() -> None:
    """Mixtral-8x7B on two: 2 experts a token, of 14,336 / 2 values behind their activation, and 4,096 outside."""
    arch, tokens = named("mixtral-8x7b"), 8192
    ask = dict(tokens=1000, chunk_tokens=tokens)
    made = on("h100-sxm", sharding=Sharding(tensor_parallel=2))
    workspaces, hidden = tokens * 2 * 2 * (7168 + 14336), tokens * 2 * 4096
    bar = memory_bar(arch, made, sequences=16, **ask)
    assert bar.bytes_of("activations") == workspaces + 5 * hidden
    assert bar.bytes_of("logits") == 0
    # They are kept while 1,024 rows are sampled: 14 bytes a logit, and of the hidden state those rows twice.
    many = memory_bar(arch, made, sequences=1024, **ask)
    sampled = 1024 * 32_000 * 14 + hidden + 2 * 1024 * 2 * 4096
    assert many.bytes_of("logits") == sampled - 5 * hidden
    # Where four replicas share them each has the tokens of all, and gathers their hidden states.
    wide = on("h200", sharding=Sharding(data_parallel=4, expert_parallel=4))
    found = memory_bar(arch, wide, sequences=16, **ask).bytes_of("activations")
    assert found == 4 * tokens * 2 * 2 * (14336 + 28672) + (4 + 4) * hidden
    for other in (replace(made, engine="architecture"), replace(made, vllm_version="0.11.0")):
        assert memory_bar(arch, other, sequences=16, **ask).bytes_of("activations") < workspaces


def test_hidden_states_weigh_more_where_ranks_share_the_rest() -> None:
    """DeepSeek-R1-Distill-Qwen-32B on eight, 32,768 tokens: 2.20 GiB printed (a public log of vLLM on ROCm).

    Three tensors of 27,648 / 8 values of each token, and five of 5,120; the reference holds 4 of those and 3 of these.
    """
    made = on("mi210", sharding=Sharding(tensor_parallel=8))
    bar = memory_bar(named("qwen2.5-32b"), made, sequences=1, tokens=32768, chunk_tokens=32768)
    assert bar.bytes_of("activations") == 32768 * 2 * (3 * 3456 + 5 * 5120)
    assert round(bar.bytes_of("activations") / GIB, 2) == 2.20
    # Eager starts on one device: a T4, and an RTX 2060 (vLLM 0.8.5, a public log); cuBLAS has its workspace there.
    for name, tokens, printed in (("qwen2.5-1.5b", 32768, 2.02), ("qwen3-4b", 10_000, 0.74)):
        arch = named(name)
        values = dense_values(arch, Sharding())[0] + hidden_states(Sharding()) * arch.d_model
        assert round((2 * tokens * values + 8_519_680) / GIB, 2) == printed
    assert dense_values(named("gpt2"), Sharding(tensor_parallel=2, pipeline_parallel=2)) == (3072, 3072)


@pytest.mark.parametrize(
    ("name", "sharding", "values"),
    [
        ("mixtral-8x7b", Sharding(tensor_parallel=2, expert_parallel=2), (2 * (14336 + 28672),)),
        ("mixtral-8x7b", Sharding(data_parallel=4, expert_parallel=4), (4 * 2 * (14336 + 28672),)),
        ("deepseek-v2-lite", Sharding(tensor_parallel=8), (6 * (2048 + 2048),)),
        ("deepseek-v2-lite", Sharding(pipeline_parallel=27), (0, *[6 * (2048 + 2816)] * 26)),
        ("deepseek-v2-lite", Sharding(pipeline_parallel=2, pipeline_layers=(1, 26)), (0, 6 * (2048 + 2816))),
        ("nemotron-3-super-120b-a12b", Sharding(), (22 * (2688 + 2688),)),
        ("llama-3.1-8b", Sharding(pipeline_parallel=2), (0, 0)),
    ],
)
def test_values_of_the_workspaces_for_a_token(name: str, sharding: Sharding, values: tuple[int, ...]) -> None:
    """The wider of the two sides, each; a latent is what is outside; a dense first layer has none."""
    assert expert_values(named(name), sharding) == values


# --- against count ------------------------------------------------------------------------------


def agrees_with_count(arch: ArchSpec, tokens: int) -> None:
    bar = memory_bar(arch, on("h200", engine="architecture"), sequences=3, tokens=tokens, chunk_tokens=64)
    encoder = arch.structure == "encoder"
    made = predict(
        arch,
        Workload(
            phase="prefill" if encoder else "decode",
            batch=3,
            new_tokens=tokens if encoder else 1,
            context=tokens,
            source_tokens=default_source(arch, tokens) if arch.structure == "encoder-decoder" else 0,
            prefix_tokens=tokens - 1 if arch.structure == "prefix-decoder" else 0,
            logits="none",
        ),
        Execution(attention="fused"),
    )
    assert bar.bytes_of("weights") == made.weight_bytes
    assert bar.bytes_of("kv cache") == made.kv_cache_bytes
    assert bar.bytes_of("recurrent state") == made.recurrent_state_bytes
    assert bar.used_bytes + bar.free_bytes == bar.capacity_bytes
    assert bar.bytes_of("activations") > 0


ALL_KINDS = (
    "llama-3.1-8b",
    "gemma-3-27b",
    "deepseek-v3",
    "mamba-2.8b",
    "recurrentgemma-2b",
    "qwen3-next-80b-a3b",
    "t5-base",
    "whisper-large-v3",
    "bert-base",
    "chatglm-6b",
    "bloom-176b",
    "rwkv-4-169m",
    "gpt2",
    "llama-4-scout-17b-16e",
)


@pytest.mark.parametrize("name", ALL_KINDS)
def test_weights_caches_and_states_are_those_of_count(name: str) -> None:
    arch = named(name)
    agrees_with_count(arch, min(arch.max_context or 1300, 1300))


def test_attention_that_no_engine_has_is_counted_too() -> None:
    found = catalog.resolve(["attention-families"], variant=None, all_variants=True)
    kinds = {arch.main.layers[0].attention.kind: arch for arch in found}
    assert {"sparse", "compressed", "linear"} <= set(kinds)
    for arch in kinds.values():
        agrees_with_count(arch, 300)
    with pytest.raises(InputError, match="no engine that llmprof knows keeps what sparse attention does"):
        memory_bar(kinds["sparse"], on("h200"), sequences=1, tokens=300, chunk_tokens=64)


def test_a_wrong_number_of_heads_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caches, "heads_of_a_device", lambda path, rows, devices: 1)
    arch = decoder(layer(Gqa(n_heads=4, n_kv_heads=2, head_dim=8)))
    with pytest.raises(AssertionError):
        agrees_with_count(arch, 30)


@pytest.mark.parametrize(
    ("name", "tokens", "sequences", "chunk"),
    [
        # A prompt with its angles, packed prompts, and steps decide in turn.
        ("llama-3.1-8b", 5000, 9, 512),
        ("llama-3.1-8b", 100, 9, 512),
        ("mamba-2.8b", 100, 500, 500),
    ],
)
def test_the_largest_of_three_passes_decides(name: str, tokens: int, sequences: int, chunk: int) -> None:
    arch = named(name)

    def peak(phase: Phase, batch: int, new: int, context: int) -> int:
        work = Workload(phase=phase, batch=batch, new_tokens=new, context=context, logits="none")
        return predict(arch, work, Execution(attention="fused")).peak_live_bytes

    new = min(chunk, tokens)
    piece = min(256, chunk)
    peaks = (
        peak("prefill", 1, new, tokens),
        peak("prefill", -(-chunk // piece), piece, piece),
        peak("decode", min(sequences, chunk), 1, tokens),
    )
    bar = memory_bar(arch, on("h200"), sequences=sequences, tokens=tokens, chunk_tokens=chunk)
    assert bar.bytes_of("activations") == max(peaks)
    assert peaks.index(max(peaks)) == {5000: 0, 100: 1}[tokens] + (name == "mamba-2.8b")


def test_replicas_that_share_experts() -> None:
    arch, sharding = named("olmoe-1b-7b"), Sharding(data_parallel=4, expert_parallel=4)
    work = Workload(phase="decode", batch=4 * 3, new_tokens=1, context=100)
    (rank,) = sharded_as(arch, work, sharding).ranks
    deployment = on("h200", sharding=sharding, engine="architecture")
    bar = memory_bar(arch, deployment, sequences=3, tokens=100, chunk_tokens=64)
    assert (
        bar.bytes_of("weights")
        == rank.weight_bytes
        < memory_bar(arch, on("h200"), sequences=3, tokens=100, chunk_tokens=64).bytes_of("weights")
    )
    assert bar.bytes_of("kv cache") == rank.kv_cache_bytes
    packed = Workload(phase="prefill", batch=4, new_tokens=64, context=64, logits="none")
    assert bar.bytes_of("activations") == sharded_as(arch, packed, sharding).ranks[0].peak_live_bytes
    assert bar.bytes_of("communication") == 430 * MIB


def test_tokens_are_sampled_on_the_last_stage() -> None:
    sharding = Sharding(pipeline_parallel=2)
    made = footprint(named("llama-3.1-8b"), on("h200", sharding=sharding), 64, None)
    assert made.bar(0, 64, 100).bytes_of("logits") == 0 < made.bar(1, 64, 100).bytes_of("logits")


@pytest.mark.parametrize(("tensor", "stages"), [(1, 1), (2, 1), (16, 1), (4, 3), (1, 4)])
def test_what_a_rank_holds_is_that_of_the_sharded_prediction(tensor: int, stages: int) -> None:
    arch = named("llama-3.1-70b")
    sharding = Sharding(tensor_parallel=tensor, pipeline_parallel=stages)
    made = footprint(arch, on("h200", sharding=sharding), 512, None)
    work = Workload(phase="decode", batch=3, new_tokens=1, context=1000)
    ranks = sharded_as(arch, work, sharding).ranks
    bars = [made.bar(stage, 3, 1000) for stage in range(stages)]
    assert [bar.bytes_of("weights") for bar in bars] == [rank.weight_bytes for rank in ranks]
    assert [bar.bytes_of("kv cache") for bar in bars] == [rank.kv_cache_bytes for rank in ranks]
    fullest = memory_bar(arch, on("h200", sharding=sharding), sequences=3, tokens=1000, chunk_tokens=512)
    assert fullest.free_bytes == min(bar.free_bytes for bar in bars)
    # Pages of all devices together are those of docs/engines.md: 63 of 16 tokens.
    engine = vllm_cache(arch, work, VllmSetting(tensor_parallel=tensor))
    held = sum(bar.bytes_of("kv cache") + bar.bytes_of("kv pages") for bar in bars)
    assert tensor * held == engine.kv_cache_bytes


def test_stages_of_unequal_layers_keep_the_pages_of_their_largest_group() -> None:
    """Layers 0 and 4 see all tokens and 1, 2, 3, 5, 6, 7 a window: three groups, dealt out as 1 5, 2 6, 3 7."""
    full, local = Gqa(n_heads=4, n_kv_heads=2, head_dim=8), Gqa(n_heads=4, n_kv_heads=2, head_dim=8, window=40)
    arch = decoder(*([layer(full)] + [layer(local)] * 3) * 2)
    page = 16 * 2 * 2 * 8 * 2
    two = footprint(arch, on("h200", sharding=Sharding(pipeline_parallel=2)), 64, None)
    assert two.caches.block_bytes == (page, page)
    four = footprint(arch, on("h200", sharding=Sharding(pipeline_parallel=4)), 64, None)
    assert four.caches.block_bytes == (page,) * 4, "no stage has two layers of any group"
    split = Sharding(pipeline_parallel=3, pipeline_layers=(1, 6, 1))
    told = footprint(arch, on("h200", sharding=split), 64, None)
    assert told.caches.block_bytes == (page, 2 * page, page), "layers 1 to 6 have both of a group"
    one = footprint(arch, on("h200"), 64, None)
    assert one.caches.block_bytes == (2 * page,)
    # 100 tokens are 7 pages; a window of 40 begins a page with tokens 57 to 96 seen: pages 3 to 6.
    assert one.caches.blocks(100) == two.caches.blocks(100) == 7 + 3 * 4


def test_replicas_are_copies() -> None:
    arch = named("llama-3.1-8b")
    one = memory_bar(arch, on("h200"), sequences=5, tokens=100, chunk_tokens=64)
    eight = on("h200", sharding=Sharding(data_parallel=8))
    assert memory_bar(arch, eight, sequences=5, tokens=100, chunk_tokens=64) == one
    assert not eight.communicates


# --- devices, engines, what is given ------------------------------------------------------------


def test_terms_that_do_not_apply_say_so() -> None:
    arch = named("llama-3.2-1b")
    for device, why in (
        ("tpu-v5e", "no public figure is known for google devices"),
        ("gaudi3", "no public figure is known for intel devices"),
        ("m4-max-128gb", "no public figure is known for apple devices"),
        ("mi300x", "no public figure is known for amd devices"),
    ):
        bar = memory_bar(arch, on(device), sequences=1, tokens=64, chunk_tokens=64)
        context = next(term for term in bar.terms if term.name == "runtime context")
        assert (context.bytes, context.basis) == (0, "unconfirmed")
        assert why in context.note
        kept = bar.bytes_of("kept free by the engine")
        assert (kept > 0) == (device == "mi300x"), "vLLM itself has a worker for AMD, and plugins for the others"
    with pytest.raises(InputError, match="what is installed is its memory"):
        memory_bar(arch, on("epyc-9654"), sequences=1, tokens=64, chunk_tokens=64)
    bar = memory_bar(arch, on("epyc-9654", memory_bytes=384 * GIB), sequences=1, tokens=64, chunk_tokens=64)
    assert bar.capacity_bytes == 384 * GIB
    assert sum("does not apply" in term.note for term in bar.terms) == 5


def test_without_an_engine_nothing_is_kept_free_and_nothing_captured() -> None:
    bar = memory_bar(named("llama-3.2-1b"), on("l4", engine="architecture"), sequences=9, tokens=65, chunk_tokens=64)
    assert bar.bytes_of("graphs") == bar.bytes_of("kept free by the engine") == bar.bytes_of("kv pages") == 0
    assert bar.bytes_of("runtime context") == 543 * MIB
    assert bar.bytes_of("library workspaces") == 8_519_680, "Ada is older than Hopper"


def test_every_part_can_be_given() -> None:
    given = Overheads(
        context_bytes=1,
        module_bytes=20,
        workspace_bytes=300,
        graph_bytes=4000,
        communication_bytes=50_000,
        kept_free_bytes=6,
    )
    for engine in ("vllm", "architecture"):
        bar = memory_bar(
            named("llama-3.2-1b"), on("h200", overheads=given, engine=engine), sequences=1, tokens=64, chunk_tokens=64
        )
        assert sum(term.bytes for term in bar.terms if term.note == overheads.GIVEN) == 54_327
    with pytest.raises(InputError, match="graph_bytes is -1"):
        memory_bar(
            named("llama-3.2-1b"),
            on("h200", overheads=Overheads(graph_bytes=-1)),
            sequences=1,
            tokens=64,
            chunk_tokens=64,
        )


def test_several_devices_have_buffers() -> None:
    for device, mib in (("h200", 430), ("l40s", 174)):
        deployment = on(device, sharding=Sharding(tensor_parallel=2))
        bar = memory_bar(named("llama-3.1-8b"), deployment, sequences=1, tokens=64, chunk_tokens=64)
        assert bar.bytes_of("communication") == mib * MIB


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (dict(sequences=0), "sequences is 0; it must be at least 1"),
        (dict(tokens=-3), "tokens is -3; it must be at least 1"),
        (dict(chunk_tokens=0), "chunk_tokens is 0; it must be at least 1"),
        (dict(source_tokens=0), "source_tokens is 0; it must be at least 1"),
        (dict(tokens=1.5), "tokens is 1.5; it must be at least 1, and a whole number"),
        (dict(sequences=float("nan")), "sequences is nan; it must be at least 1, and a whole number"),
        (dict(source_tokens=7), r"source_tokens is 7, but llama-3.2-1b \(causal-decoder\) reads no source"),
    ],
)
def test_numbers_below_one_are_refused(ask: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        memory_bar(named("llama-3.2-1b"), on("h200"), **{"sequences": 1, "tokens": 9, "chunk_tokens": 9, **ask})


@pytest.mark.parametrize(
    ("name", "deployment", "tokens", "message"),
    [
        (
            "llama-3.1-8b",
            dict(sharding=Sharding(tensor_parallel=3)),
            9,
            r"tensor_parallel is 3, .* use one of: 1, 2, 4",
        ),
        ("gpt2", dict(sharding=Sharding(pipeline_parallel=0)), 9, r"pipeline_parallel is 0; it must be at least 1"),
        ("llama-3.1-8b", dict(sharding=Sharding(data_parallel=0)), 9, r"data_parallel is 0; it must be at least 1"),
        ("llama-3.1-8b", dict(memory_bytes=0), 9, r"memory_bytes is 0; a device has at least 1 byte"),
        ("llama-3.1-8b", dict(dtypes=Dtypes(kv_cache="int4")), 9, r"vLLM has no cache in int4"),
        ("llama-3.1-8b", dict(sharding=Sharding(pipeline_parallel=33)), 9, r"more stages than the 32 layers"),
        (
            "gpt2",
            dict(sharding=Sharding(pipeline_parallel=2, pipeline_layers=(6, 5))),
            9,
            r"\(these are 11\), such as 6,6",
        ),
        ("gpt2", {}, 1025, r"1,?025"),
        ("mamba-2.8b", dict(sharding=Sharding(tensor_parallel=2)), 9, r"attention of kind mamba-1"),
        ("recurrentgemma-2b", {}, 9, r"vLLM has no rg-lru"),
        (
            "deepseek-v2-lite",
            dict(sharding=Sharding(tensor_parallel=2, sequence_parallel=True, data_parallel=2, expert_parallel=4)),
            9,
            r"in decode the 2 of a replica would send the same tokens; use tensor_parallel 1, or let 2 ranks share",
        ),
    ],
)
def test_what_cannot_be_is_refused(name: str, deployment: dict[str, object], tokens: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        memory_bar(named(name), on("h200", **deployment), sequences=1, tokens=tokens, chunk_tokens=9)


def test_what_drivers_report_is_of_devices_of_the_catalogue_and_from_two_places() -> None:
    for name, total in DRIVER_TOTALS.items():
        device = find(name)
        assert device.name == name
        assert abs(total.value / device.memory_bytes - 1) < 0.08
        assert len({source.partition(": ")[0] for source in total.sources}) > 1


def test_every_assumption_has_its_sources() -> None:
    found = [each for each in vars(assumptions).values() if isinstance(each, assumptions.Assumption)]
    assert len(found) >= 7
    for each in found:
        assert len(each.sources) > 1
        assert sum("https://" in source for source in each.sources) > 1


def test_a_source_of_its_own_length() -> None:
    """t5-base: keys and values of 12 layers of 12 heads of 64 in bf16 are 36,864 bytes a token, of target and source."""
    arch, deployment = named("t5-base"), on("h200", engine="architecture")
    bar = memory_bar(arch, deployment, sequences=3, tokens=10, chunk_tokens=64, source_tokens=100)
    assert bar.bytes_of("kv cache") == 3 * 110 * 36_864
    alike = memory_bar(arch, deployment, sequences=3, tokens=10, chunk_tokens=64)
    assert alike.bytes_of("kv cache") == 3 * 20 * 36_864
    # An encoder of sound reads all of its 1,500 positions.
    whisper = memory_bar(named("whisper-large-v3"), deployment, sequences=1, tokens=10, chunk_tokens=64)
    assert whisper.bytes_of("kv cache") == 32 * 2 * 1280 * 2 * 1510


def test_how_tokens_are_dealt_to_experts_is_named() -> None:
    for name, named_so in (("mixtral-8x7b", True), ("llama-3.1-8b", False)):
        bar = memory_bar(named(name), on("h200", engine="architecture"), sequences=1, tokens=9, chunk_tokens=9)
        (note,) = [term.note for term in bar.terms if term.name == "activations"]
        assert ("experts balanced" in note) is named_so
