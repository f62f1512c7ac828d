"""StableLM 3B and 2: LayerNorms with biases, SwiGLU, a quarter of each head rotated; serial or parallel blocks."""

from __future__ import annotations

from llmprof.importing.config import Config
from llmprof.importing.dense import RUNTIME
from llmprof.importing.document import LEFT_OUT, Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.parts import GLUS, per_head, rope


def document(c: Config) -> Doc:
    """The table."""
    hidden = c.size("hidden_size", default=2560)
    heads = c.size("num_attention_heads", default=32)
    head_dim = per_head(hidden, heads, c)
    eps = c.number("layer_norm_eps", "norm_eps", default=1e-5)
    normed = c.flag("qk_layernorm", default=False).value
    parallel = c.flag("use_parallel_residual", default=False)
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=50304),
        "d_model": hidden,
        "max_context": c.size("max_position_embeddings", default=4096),
        "tied_embeddings": c.flag("tie_word_embeddings", default=False),
        "position": rope(c, head_dim, theta=10000.0, partial=0.25),
        "layers": {
            "count": c.size("num_hidden_layers", default=32),
            "block": "parallel" if parallel.value else LEFT_OUT,
            "norm": {"kind": "layernorm", "placement": "pre", "eps": eps},
            "attention": {
                "kind": "gqa",
                "n_heads": heads,
                "n_kv_heads": c.size("num_key_value_heads", default=32),
                "head_dim": head_dim,
                "qkv_bias": c.flag("use_qkv_bias", default=False),
                "qk_norm": {"kind": "layernorm", "bias": False, "eps": eps} if normed else LEFT_OUT,
                "qk_norm_over": "each-head" if normed else LEFT_OUT,
            },
            "ffn": {
                "kind": c.choice("hidden_act", of=GLUS, default="silu"),
                "d_ff": c.size("intermediate_size", default=6912),
            },
        },
    }


FAMILY = Family(document=document, config_class="StableLmConfig", source=TRANSFORMERS, idle=RUNTIME)
