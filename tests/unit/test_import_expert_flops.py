"""FLOPs of the families of experts against transformers: each case's model runs on random tokens, on the CPU.

Experts are run as `batched_mm`, which FlopCounterMode counts, k for each token; attention eagerly, over the whole square.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from llmprof.predict.record import count_record
from llmprof.spec.arch import Glu, Moe
from llmprof.workload import Workload
from tests.importing import cases, imported

BATCH, TOKENS = 2, 12

FAMILIES = (
    "cohere2_moe",
    "dbrx",
    "deepseek_v2",
    "deepseek_v3",
    "deepseek_v32",
    "dots1",
    "ernie4_5_moe",
    "exaone_moe",
    "flex_olmo",
    "glm4_moe",
    "glm4_moe_lite",
    "glm_moe_dsa",
    "gpt_oss",
    "granitemoe",
    "granitemoeshared",
    "hunyuan_v1_moe",
    "hy_v3",
    "llama4_text",
    "minimax_m2",
    "mistral4",
    "mixtral",
    "olmoe",
    "phimoe",
    "qwen2_moe",
    "qwen3_moe",
    "solar_open",
)
CONFIGS = {case.model_type: dict(case.configs())["as it stands"] for case in cases()}


def network(config: dict[str, Any]) -> Any:
    """transformers' model of a config, with values."""
    import transformers

    made: Any = transformers.AutoConfig.for_model(**deepcopy(config))
    made._attn_implementation = "eager"
    made._experts_implementation = "batched_mm"
    family = type(made).__name__.removesuffix("Config").removesuffix("Text")
    return getattr(transformers, f"{family}ForCausalLM")(made).requires_grad_(False).eval()


def theirs(config: dict[str, Any]) -> int:
    """What FlopCounterMode counts in a forward pass of transformers' model."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    model = network(config)
    tokens = torch.randint(0, config["vocab_size"], (BATCH, TOKENS))
    with torch.no_grad(), FlopCounterMode(display=False) as counted:
        model(input_ids=tokens, use_cache=False)
    return int(counted.get_total_flops())


@pytest.mark.parametrize("model_type", FAMILIES)
def test_a_config_has_the_flops_of_its_class(model_type: str) -> None:
    config = CONFIGS[model_type]
    arch = imported(config).spec.base
    work = Workload(phase="prefill", batch=BATCH, new_tokens=TOKENS, context=TOKENS)
    ours = count_record(arch, work)["matmul_flops_dense"]
    unused = 0
    if model_type == "llama4_text":  # transformers runs every expert on every token there, chosen or not
        for layer in arch.stacks[0].layers:
            assert isinstance(layer.ffn, Moe)
            assert isinstance(layer.ffn.expert, Glu)
            left = layer.ffn.n_experts - layer.ffn.top_k
            unused += left * BATCH * TOKENS * 3 * 2 * arch.d_model * layer.ffn.expert.d_ff
    assert theirs(config) == ours + unused


def test_dbrx_keeps_what_its_class_keeps() -> None:
    """Its experts are found by values, which meta does not have, so that no other test runs its class."""
    import torch

    config = CONFIGS["dbrx"]
    with torch.no_grad():
        kept = network(config)(torch.zeros(BATCH, TOKENS, dtype=torch.long), use_cache=True).past_key_values
    values = sum(layer.keys.numel() + layer.values.numel() for layer in kept.layers)
    work = Workload(phase="prefill", batch=BATCH, new_tokens=TOKENS, context=TOKENS)
    assert 2 * values == count_record(imported(config).spec.base, work)["kv_cache_bytes"]
