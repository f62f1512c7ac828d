"""How many tokens an engine puts into a pass on a device where nobody tells it.

vLLM: 8,192 for a server on a GPU of 70 GiB or more that is no A100, else 2,048 (tests/engine/test_arg_utils.py,
`test_defaults_with_usage_context`, of https://github.com/vllm-project/vllm). SGLang: by the memory, 2,048 below 35 GiB,
8,192 below 160 GiB, else 16,384 (`chunked_prefill_size` in python/sglang/srt/server_args.py of
https://github.com/sgl-project/sglang). TensorRT-LLM: 8,192 (`max_num_tokens`, recalled). The first two read 2026-11-30.
"""

from __future__ import annotations

from llmprof.device_figures import Device
from llmprof.latency.serving.scheduler import BUDGET

GIB = 1 << 30
VLLM_LARGE, VLLM_SMALL_BUDGET = 70 * GIB, 2048
SMALLER = "a100"
"""The GPU that vLLM gives the budget of a small one, by its name."""
SGLANG_BUDGETS = ((35 * GIB, 2048), (160 * GIB, 8192))
SGLANG_LARGEST = 16384


def budget(engine: str, device: Device) -> int:
    """Tokens of a pass of `engine` on `device`."""
    memory = device.memory.value if device.memory is not None else 0
    if engine == "vllm":
        return BUDGET if memory >= VLLM_LARGE and SMALLER not in device.name else VLLM_SMALL_BUDGET
    if engine == "sglang":
        return next((tokens for below, tokens in SGLANG_BUDGETS if memory < below), SGLANG_LARGEST)
    return BUDGET
