"""Youtu-LLM: DeepSeek-V3's attention in a dense decoder."""

from __future__ import annotations

from llmprof.importing.config import Config
from llmprof.importing.dense import RUNTIME, whole_rope
from llmprof.importing.document import Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.latent import INNER_EPS, softmax_scale
from llmprof.importing.parts import GLUS


def document(c: Config) -> Doc:
    """The table."""
    hidden = c.size("hidden_size", default=2048)
    heads = c.size("num_attention_heads", default=16)
    nope = c.size("qk_nope_head_dim", default=128)
    rope_dim = c.size("qk_rope_head_dim", default=64)
    c.must("num_key_value_heads", None, heads.value, why="all heads read one latent, which has no heads of its own")
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=128256),
        "d_model": hidden,
        "max_context": c.size("max_position_embeddings", default=131072),
        "tied_embeddings": c.flag("tie_word_embeddings", default=True),
        "position": whole_rope(c, rope_dim, theta=10000.0),
        "layers": {
            "count": c.size("num_hidden_layers", default=32),
            "norm": {"kind": "rmsnorm", "placement": "pre", "eps": c.number("rms_norm_eps", default=1e-6)},
            "attention": {
                "kind": "mla",
                "n_heads": heads,
                "q_rank": c.optional_size("q_lora_rank", default=1536),
                "kv_rank": c.size("kv_lora_rank", default=512),
                "nope_dim": nope,
                "rope_dim": rope_dim,
                "value_dim": c.size("v_head_dim", default=128),
                "norm": {"kind": "rmsnorm", "eps": INNER_EPS},
                "bias": c.flag("attention_bias", default=False),
                "scale": softmax_scale(c, nope, rope_dim),
            },
            "ffn": {
                "kind": c.choice("hidden_act", of=GLUS, default="silu"),
                "d_ff": c.size("intermediate_size", default=6144),
            },
        },
    }


FAMILY = Family(
    document=document,
    config_class="YoutuConfig",
    source=TRANSFORMERS,
    idle=RUNTIME | {"embedding_initializer_range", "head_dim", "qk_head_dim", "rope_interleave"},
)
