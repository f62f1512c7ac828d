"""LLaMA 1 to 3 and what was released in their class: pre-norm, RMSNorm, SwiGLU, grouped-query attention, RoPE."""

from __future__ import annotations

from llmprof.importing.config import Config, Read
from llmprof.importing.dense import RUNTIME, kv_heads, whole_rope
from llmprof.importing.document import Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.parts import GLUS, per_head


def document(c: Config) -> Doc:
    """The table."""
    hidden = c.size("hidden_size", default=4096)
    heads = c.size("num_attention_heads", default=32)
    head_dim = per_head(hidden, heads, c, "head_dim")
    bias = c.flag("attention_bias", default=False)
    # SmolLM and Falcon 3 say these beside what the class reads.
    c.must("rope_interleaved", False, why="the class turns halves of a head, not neighbours")
    c.must("activation", "swiglu", "silu", why="the class reads hidden_act")
    c.leave_out("rope_condense_ratio", "positions are divided by it (LongChat), which changes no size and no kernel")
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=32000),
        "d_model": hidden,
        "max_context": context(c),
        "tied_embeddings": c.flag("tie_word_embeddings", default=False),
        "position": whole_rope(c, head_dim, theta=10000.0),
        "layers": {
            "count": c.size("num_hidden_layers", default=32),
            "norm": {"kind": "rmsnorm", "placement": "pre", "eps": c.number("rms_norm_eps", default=1e-6)},
            "attention": {
                "kind": "gqa",
                "n_heads": heads,
                "n_kv_heads": kv_heads(c, heads),
                "head_dim": head_dim,
                "qkv_bias": bias,
                "out_bias": bias,
            },
            "ffn": {
                "kind": c.choice("hidden_act", of=GLUS, default="silu"),
                "d_ff": c.size("intermediate_size", default=11008),
                "bias": c.flag("mlp_bias", default=False),
            },
        },
    }


def context(c: Config) -> Read[int]:
    """``max_position_embeddings``; first releases have ``max_sequence_length``, alone or beside it."""
    if not c.has("max_sequence_length"):
        return c.size("max_position_embeddings", default=2048)
    longest = c.size("max_sequence_length")
    if not c.has("max_position_embeddings"):
        return longest
    said = c.size("max_position_embeddings")
    if said.value != longest.value:
        c.remark(f"max_sequence_length = {longest.value} is left out: the class reads max_position_embeddings")
    return said


FAMILY = Family(
    document=document,
    config_class="LlamaConfig",
    source=TRANSFORMERS,
    idle=RUNTIME | {"internal_version", "is_llama_config"},
)
