"""The small files of weights that docs/stored-files.md explains; `python -m tests.example_weights` writes them.

They hold zeros: nothing reads what is behind a header.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.released import Llama
from tests.weights import Gguf, write_safetensors

EXAMPLES = Path(__file__).resolve().parent.parent / "docs" / "examples"
SMALL = Llama(layers=2, d=32, f=64, v=128, q=32, kv=16, frequencies=4)
CONFIG: Mapping[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_act": "silu",
    "hidden_size": 32,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "vocab_size": 128,
}


def write(folder: Path) -> list[Path]:
    """All of them below `folder`; returns the files."""
    made = []
    for name, tensors in (("small", SMALL.plain()), ("small-gptq", SMALL.packed("gptq", group=32))):
        (folder / name).mkdir(parents=True, exist_ok=True)
        config = folder / name / "config.json"
        config.write_text(json.dumps(CONFIG, indent=2) + "\n")
        made += [config, write_safetensors(folder / name / "model.safetensors", tensors, {"format": "pt"})]
    wrong = SMALL.plain() | {"model.layers.1.mlp.up_proj.weight": ("BF16", [60, 32]), "model.extra": ("F32", [3])}
    del wrong["model.norm.weight"]
    made.append(write_safetensors(folder / "small-wrong.safetensors", wrong))
    made.append(_gguf().write(folder / "small.gguf"))
    return made


def _gguf() -> Gguf:
    made = Gguf().key("general.architecture", "llama").key("general.name", "small")
    for key, value in {
        "block_count": CONFIG["num_hidden_layers"],
        "context_length": CONFIG["max_position_embeddings"],
        "embedding_length": CONFIG["hidden_size"],
        "feed_forward_length": CONFIG["intermediate_size"],
        "attention.head_count": CONFIG["num_attention_heads"],
        "attention.head_count_kv": CONFIG["num_key_value_heads"],
        "attention.layer_norm_rms_epsilon": CONFIG["rms_norm_eps"],
        "rope.freq_base": CONFIG["rope_theta"],
    }.items():
        made.key(f"llama.{key}", value)
    made.tensor("token_embd.weight", "Q8_0", [128, 32]).tensor("output_norm.weight", "F32", [32])
    for i in range(SMALL.layers):
        made.tensor(f"blk.{i}.attn_norm.weight", "F32", [32]).tensor(f"blk.{i}.ffn_norm.weight", "F32", [32])
        for name, o in (("attn_q", 32), ("attn_k", 16), ("attn_v", 16), ("attn_output", 32), ("ffn_gate", 64)):
            made.tensor(f"blk.{i}.{name}.weight", "Q8_0", [o, 32])
        made.tensor(f"blk.{i}.ffn_up.weight", "Q8_0", [64, 32]).tensor(f"blk.{i}.ffn_down.weight", "Q8_0", [32, 64])
    return made


if __name__ == "__main__":
    write(EXAMPLES)
