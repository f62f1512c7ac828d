"""Qwen 1.5, 2 and 2.5: LLaMA's block with biases of the queries, keys and values, and a window in the upper layers."""

from __future__ import annotations

from llmprof.importing.config import Config
from llmprof.importing.dense import RUNTIME, count_of_layers, kv_heads, whole_rope
from llmprof.importing.document import Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.parts import GLUS, per_head
from llmprof.importing.qwen import windowed_above


def document(c: Config) -> Doc:
    """The table."""
    hidden = c.size("hidden_size", default=4096)
    heads = c.size("num_attention_heads", default=32)
    head_dim = per_head(hidden, heads, c, "head_dim")
    c.leave_out(
        "dual_chunk_attention_config", "prompts may be cut into chunks beyond what was trained; the class does not"
    )
    c.must("use_mrope", False, why="rotations by several positions are those of images")
    for key in ("attention_bias", "qkv_bias"):
        c.must(key, True, None, why="the class has biases of the queries, keys and values")
    # CodeQwen 1.5 says these beside what the class reads.
    theta = c.raw("rope_theta") or c.below("rope_parameters").raw("rope_theta")
    c.must("rotary_emb_base", theta, None, why="the class reads rope_theta")
    c.ignore("seq_length")
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=151936),
        "d_model": hidden,
        "max_context": c.size("max_position_embeddings", default=32768),
        "tied_embeddings": c.flag("tie_word_embeddings", default=False),
        "position": whole_rope(c, head_dim, theta=10000.0),
        "layers": windowed_above(
            c,
            count_of_layers(c, default=32),
            {
                "norm": {"kind": "rmsnorm", "placement": "pre", "eps": c.number("rms_norm_eps", default=1e-6)},
                "attention": {
                    "kind": "gqa",
                    "n_heads": heads,
                    "n_kv_heads": kv_heads(c, heads, default=32),
                    "head_dim": head_dim,
                    "qkv_bias": True,
                },
                "ffn": {
                    "kind": c.choice("hidden_act", of=GLUS, default="silu"),
                    "d_ff": c.size("intermediate_size", default=22016),
                },
            },
        ),
    }


FAMILY = Family(document=document, config_class="Qwen2Config", source=TRANSFORMERS, idle=RUNTIME)
