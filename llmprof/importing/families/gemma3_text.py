"""Gemma 3's decoder: Gemma 2's block with norms of queries and keys; five layers with a window to one without."""

from __future__ import annotations

from llmprof.importing.config import Config
from llmprof.importing.dense import (
    FULL,
    RUNTIME,
    SLIDING,
    by_window,
    count_of_layers,
    every,
    interval,
    layer_kinds,
    whole_rope,
)
from llmprof.importing.document import Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.gemma import causal, offset_norm, scaled_embedding, score_scale, softcap
from llmprof.importing.parts import GLUS


def document(c: Config) -> Doc:
    """The table."""
    hidden = c.size("hidden_size", default=2304)
    head_dim = c.size("head_dim", default=256)
    eps = c.number("rms_norm_eps", default=1e-6)
    bias = c.flag("attention_bias", default=False)
    count = count_of_layers(c, default=26)
    step = interval(c, "sliding_window_pattern", "_sliding_window_pattern", default=6)
    kinds = layer_kinds(
        c,
        count,
        default=every(count, step),
        why=f"every {step} layers one sees all tokens, by sliding_window_pattern or the family's habit",
    )
    causal(c)
    c.must("hidden_act", None, "gelu_pytorch_tanh", why="the class reads hidden_activation")
    c.ignore("rope_local_base_freq")  # which the rotations below read where rope_parameters says nothing
    c.must("attn_logit_softcapping", None, why="the class caps no scores")
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=262208),
        "d_model": hidden,
        "max_context": c.size("max_position_embeddings", default=131072),
        "tied_embeddings": c.flag("tie_word_embeddings", default=True),
        "position": whole_rope(c, head_dim, theta=1000000.0, layer_type=FULL),
        "embedding": scaled_embedding(hidden),
        "layers": by_window(
            c,
            count,
            kinds,
            c.optional_size("sliding_window", default=4096),
            {
                "norm": offset_norm(eps, "sandwich"),
                "attention": {
                    "kind": "gqa",
                    "n_heads": c.size("num_attention_heads", default=8),
                    "n_kv_heads": c.size("num_key_value_heads", default=4),
                    "head_dim": head_dim,
                    "qkv_bias": bias,
                    "out_bias": bias,
                    "qk_norm": offset_norm(eps),
                    "scale": score_scale(c, head_dim),
                },
                "ffn": {
                    "kind": c.choice("hidden_activation", of=GLUS, default="gelu_pytorch_tanh"),
                    "d_ff": c.size("intermediate_size", default=9216),
                },
            },
            local={
                "position": whole_rope(c, head_dim, theta=10000.0, layer_type=SLIDING, theta_key="rope_local_base_freq")
            },
        ),
        "head": {"kind": "lm", "softcap": softcap(c, "final_logit_softcapping", default=None)},
    }


FAMILY = Family(document=document, config_class="Gemma3TextConfig", source=TRANSFORMERS, idle=RUNTIME)
