"""Configs of dense decoders as they were released, fields that decide nothing left out, and the totals published.

Both are of https://huggingface.co, `config.json` and the header of the safetensors files, recalled.
"""

from __future__ import annotations

from typing import Any

import pytest

from llmprof.predict.parameters import parameters
from tests.importing import imported

FULL, SLIDING = "full_attention", "sliding_attention"

RELEASED: dict[str, tuple[int, dict[str, Any]]] = {
    "meta-llama/Llama-3.2-1B": (
        1_235_814_400,
        {
            "model_type": "llama",
            "architectures": ["LlamaForCausalLM"],
            "head_dim": 64,
            "hidden_size": 2048,
            "intermediate_size": 8192,
            "max_position_embeddings": 131072,
            "num_attention_heads": 32,
            "num_hidden_layers": 16,
            "num_key_value_heads": 8,
            "rope_scaling": {
                "factor": 32.0,
                "high_freq_factor": 4.0,
                "low_freq_factor": 1.0,
                "original_max_position_embeddings": 8192,
                "rope_type": "llama3",
            },
            "rope_theta": 500000.0,
            "tie_word_embeddings": True,
            "vocab_size": 128256,
        },
    ),
    "mistralai/Mistral-Nemo-Base-2407": (
        12_247_782_400,
        {
            "model_type": "mistral",
            "head_dim": 128,
            "hidden_size": 5120,
            "intermediate_size": 14336,
            "max_position_embeddings": 128000,
            "num_attention_heads": 32,
            "num_hidden_layers": 40,
            "num_key_value_heads": 8,
            "rope_theta": 1000000.0,
            "sliding_window": None,
            "vocab_size": 131072,
        },
    ),
    "Qwen/Qwen2.5-7B": (
        7_615_616_512,
        {
            "model_type": "qwen2",
            "hidden_size": 3584,
            "intermediate_size": 18944,
            "max_position_embeddings": 131072,
            "max_window_layers": 28,
            "num_attention_heads": 28,
            "num_hidden_layers": 28,
            "num_key_value_heads": 4,
            "rope_theta": 1000000.0,
            "sliding_window": 131072,
            "use_mrope": False,
            "use_sliding_window": False,
            "vocab_size": 152064,
        },
    ),
    "google/gemma-3-270m": (
        268_098_176,
        {
            "model_type": "gemma3_text",
            "_sliding_window_pattern": 6,
            "attn_logit_softcapping": None,
            "final_logit_softcapping": None,
            "head_dim": 256,
            "hidden_size": 640,
            "intermediate_size": 2048,
            "layer_types": ([SLIDING] * 5 + [FULL]) * 3,
            "max_position_embeddings": 32768,
            "num_attention_heads": 4,
            "num_hidden_layers": 18,
            "num_key_value_heads": 1,
            "rope_local_base_freq": 10000.0,
            "rope_scaling": None,
            "rope_theta": 1000000.0,
            "sliding_window": 512,
            "use_bidirectional_attention": False,
            "vocab_size": 262144,
        },
    ),
    "CohereForAI/c4ai-command-r-plus": (
        103_810_674_688,
        {
            "model_type": "cohere",
            "hidden_size": 12288,
            "intermediate_size": 33792,
            "logit_scale": 0.8333333333333334,
            "model_max_length": 131072,
            "num_attention_heads": 96,
            "num_hidden_layers": 64,
            "num_key_value_heads": 8,
            "rope_theta": 75000000.0,
            "use_qk_norm": True,
            "vocab_size": 256000,
        },
    ),
    "allenai/Olmo-3-1025-7B": (
        7_298_011_136,
        {
            "model_type": "olmo3",
            "hidden_size": 4096,
            "intermediate_size": 11008,
            "layer_types": ([SLIDING] * 3 + [FULL]) * 8,
            "max_position_embeddings": 65536,
            "num_attention_heads": 32,
            "num_hidden_layers": 32,
            "num_key_value_heads": 32,
            "rope_theta": 500000,
            "sliding_window": 4096,
            "vocab_size": 100278,
        },
    ),
    "LGAI-EXAONE/EXAONE-4.0-32B": (
        32_003_216_384,
        {
            "model_type": "exaone4",
            "head_dim": 128,
            "hidden_size": 5120,
            "intermediate_size": 27392,
            "layer_types": ([SLIDING] * 3 + [FULL]) * 16,
            "max_position_embeddings": 131072,
            "num_attention_heads": 40,
            "num_hidden_layers": 64,
            "num_key_value_heads": 8,
            "sliding_window": 4096,
            "sliding_window_pattern": "LLLG",
            "vocab_size": 102400,
        },
    ),
    "internlm/internlm3-8b-instruct": (
        8_804_241_408,
        {
            "model_type": "internlm3",
            "bias": False,
            "head_dim": 128,
            "qkv_bias": False,
            "rope_scaling": {"factor": 6.0, "rope_type": "dynamic"},
        },
    ),
}


@pytest.mark.parametrize("name", RELEASED)
def test_a_released_config_has_the_published_total(name: str) -> None:
    total, config = RELEASED[name]
    assert parameters(imported(config).spec.base).total == total
