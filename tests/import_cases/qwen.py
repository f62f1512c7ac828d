"""Qwen 1's class, as Qwen-7B was released (recalled)."""

from __future__ import annotations

from tests.importing import Case

RELEASED = {
    "vocab_size": 151936,
    "hidden_size": 4096,
    "intermediate_size": 22016,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "kv_channels": 128,
    "max_position_embeddings": 32768,
    "seq_length": 8192,
    "layer_norm_epsilon": 1e-06,
    "rotary_emb_base": 10000,
    "rotary_pct": 1.0,
    "no_bias": True,
    "scale_attn_weights": True,
    "tie_word_embeddings": False,
    "use_dynamic_ntk": True,
    "use_logn_attn": True,
    "use_flash_attn": "auto",
    "attn_dropout_prob": 0.0,
    "emb_dropout_prob": 0.0,
    "bf16": False,
    "fp16": False,
    "fp32": False,
    "onnx_safe": None,
    "softmax_in_fp32": False,
    "use_cache_kernel": False,
    "use_cache_quantization": False,
}

CASES = [
    Case(
        model_type="qwen",
        config=RELEASED,
        variations={
            "biases": {"no_bias": False},
            "as the 72B is released": {  # https://huggingface.co/Qwen/Qwen-72B, its config, in a copy of Sophgo's LLM-TPU
                "hidden_size": 8192,
                "intermediate_size": 49152,
                "num_attention_heads": 64,
                "num_hidden_layers": 80,
                "rope_theta": 1000000,
                "rotary_emb_base": 1000000,
                "vocab_size": 152064,
            },
        },
        params={
            "as it stands": 7_721_324_544,  # https://huggingface.co/Qwen/Qwen-7B, its safetensors header, recalled
            "as the 72B is released": 72_287_920_128,  # https://huggingface.co/Qwen/Qwen-72B, its header, recalled
            "biases": 7_721_324_544 + 32 * (4096 + 2 * 11008 + 4096),
        },
    )
]
