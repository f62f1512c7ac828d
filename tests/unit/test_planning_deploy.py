"""Command lines of deployments, parsed back with the option tables of the engines to the numbers that were asked."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from typing import Any

import pytest

from llmprof import catalog, device
from llmprof.errors import InputError
from llmprof.planning.assumptions import VLLM_RULES, VllmVersion
from llmprof.planning.deploy import CommandLine, command_lines, shares
from llmprof.planning.deploy.line import Words
from llmprof.planning.deploy.weights import files_of
from llmprof.planning.memory import Deployment, memory_bar
from llmprof.planning.terms import MemoryBar
from llmprof.spec.arch import ArchSpec
from llmprof.spec.release import Awq, Fp8Blocks, Gptq, Mxfp4, Packing, Release
from llmprof.workload import Dtypes
from tests.unit.deploy_samples import BAR, DEEPSEEK, DEMAND, GB, LLAMA, MIXTRAL, bar, instances, parsed, served


@pytest.fixture(autouse=True)
def _known_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shares, "memory_bar", lambda *args, **kwargs: BAR)


def test_a_model_on_one_device() -> None:
    lines = served()
    common = {"model": "meta-llama/Llama-3.1-8B"}
    # 80 GB. vLLM: less 7 kept free and 1 of context, 72/80. SGLang: of the 79 before weights, less 2 of activations and
    # the 7: 70/79 = 0.88607. TensorRT-LLM: of the 37 that weights, activations and context leave, less 7: 30/37 = 0.81081.
    assert parsed(lines["vllm"]) == common | {
        "dtype": "bfloat16",
        "kv_cache_dtype": "auto",
        "block_size": 16,
        "max_model_len": 2096,
        "max_num_seqs": 64,
        "max_num_batched_tokens": 4096,
        "enable_chunked_prefill": True,
        "gpu_memory_utilization": 0.9,
    }
    assert parsed(lines["sglang"]) == common | {
        "dtype": "bfloat16",
        "kv_cache_dtype": "auto",
        "page_size": 16,
        "context_length": 2096,
        "max_running_requests": 64,
        "chunked_prefill_size": 4096,
        "mem_fraction_static": 0.886,
    }
    assert parsed(lines["tensorrt-llm"]) == common | {
        "config": {
            "dtype": "bfloat16",
            "kv_cache_config": {"dtype": "auto", "free_gpu_memory_fraction": 0.8108},
        },
        "max_seq_len": 2096,
        "max_batch_size": 64,
        "max_num_tokens": 4096,
        "enable_chunked_prefill": True,
    }


def test_the_text_as_it_is_printed() -> None:
    lines = served(tensor_parallel=2)
    assert lines["vllm"].text == (
        "vllm serve meta-llama/Llama-3.1-8B --tensor-parallel-size 2 --dtype bfloat16 --kv-cache-dtype auto "
        "--block-size 16 --max-model-len 2096 --max-num-seqs 64 --max-num-batched-tokens 4096 "
        "--enable-chunked-prefill --gpu-memory-utilization 0.9"
    )
    assert lines["tensorrt-llm"].text.startswith(
        "printf '%s\\n' 'dtype: bfloat16' 'kv_cache_config: {dtype: auto, free_gpu_memory_fraction: 0.8108}' "
        "> trtllm-serve.yaml && trtllm-serve meta-llama/"
    )


def test_a_name_that_a_shell_would_read_otherwise_is_quoted_or_no_repository() -> None:
    odd = replace(LLAMA, aliases=("org/name; rm -rf ~", "$(x)/y", "org/Model_1.5"))
    for line in served(odd).values():
        assert parsed(line)["model"] == "org/Model_1.5"
    words = Words(["vllm", "serve", "a b'c;d"])
    assert shlex.split(words.text) == ["vllm", "serve", "a b'c;d"]


@pytest.mark.parametrize(
    ("arch", "model", "said"),
    [
        (LLAMA, "meta-llama/Llama-3.1-8B", "meta-llama/Meta-Llama-3.1-8B"),
        (replace(LLAMA, aliases=("llama 3.1",)), "MODEL", "names no repository"),
        (catalog.find("llama-2-70b").arch("mha"), "MODEL", "is a variant"),
    ],
)
def test_the_files_are_those_of_the_spec_or_asked_for(arch: ArchSpec, model: str, said: str) -> None:
    for line in served(arch).values():
        assert parsed(line)["model"] == model
        assert said in line.notes[0]


AWQ, GPTQ8 = Awq(group=128), Gptq(bits=8)


@pytest.mark.parametrize(
    ("packing", "dtypes", "model", "online"),
    [
        (None, Dtypes(), "x/y", False),
        (None, Dtypes(weights="fp8"), "x/y", True),
        (None, Dtypes(weights="int8"), "MODEL", False),
        (None, Dtypes(weights="int4"), "MODEL", False),
        (Fp8Blocks(rows=128, columns=128), Dtypes(weights="fp8"), "x/y", False),
        (Fp8Blocks(rows=128, columns=128), Dtypes(), "MODEL", False),
        (Mxfp4(), Dtypes(weights="int4"), "MODEL", False),
        (AWQ, Dtypes(weights="int4"), "x/y", False),
        (AWQ, Dtypes(weights="int4", group_size=64), "MODEL", False),
        (AWQ, Dtypes(weights="fp8"), "MODEL", False),
        (GPTQ8, Dtypes(weights="int8"), "x/y", False),
        (GPTQ8, Dtypes(weights="int4"), "MODEL", False),
    ],
)
def test_files_hold_what_is_planned_or_are_made_beforehand(
    packing: Packing | None, dtypes: Dtypes, model: str, online: bool
) -> None:
    release = Release(dtype="bf16", packing=packing)
    found = files_of(replace(LLAMA, aliases=("x/y",), release=release), dtypes, online=frozenset({"fp8"}))
    assert (found.model, found.packed_online) == (model, online)
    assert (model == "MODEL") == any("in place of MODEL" in note for note in found.notes)


@pytest.mark.parametrize(
    ("degrees", "engine", "options", "started"),
    [
        # Dense: replicas of one server where it has them, instances of their own where not.
        ({"tensor_parallel": 4, "data_parallel": 2}, "vllm", {"tensor_parallel_size": 4, "data_parallel_size": 2}, 1),
        ({"tensor_parallel": 4, "data_parallel": 2}, "sglang", {"tp_size": 4, "dp_size": 2}, 1),
        ({"tensor_parallel": 4, "data_parallel": 2}, "tensorrt-llm", {"tp_size": 4}, 2),
        ({"pipeline_parallel": 4}, "vllm", {"pipeline_parallel_size": 4}, 1),
        ({"pipeline_parallel": 4}, "sglang", {"pp_size": 4}, 1),
        ({"pipeline_parallel": 4}, "tensorrt-llm", {"pp_size": 4}, 1),
    ],
)
def test_degrees_of_a_dense_model(degrees: dict[str, Any], engine: str, options: dict[str, Any], started: int) -> None:
    _check_degrees(served(**degrees)[engine], options, started)


@pytest.mark.parametrize(
    ("degrees", "vllm", "sglang", "tensorrt_llm"),
    [
        # 61 layers: vLLM itself has 15, 15, 16, 15, SGLang 15, 15, 15, 16, TensorRT-LLM 16, 15, 15, 15.
        ({"pipeline_parallel": 4}, None, "15,15,16,15", [15, 15, 16, 15]),
        ({"pipeline_parallel": 4, "pipeline_layers": (15, 15, 15, 16)}, "15,15,15,16", None, [15, 15, 15, 16]),
        ({"pipeline_parallel": 4, "pipeline_layers": (16, 15, 15, 15)}, "16,15,15,15", "16,15,15,15", None),
        # 31 and 30: both begin with the longer one but SGLang.
        ({"pipeline_parallel": 2}, None, "31,30", None),
        ({"pipeline_parallel": 1}, None, None, None),
    ],
)
def test_an_engine_is_told_a_split_that_is_not_its_own(
    degrees: dict[str, Any], vllm: str | None, sglang: str | None, tensorrt_llm: list[int] | None
) -> None:
    lines = served(DEEPSEEK, on="h200", dtypes=Dtypes(weights="fp8"), **degrees)
    assert parsed(lines["vllm"]).get("VLLM_PP_LAYER_PARTITION") == vllm
    assert parsed(lines["sglang"]).get("SGLANG_PP_LAYER_PARTITION") == sglang
    assert parsed(lines["tensorrt-llm"])["config"].get("pp_partition") == tensorrt_llm


@pytest.mark.parametrize(
    ("degrees", "engine", "options", "started"),
    [
        (
            {"tensor_parallel": 4, "expert_parallel": 4},
            "vllm",
            {"tensor_parallel_size": 4, "enable_expert_parallel": True},
            1,
        ),
        ({"tensor_parallel": 4, "expert_parallel": 2}, "sglang", {"tp_size": 4, "ep_size": 2}, 1),
        ({"tensor_parallel": 4, "expert_parallel": 2}, "tensorrt-llm", {"tp_size": 4, "ep_size": 2}, 1),
        # A replica that keeps all experts: vLLM would spread them over --data-parallel-size.
        ({"tensor_parallel": 4, "data_parallel": 2}, "vllm", {"tensor_parallel_size": 4}, 2),
        (
            {"tensor_parallel": 4, "data_parallel": 2, "expert_parallel": 4},
            "vllm",
            {"tensor_parallel_size": 4, "enable_expert_parallel": True},
            2,
        ),
        (
            {"tensor_parallel": 4, "data_parallel": 2, "expert_parallel": 4},
            "sglang",
            {"tp_size": 4, "dp_size": 2, "ep_size": 4},
            1,
        ),
        (
            {"tensor_parallel": 4, "data_parallel": 2, "expert_parallel": 4},
            "tensorrt-llm",
            {"tp_size": 4, "ep_size": 4},
            2,
        ),
        # Experts of all data-parallel ranks.
        (
            {"data_parallel": 8, "expert_parallel": 8},
            "vllm",
            {"data_parallel_size": 8, "enable_expert_parallel": True},
            1,
        ),
        (
            {"tensor_parallel": 2, "data_parallel": 4, "expert_parallel": 8},
            "sglang",
            {
                "tp_size": 8,
                "attn_dp_size": 4,
                "ep_size": 8,
                "enable_dp_lm_head": True,
                "enable_dense_mlp_attn_tp": True,
            },
            1,
        ),
    ],
)
def test_degrees_of_a_model_with_experts(
    degrees: dict[str, Any], engine: str, options: dict[str, Any], started: int
) -> None:
    _check_degrees(served(DEEPSEEK, on="h200", dtypes=Dtypes(weights="fp8"), **degrees)[engine], options, started)


@pytest.mark.parametrize(
    ("degrees", "engine", "options", "started", "said"),
    [
        ({"data_parallel": 16}, "vllm", {"data_parallel_size": 16}, 1, "16 data-parallel ranks on several nodes"),
        # SGLang: "multi-node data-parallel replicas are not supported" (validation_hook.py).
        ({"tensor_parallel": 8, "data_parallel": 2}, "sglang", {"tp_size": 8}, 2, "--dp-size is of one node"),
        ({"pipeline_parallel": 16}, "sglang", {"pp_size": 16}, 1, "16 devices of a replica on several nodes"),
    ],
)
def test_more_devices_than_a_node_has(
    degrees: dict[str, Any], engine: str, options: dict[str, Any], started: int, said: str
) -> None:
    line = served(**degrees)[engine]
    _check_degrees(line, options, started)
    assert any(said in note for note in line.notes)


def test_experts_that_several_nodes_share() -> None:
    lines = served(DEEPSEEK, on="h200", dtypes=Dtypes(weights="fp8"), data_parallel=16, expert_parallel=16)
    assert any("16 data-parallel ranks on several nodes" in note for note in lines["vllm"].notes)
    assert any("16 devices that share experts on several nodes: --nnodes" in note for note in lines["sglang"].notes)


DEGREE = re.compile(r"(tensor|pipeline|data)_parallel_size|(tp|pp|dp|ep|attn_dp)_size|enable_(expert|dp|dense).*")


def _check_degrees(line: CommandLine, options: dict[str, Any], started: int) -> None:
    found = parsed(line)
    assert {key: value for key, value in found.items() if DEGREE.fullmatch(key)} == options
    assert instances(line) == started


def test_a_server_that_divides_what_it_is_told_is_told_all_of_it() -> None:
    """SGLang with attention data parallelism divides requests and chunks by its groups: 4 here, of 16 sequences."""
    sharded: dict[str, Any] = {"tensor_parallel": 2, "data_parallel": 4, "expert_parallel": 8}
    found = parsed(served(DEEPSEEK, on="h200", dtypes=Dtypes(weights="fp8"), **sharded)["sglang"])
    assert (found["max_running_requests"], found["chunked_prefill_size"]) == (64, 4 * 4096)
    plain = parsed(served(MIXTRAL, tensor_parallel=2, data_parallel=4)["sglang"])
    assert (plain["max_running_requests"], plain["chunked_prefill_size"]) == (16, 4096)


@pytest.mark.parametrize(
    ("dtypes", "engine", "options"),
    [
        (Dtypes(kv_cache="fp8"), "vllm", {"kv_cache_dtype": "fp8"}),
        (Dtypes(kv_cache="fp8"), "sglang", {"kv_cache_dtype": "fp8_e4m3"}),
        (
            Dtypes(kv_cache="fp8"),
            "tensorrt-llm",
            {"config": {"dtype": "bfloat16", "kv_cache_config": {"dtype": "fp8", "free_gpu_memory_fraction": 0.8108}}},
        ),
        (Dtypes(kv_cache="int8"), "vllm", {"kv_cache_dtype": "int8_per_token_head"}),
        (Dtypes(kv_cache="fp16"), "vllm", {"kv_cache_dtype": "float16"}),
        (
            Dtypes(weights="fp16", activations="fp16", kv_cache="fp16"),
            "vllm",
            {"dtype": "float16", "kv_cache_dtype": "auto"},
        ),
        (
            Dtypes(weights="fp32", activations="fp32", kv_cache="fp32"),
            "sglang",
            {"dtype": "float32", "kv_cache_dtype": "auto"},
        ),
        (Dtypes(weights="fp8"), "vllm", {"quantization": "fp8_per_tensor", "dtype": "bfloat16"}),
        (Dtypes(weights="fp8"), "sglang", {"quantization": "fp8"}),
        (Dtypes(weights="fp8"), "tensorrt-llm", {"model": "MODEL"}),
        (Dtypes(weights="int4"), "vllm", {"model": "MODEL"}),
    ],
)
def test_dtypes(dtypes: Dtypes, engine: str, options: dict[str, object]) -> None:
    found = parsed(served(dtypes=dtypes)[engine])
    assert {key: found.get(key) for key in options} == options
    assert ("quantization" in found) == (dtypes.weights == "fp8" and engine != "tensorrt-llm")


def test_chunks_smaller_than_the_batch_are_refused_where_they_cannot_be() -> None:
    lines = served(demand=replace(DEMAND, chunk_tokens=32))
    assert "--max-num-seqs (64)" in str(lines["vllm"].refused)
    assert parsed(lines["sglang"])["chunked_prefill_size"] == 32


def test_pages_that_do_not_divide_a_chunk_are_left_to_the_engine() -> None:
    line = served(demand=replace(DEMAND, chunk_tokens=1000))["sglang"]
    assert "page_size" not in parsed(line)
    assert any("1,000 tokens is no whole number of pages" in note for note in line.notes)


@pytest.mark.parametrize(
    "demand",
    [{"prompt_tokens": 0}, {"output_tokens": -1}, {"concurrency": 0}, {"chunk_tokens": 0}],
)
def test_a_demand_of_nothing_is_an_error(demand: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(demand))):
        served(demand=replace(DEMAND, **demand))


# --- shares of memory -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found_bar", "fractions"),
    [
        (BAR, ("0.9", "0.886", "0.8108")),
        # Graphs are in what vLLM requests, buffers of collectives gone before SGLang looks: (80 - 8) / 80,
        # (80 - 4 - 8) / (80 - 2), (36 - 8) / 36.
        (
            bar(weights=40 * GB, graphs=2 * GB, communication=2 * GB, kept_free_by_the_engine=8 * GB),
            ("0.9", "0.8717", "0.7777"),
        ),
        (bar(weights=GB, kv_cache=GB, kv_pages=GB, recurrent_state=GB, page_never_given_out=GB), ("1", "1", "1")),
        (bar(weights=73 * GB, kept_free_by_the_engine=8 * GB), None),
    ],
)
def test_shares_follow_the_bar(found_bar: MemoryBar, fractions: tuple[str, str, str] | None) -> None:
    found = shares._shares(found_bar)
    if fractions is None:
        assert found == "weights and buffers leave nothing of the device for a cache"
    else:
        assert found == shares.Shares(requested=fractions[0], static=fractions[1], of_free=fractions[2])


@pytest.mark.parametrize("version", VLLM_RULES)
def test_shares_of_a_real_bar(monkeypatch: pytest.MonkeyPatch, version: VllmVersion) -> None:
    """What vLLM requests is what the version requests by itself, and its graphs where that version forgets them."""
    monkeypatch.setattr(shares, "memory_bar", memory_bar)
    deployment = Deployment(device=device.find("h200"), vllm_version=version)
    bar = memory_bar(LLAMA, deployment, sequences=64, tokens=2096, chunk_tokens=4096)
    rules = VLLM_RULES[version]
    part, whole = rules.utilisation
    expected = part / whole + (0 if rules.graphs_requested else bar.bytes_of("graphs") / bar.capacity_bytes)
    line, *_ = command_lines(LLAMA, deployment, DEMAND)
    assert expected - 1e-4 < parsed(line)["gpu_memory_utilization"] <= expected


def test_a_plan_of_no_engine_leaves_the_shares_to_the_engines() -> None:
    deployment = Deployment(device=device.find("h200"), engine="architecture")
    for line in command_lines(LLAMA, deployment, DEMAND):
        assert not {"gpu_memory_utilization", "mem_fraction_static"} & set(parsed(line))
        assert any("keeps nothing free for one" in note for note in line.notes)


def test_shares_that_are_not_known_are_said_to_be_left(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*args: object, **kwargs: object) -> MemoryBar:
        raise InputError("no rule")

    monkeypatch.setattr(shares, "memory_bar", unknown)
    for line in served().values():
        assert not {"gpu_memory_utilization", "mem_fraction_static"} & set(parsed(line))
        assert "free_gpu_memory_fraction" not in line.text
        assert any("left" in note and "no rule" in note for note in line.notes)
