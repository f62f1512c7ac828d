"""What engines do not have is refused with the reason, and every option of a deployment is somewhere."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmprof import catalog, device
from llmprof.planning.demand import Demand
from llmprof.planning.deploy import command_lines, sglang, shares, tensorrt_llm, vllm
from llmprof.planning.memory import Deployment
from llmprof.sharding import Sharding
from llmprof.spec.arch import ArchSpec
from llmprof.workload import ComputeDtype, Dtypes, StorageDtype
from tests.unit.deploy_samples import ALL, BAR, DEEPSEEK, DEMAND, FLAGS, LLAMA, MIXTRAL, instances, parsed, served


@pytest.fixture(autouse=True, scope="module")
def _known_memory() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(shares, "memory_bar", lambda *args, **kwargs: BAR)
        yield


@pytest.mark.parametrize(
    ("spec", "on", "dtypes", "degrees", "engines", "said"),
    [
        ("t5-base", "h200", Dtypes(), {}, ALL, "encoder-decoder"),
        ("bert-base", "h200", Dtypes(), {}, ALL, "no head that predicts the next"),
        ("rwkv-4-169m", "h200", Dtypes(), {}, ALL, "has no kernel for rwkv-4"),
        ("mamba-130m", "h200", Dtypes(), {}, ("tensorrt-llm",), "has no kernel for mamba-1"),
        ("llama-3.1-8b", "h200", Dtypes(), {"context_parallel": 2}, ("vllm",), "--prefill-context-parallel-size"),
        ("llama-3.1-8b", "h200", Dtypes(), {"context_parallel": 2}, ("sglang",), "--attn-cp-size"),
        ("llama-3.1-8b", "h200", Dtypes(), {"context_parallel": 2}, ("tensorrt-llm",), "--cp_size"),
        ("llama-3.1-8b", "h200", Dtypes(), {"tensor_parallel": 2, "sequence_parallel": 1}, ALL, "sequence parallelism"),
        ("llama-3.1-8b", "h200", Dtypes(), {"tensor_parallel": 2, "expert_parallel": 2}, ALL, "no experts to spread"),
        ("deepseek-v3", "h200", Dtypes(), {"tensor_parallel": 8, "expert_parallel": 4}, ("vllm",), "not over 4"),
        (
            "deepseek-v3",
            "h200",
            Dtypes(),
            {"data_parallel": 8, "expert_parallel": 8},
            ("tensorrt-llm",),
            "attention_dp",
        ),
        ("deepseek-v3", "h200", Dtypes(), {"data_parallel": 8, "expert_parallel": 4}, ("sglang",), "not over 4"),
        ("llama-3.1-8b", "h200", Dtypes(kv_cache="int8"), {}, ("sglang", "tensorrt-llm"), "no cache in int8"),
        ("deepseek-v3", "h200", Dtypes(kv_cache="int8"), {}, ("vllm",), "of heads alone"),
        ("llama-3.1-8b", "h200", Dtypes(kv_cache="int4"), {}, ALL, "a cache in int4|no cache in int4"),
        ("llama-3.1-8b", "h200", Dtypes(weights="int8"), {}, ("tensorrt-llm",), "not in int8"),
        ("llama-3.1-8b", "h200", Dtypes(weights="tf32", activations="tf32"), {}, ALL, "tf32"),
        ("llama-3.1-8b", "h200", Dtypes(weights="fp32"), {}, ALL, "weights are fp32 and activations bf16"),
        ("llama-3.1-8b", "v100-32gb", Dtypes(), {}, ALL, "compute capability 8.0"),
        ("llama-3.1-8b", "a100-sxm-80gb", Dtypes(weights="fp8"), {}, ("tensorrt-llm",), "not on sm80"),
        ("llama-3.1-8b", "b200", Dtypes(weights="int4"), {}, ("tensorrt-llm",), "not on sm100"),
        (
            "llama-3.1-8b",
            "t4",
            Dtypes(weights="fp8", activations="fp16"),
            {},
            ("sglang",),
            "no kernels for weights in fp8",
        ),
        (
            "llama-3.1-8b",
            "v100-32gb",
            Dtypes(weights="fp8", activations="fp16"),
            {},
            ("vllm",),
            "no kernels for weights",
        ),
        ("llama-3.1-8b", "mi300x", Dtypes(), {}, ("tensorrt-llm",), "GPUs of NVIDIA alone"),
        ("llama-3.1-8b", "tpu-v5e", Dtypes(), {}, ALL, "and tpu-v5e is none"),
        ("llama-3.1-8b", "epyc-9654", Dtypes(), {}, ALL, "and epyc-9654 is none"),
        ("llama-2-7b", "h200", Dtypes(), {}, ALL, "4,096 positions of llama-2-7b, and prompt and output are 5,000"),
    ],
)
def test_what_an_engine_does_not_have_is_refused_with_the_reason(
    spec: str, on: str, dtypes: Dtypes, degrees: dict[str, Any], engines: tuple[str, ...], said: str
) -> None:
    demand = Demand(prompt_tokens=4900, output_tokens=100, concurrency=8) if spec == "llama-2-7b" else DEMAND
    demand = replace(demand, prompt_tokens=400, output_tokens=96) if spec.startswith(("t5", "bert", "rwkv")) else demand
    lines = served(catalog.find(spec).arch(), on=on, dtypes=dtypes, demand=demand, **degrees)
    for engine in engines:
        line = lines[engine]
        assert line.text == ""
        assert re.match(f"{engine} .*(?:{said})", str(line.refused))


# --- every option is somewhere ---------------------------------------------------------------------


@st.composite
def deployments(draw: st.DrawFn) -> Deployment:
    """Mostly such as some engine serves: what none does is drawn now and then."""
    tensor, data = draw(st.sampled_from([1, 2, 4, 8])), draw(st.sampled_from([1, 1, 2, 8]))
    activations: ComputeDtype = draw(st.sampled_from(["bf16", "bf16", "bf16", "fp16", "fp32", "tf32"]))
    stored: st.SearchStrategy[StorageDtype] = st.sampled_from(get_args(StorageDtype))
    same: st.SearchStrategy[StorageDtype] = st.just(activations)
    return Deployment(
        device=device.find(draw(st.sampled_from(["h100-sxm-80gb", "a100-sxm-80gb", "b200", "mi300x", "t4", "l40s"]))),
        sharding=Sharding(
            tensor_parallel=tensor,
            sequence_parallel=draw(st.sampled_from([False, False, True])),
            pipeline_parallel=draw(st.sampled_from([1, 2, 16])),
            data_parallel=data,
            expert_parallel=draw(st.sampled_from([1, 1, tensor, tensor * data, 2])),
            context_parallel=draw(st.sampled_from([1] * 9 + [2])),
        ),
        dtypes=Dtypes(
            weights=draw(same | stored),
            activations=activations,
            kv_cache=draw(same | same | stored),
        ),
        engine=draw(st.sampled_from(["vllm", "architecture"])),
    )


DEMANDS = st.builds(
    Demand,
    prompt_tokens=st.integers(1, 3000),
    output_tokens=st.integers(0, 1000),
    concurrency=st.integers(1, 600),
    chunk_tokens=st.sampled_from([256, 1000, 8192]),
)
KEYS = {
    "vllm": ("max_model_len", "max_num_seqs", "max_num_batched_tokens"),
    "sglang": ("context_length", "max_running_requests", "chunked_prefill_size"),
    "tensorrt-llm": ("max_seq_len", "max_batch_size", "max_num_tokens"),
}


@given(arch=st.sampled_from([LLAMA, MIXTRAL, DEEPSEEK]), deployment=deployments(), demand=DEMANDS)
def test_every_option_is_in_the_text_in_a_note_or_refused(
    arch: ArchSpec, deployment: Deployment, demand: Demand
) -> None:
    s, dtypes = deployment.sharding, deployment.dtypes
    for line in command_lines(arch, deployment, demand):
        if line.refused is not None:
            assert line.text == ""
            assert line.refused.startswith(line.engine)
            continue
        found, notes = parsed(line), " ".join(line.notes)
        groups = int(found.get("attn_dp_size", 1))
        tensor = int(found.get("tensor_parallel_size") or found.get("tp_size") or 1) // groups
        pipeline = int(found.get("pipeline_parallel_size") or found.get("pp_size") or 1)
        data = int(found.get("data_parallel_size") or found.get("dp_size") or groups)
        assert (tensor, pipeline, data * instances(line)) == (s.tensor_parallel, s.pipeline_parallel, s.data_parallel)
        if line.engine == "vllm":  # one flag for all ranks of tensor and data parallelism that it is told of
            assert (tensor * data if "enable_expert_parallel" in found else 1) == s.expert_parallel
        else:
            assert found.get("ep_size", 1) == s.expert_parallel
        assert s.context_parallel == 1
        assert not s.splits_rows or groups > 1 or "around the experts" in notes
        length, sequences, chunk = (found[key] for key in KEYS[line.engine])
        per_replica = -(-demand.concurrency // s.data_parallel)
        whole = demand.prompt_tokens + demand.output_tokens
        there = per_replica * whole if line.engine != "sglang" else demand.chunk_tokens
        assert (length, sequences, chunk) == (
            whole,
            per_replica * groups,
            min(demand.chunk_tokens, there) * groups,
        )
        config = found.get("config", {})
        said = config.get("dtype") or found["dtype"]
        assert said == {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}[dtypes.activations]
        kept = config["kv_cache_config"]["dtype"] if config else found["kv_cache_dtype"]
        assert (kept == "auto") == (dtypes.kv_cache == dtypes.activations)
        if dtypes.weights in ("fp8", "int8", "int4"):
            packed = "quantization" in found or f"weights in {dtypes.weights} are made beforehand" in notes
            assert packed or "the files hold" in notes
        assert {"block_size", "page_size"} & set(found) or "pages" in notes


def test_every_option_of_the_tables_has_a_source_and_is_used() -> None:
    used: dict[str, set[str]] = {engine: set() for engine in FLAGS}
    cases = [
        served(tensor_parallel=2, pipeline_parallel=2, data_parallel=2, dtypes=Dtypes(weights="fp8")),
        served(DEEPSEEK, on="h200", dtypes=Dtypes(weights="fp8"), data_parallel=8, expert_parallel=8),
        served(DEEPSEEK, on="h200", dtypes=Dtypes(weights="fp8"), tensor_parallel=8, expert_parallel=8),
    ]
    for line in (line for case in cases for line in case.values()):
        used[line.engine] |= {word for word in shlex.split(line.text) if word.startswith("--")}
    for engine, module in {"vllm": vllm, "sglang": sglang, "tensorrt-llm": tensorrt_llm}.items():
        assert used[engine] == set(FLAGS[engine])
        assert module.VERSION in str(module.__doc__)
        assert "2026-11-30" in str(module.__doc__)
        assert all(source.startswith("https://") for _, source in FLAGS[engine].values())
