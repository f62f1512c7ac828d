"""TensorRT-LLM's command line, `trtllm-serve`, with its PyTorch backend.

1.2.1 is the newest release on PyPI (https://pypi.org/project/tensorrt-llm/1.2.1/, read 2026-11-30), whose package lies
elsewhere. Options were read in its sources (https://github.com/NVIDIA/TensorRT-LLM, all read 2026-11-30) before and
after that release, and are the same in both: tensorrt_llm/commands/serve.py at
4c05a74891e4df8066f08ed4ce14b0972abe4e25, the keys of `LlmArgs` and `KvCacheConfig` in tensorrt_llm/llmapi/llm_args.py
at 0004396720054fd8e205cbf616f21f0b57c6b412. What is quantised for which GPU: docs/source/features/quantization.md at
09d4c79ba941a5c2c62c878c3572c0dcc8b85efa. Degrees: docs/source/features/parallel-strategy.md at
65b31db1b401d3752b8ebe7c29093cbfb6af04b7. Models: docs/source/models/supported-models.md at
00b6d5a25c30b4382d24fbdf52956d601b3ffd24. Stages: `Mapping.pp_layers` in tensorrt_llm/mapping.py at
b35ac1b64368513d215c57d2ed01d62d910df8da, `pp_partition` of
https://nvidia.github.io/TensorRT-LLM/llm-api/reference/TorchLlmArgs.html (a prototype, as it says).
"""

from __future__ import annotations

import shlex

from llmprof.planning.deploy.asked import DTYPES, NODE, Asked, check_layers
from llmprof.planning.deploy.hardware import check_gpu, compute_capability
from llmprof.planning.deploy.line import Refusal, Words
from llmprof.planning.deploy.shares import Shares
from llmprof.planning.deploy.weights import files_of

VERSION = "1.2.1"
SOURCE = "https://github.com/NVIDIA/TensorRT-LLM/blob/4c05a74891e4df8066f08ed4ce14b0972abe4e25/tensorrt_llm/commands/serve.py"
CONFIG = "trtllm-serve.yaml"
LINES = "%s\\n"
"""What printf writes each line by."""
PAGE_TOKENS = 32
"""`KvCacheConfig.tokens_per_block`, where nothing is said."""
OWN_SHARE = "0.9"

KINDS = frozenset({"gqa", "mla", "none", "mamba-2", "gated-deltanet"})
"""Attention and mixers of the models that it lists for the PyTorch backend (Nemotron-H, Qwen3-Next, Qwen3.5)."""

PACKED = {"fp8": (89, 90, 100, 103, 120), "int4": (80, 86, 89, 90)}
"""Compute capabilities that run weights packed so, by its table: FP8 per tensor, and W4A16 AWQ or GPTQ."""


def words(a: Asked, shares: Shares | str) -> Words:
    """The command, which first writes the options that have no flag to a file. Raises Refusal for what it has not."""
    sharding, dtypes = a.deployment.sharding, a.deployment.dtypes
    check_gpu(a.deployment.device, ("nvidia",))
    if a.arch.structure == "encoder-decoder":
        raise Refusal("lists no encoder-decoder for its PyTorch backend")
    check_layers(a, kinds=KINDS)
    _check_kernels(a)
    if sharding.context_parallel > 1:
        raise Refusal("has --cp_size, but its documentation does not say for which models and passes")
    if sharding.splits_rows:
        raise Refusal("has no sequence parallelism")
    files = files_of(a.arch, dtypes, online=frozenset())
    w = Words(["trtllm-serve", files.model], list(files.notes))
    _parallel(w, a)
    w.flag("--max_seq_len", a.tokens)
    w.flag("--max_batch_size", a.sequences)
    w.flag("--max_num_tokens", a.pass_tokens)
    w.flag("--enable_chunked_prefill")
    w.flag("--extra_llm_api_options", CONFIG)
    if a.deployment.engine == "vllm":
        w.note(f"pages are of {PAGE_TOKENS} tokens, its own default, where the plan counts 16")
    else:
        w.note("pages are its own: the plan counts the architecture's cache without pages")
    # A mapping in the file takes the place of all that flags say of it, so that it says all.
    cache = f"dtype: {_cache_dtype(a)}"
    if isinstance(shares, Shares):
        cache += f", free_gpu_memory_fraction: {shares.of_free}"
    else:
        w.note(f"free_gpu_memory_fraction is left at its own {OWN_SHARE}: {shares}")
    lines = [f"dtype: {DTYPES[dtypes.activations]}", f"kv_cache_config: {{{cache}}}"]
    each = len(a.arch.main.layers) // sharding.pipeline_parallel
    if a.split != tuple(each + (stage < a.left_over) for stage in range(sharding.pipeline_parallel)):
        lines.append(f"pp_partition: {list(a.split)}")  # its own first ones have more
    w.first = f"{shlex.join(('printf', LINES, *lines))} > {CONFIG}"
    return w


def _check_kernels(a: Asked) -> None:
    """Raise Refusal where the GPU has no kernels for what is planned."""
    device = a.deployment.device
    capability = compute_capability(device)
    if capability is None:
        raise Refusal(f"runs on compute capability 8.0 and later, and nothing says that of {device.name}")
    if capability < 80:
        raise Refusal(f"runs on compute capability 8.0 and later, and {device.name} is sm{capability}")
    if a.weights == "int8":
        raise Refusal("has weights in fp8 and int4 for its PyTorch backend, not in int8")
    runs = PACKED.get(a.weights)
    if runs is not None and capability not in runs:
        raise Refusal(
            f"runs weights in {a.weights} on {', '.join(f'sm{each}' for each in runs)}, not on sm{capability}"
        )


def _parallel(w: Words, a: Asked) -> None:
    """Degrees. A data-parallel replica is an instance of its own; `--ep_size` divides `--tp_size`."""
    s = a.deployment.sharding
    if s.tensor_parallel % s.expert_parallel:
        raise Refusal(
            f"spreads experts over a divisor of its tensor-parallel devices ({s.tensor_parallel}); of "
            "enable_attention_dp, which spreads them over data-parallel ones, its documentation does not say whose "
            "requests max_batch_size counts"
        )
    w.degree("--tp_size", s.tensor_parallel)
    w.degree("--pp_size", s.pipeline_parallel)
    w.degree("--ep_size", s.expert_parallel)
    if s.data_parallel > 1:
        w.note(f"start {s.data_parallel} such instances, each on {a.replica_devices} devices of its own")
    if a.replica_devices > NODE:
        w.note(f"{a.replica_devices} devices of a replica on several nodes, where its documentation starts it by Slurm")


def _cache_dtype(a: Asked) -> str:
    dtypes = a.deployment.dtypes
    if dtypes.kv_cache == dtypes.activations:
        return "auto"
    if dtypes.kv_cache == "fp8":
        return "fp8"
    raise Refusal(f"has no cache in {dtypes.kv_cache}; it has that of the activations, and fp8")
