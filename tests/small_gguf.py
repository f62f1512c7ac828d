"""The smallest GGUF file that is a model."""

from __future__ import annotations

from typing import Any

from tests.weights import Gguf


def small_llama(kv_rows: int = 4, /, **changes: Any) -> Gguf:
    """The header of a LLaMA of one layer; keys that are None are left out."""
    keys: dict[str, Any] = {
        "general.architecture": "llama",
        "llama.block_count": 1,
        "llama.context_length": 64,
        "llama.embedding_length": 8,
        "llama.feed_forward_length": 16,
        "llama.attention.head_count": 2,
        "llama.attention.head_count_kv": 1,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        **changes,
    }
    made = Gguf()
    for key, value in keys.items():
        if value is not None:
            made.key(key, value)
    for name, shape in {
        "token_embd.weight": [10, 8],
        "output_norm.weight": [8],
        "blk.0.attn_norm.weight": [8],
        "blk.0.ffn_norm.weight": [8],
        "blk.0.attn_q.weight": [8, 8],
        "blk.0.attn_k.weight": [kv_rows, 8],
        "blk.0.attn_v.weight": [kv_rows, 8],
        "blk.0.attn_output.weight": [8, 8],
        "blk.0.ffn_gate.weight": [16, 8],
        "blk.0.ffn_up.weight": [16, 8],
        "blk.0.ffn_down.weight": [8, 16],
    }.items():
        made.tensor(name, "F32", shape)
    return made
