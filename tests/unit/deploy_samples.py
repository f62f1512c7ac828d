"""Deployments to ask command lines of, and the option tables of the engines that read them back.

Each option was read on 2026-11-30 in the source that the table names; what a command line has beside it is an error.
"""

from __future__ import annotations

import argparse
import re
import shlex
from typing import Any

import yaml

from llmprof import catalog, device
from llmprof.planning.demand import Demand
from llmprof.planning.deploy import CommandLine, command_lines
from llmprof.planning.memory import Deployment
from llmprof.planning.terms import MemoryBar, Term
from llmprof.sharding import Sharding
from llmprof.spec.arch import ArchSpec
from llmprof.workload import Dtypes

GB = 10**9

VLLM = "https://pypi.org/project/vllm/0.33.0/ vllm/engine/arg_utils.py"
SGLANG = "https://pypi.org/project/sglang/0.5.23/ sglang/srt/arg_groups/fields"
TRTLLM = (
    "https://github.com/NVIDIA/TensorRT-LLM tensorrt_llm/commands/serve.py 4c05a74891e4df8066f08ed4ce14b0972abe4e25"
)

FLAGS: dict[str, dict[str, tuple[type | None, str]]] = {
    "vllm": {
        "--tensor-parallel-size": (int, f"{VLLM} ParallelConfig"),
        "--pipeline-parallel-size": (int, f"{VLLM} ParallelConfig"),
        "--data-parallel-size": (int, f"{VLLM} ParallelConfig"),
        "--enable-expert-parallel": (None, f"{VLLM} ParallelConfig"),
        "--dtype": (str, f"{VLLM} ModelConfig: ModelDType"),
        "--quantization": (str, f"{VLLM} ModelConfig; quantization.py: _ONLINE_SHORTHANDS"),
        "--max-model-len": (int, f"{VLLM} ModelConfig"),
        "--kv-cache-dtype": (str, f"{VLLM} CacheConfig: CacheDType"),
        "--block-size": (int, f"{VLLM} CacheConfig"),
        "--gpu-memory-utilization": (float, f"{VLLM} CacheConfig"),
        "--max-num-seqs": (int, f"{VLLM} SchedulerConfig"),
        "--max-num-batched-tokens": (int, f"{VLLM} SchedulerConfig"),
        "--enable-chunked-prefill": (None, f"{VLLM} SchedulerConfig"),
    },
    "sglang": {
        "--model-path": (str, f"{SGLANG}/model.py"),
        "--dtype": (str, f"{SGLANG}/model.py"),
        "--quantization": (str, f"{SGLANG}/model.py; choices.py: QUANTIZATION_CHOICES"),
        "--kv-cache-dtype": (str, f"{SGLANG}/model.py"),
        "--context-length": (int, f"{SGLANG}/model.py"),
        "--tp-size": (int, f"{SGLANG}/parallel.py"),
        "--pp-size": (int, f"{SGLANG}/parallel.py"),
        "--dp-size": (int, f"{SGLANG}/parallel.py"),
        "--attn-dp-size": (int, f"{SGLANG}/parallel.py"),
        "--ep-size": (int, f"{SGLANG}/parallel.py"),
        "--enable-dp-lm-head": (None, f"{SGLANG}/parallel.py"),
        "--enable-dense-mlp-attn-tp": (None, f"{SGLANG}/parallel.py"),
        "--mem-fraction-static": (float, f"{SGLANG}/schedule.py"),
        "--max-running-requests": (int, f"{SGLANG}/schedule.py"),
        "--chunked-prefill-size": (int, f"{SGLANG}/schedule.py"),
        "--page-size": (int, f"{SGLANG}/schedule.py"),
    },
    "tensorrt-llm": {
        "--tp_size": (int, TRTLLM),
        "--pp_size": (int, TRTLLM),
        "--ep_size": (int, TRTLLM),
        "--max_seq_len": (int, TRTLLM),
        "--max_batch_size": (int, TRTLLM),
        "--max_num_tokens": (int, TRTLLM),
        "--enable_chunked_prefill": (None, TRTLLM),
        "--extra_llm_api_options": (str, TRTLLM),
    },
}

CHOICES = {
    ("vllm", "--dtype"): {"auto", "half", "float16", "bfloat16", "float", "float32"},
    ("vllm", "--kv-cache-dtype"): {"auto", "float16", "bfloat16", "fp8", "int8_per_token_head"},
    ("vllm", "--quantization"): {"fp8_per_tensor"},
    ("sglang", "--dtype"): {"auto", "half", "float16", "bfloat16", "float", "float32"},
    ("sglang", "--kv-cache-dtype"): {"auto", "fp8_e5m2", "fp8_e4m3", "mxfp8", "bf16", "bfloat16", "nvfp4"},
    ("sglang", "--quantization"): {"fp8"},
}

LLAMA = catalog.find("llama-3.1-8b").arch()
MIXTRAL = catalog.find("mixtral-8x7b").arch()
DEEPSEEK = catalog.find("deepseek-v3").arch()
DEMAND = Demand(prompt_tokens=2000, output_tokens=96, concurrency=64, chunk_tokens=4096)
BF16 = Dtypes()
ALL = ("vllm", "sglang", "tensorrt-llm")


def bar(**parts: int) -> MemoryBar:
    return MemoryBar(
        capacity_bytes=80 * GB,
        terms=tuple(
            Term(name=name.replace("_", " "), bytes=nbytes, basis="confirmed", note="")
            for name, nbytes in parts.items()
        ),
    )


BAR = bar(weights=40 * GB, kv_cache=10 * GB, activations=2 * GB, runtime_context=GB, kept_free_by_the_engine=7 * GB)


def served(
    arch: ArchSpec = LLAMA,
    *,
    on: str = "h100-sxm-80gb",
    demand: Demand = DEMAND,
    dtypes: Dtypes = BF16,
    **degrees: Any,
) -> dict[str, CommandLine]:
    deployment = Deployment(device=device.find(on), sharding=Sharding(**degrees), dtypes=dtypes)
    return {line.engine: line for line in command_lines(arch, deployment, demand)}


def parsed(line: CommandLine) -> dict[str, Any]:
    """The options of a text, refusing what the engine's table does not have; the model under "model"."""
    words = shlex.split(line.text)
    found: dict[str, Any] = {}
    if line.engine == "tensorrt-llm":
        end = words.index("&&")
        written, into = words[: end - 2], words[end - 1]
        assert (written[:2], words[end - 2]) == (["printf", "%s\\n"], ">")
        found["config"] = yaml.safe_load("\n".join(written[2:]))
        words = words[end + 1 :]
    while "=" in words[0]:
        name, _, value = words.pop(0).partition("=")
        found[name] = value
    program = {"vllm": 2, "sglang": 3, "tensorrt-llm": 1}[line.engine]
    assert words[:program] in (["vllm", "serve"], ["python3", "-m", "sglang.launch_server"], ["trtllm-serve"])
    parser = argparse.ArgumentParser(exit_on_error=False, allow_abbrev=False)
    for flag, (kind, _) in FLAGS[line.engine].items():
        if kind is None:
            parser.add_argument(flag, action="store_true")
        else:
            parser.add_argument(flag, type=kind, choices=CHOICES.get((line.engine, flag)))
    if line.engine != "sglang":
        parser.add_argument("model")
    options, left = parser.parse_known_args(words[program:])
    assert left == []
    found |= {key: value for key, value in vars(options).items() if value not in (None, False)}
    if line.engine == "sglang":
        found["model"] = found.pop("model_path")
    if line.engine == "tensorrt-llm":
        assert found.pop("extra_llm_api_options") == into
    return found


def instances(line: CommandLine) -> int:
    said = [int(match[1]) for note in line.notes if (match := re.match(r"start (\d+) such instances", note))]
    assert len(said) < 2
    return said[0] if said else 1
