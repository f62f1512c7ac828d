"""Gemma 2: a norm before and after each half of a block, a window in every second layer, capped scores and logits."""

from __future__ import annotations

from llmprof.importing.config import Config
from llmprof.importing.dense import RUNTIME, by_window, count_of_layers, every, layer_kinds, whole_rope
from llmprof.importing.document import Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.gemma import causal, offset_norm, scaled_embedding, score_scale, softcap
from llmprof.importing.parts import GLUS


def document(c: Config) -> Doc:
    """The table."""
    hidden = c.size("hidden_size", default=2304)
    head_dim = c.size("head_dim", default=256)
    bias = c.flag("attention_bias", default=False)
    count = count_of_layers(c, default=26)
    kinds = layer_kinds(
        c, count, default=every(count, 2), why="not stated: every second layer sees all tokens, as the family has it"
    )
    causal(c)
    c.must("hidden_act", None, "gelu_pytorch_tanh", why="the class reads hidden_activation")
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=256000),
        "d_model": hidden,
        "max_context": c.size("max_position_embeddings", default=8192),
        "tied_embeddings": c.flag("tie_word_embeddings", default=True),
        "position": whole_rope(c, head_dim, theta=10000.0),
        "embedding": scaled_embedding(hidden),
        "layers": by_window(
            c,
            count,
            kinds,
            c.optional_size("sliding_window", "sliding_window_size", default=4096),
            {
                "norm": offset_norm(c.number("rms_norm_eps", default=1e-6), "sandwich"),
                "attention": {
                    "kind": "gqa",
                    "n_heads": c.size("num_attention_heads", default=8),
                    "n_kv_heads": c.size("num_key_value_heads", default=4),
                    "head_dim": head_dim,
                    "qkv_bias": bias,
                    "out_bias": bias,
                    "softcap": softcap(c, "attn_logit_softcapping", default=50.0),
                    "scale": score_scale(c, head_dim),
                },
                "ffn": {
                    "kind": c.choice("hidden_activation", of=GLUS, default="gelu_pytorch_tanh"),
                    "d_ff": c.size("intermediate_size", default=9216),
                },
            },
        ),
        "head": {"kind": "lm", "softcap": softcap(c, "final_logit_softcapping", default=30.0)},
    }


FAMILY = Family(document=document, config_class="Gemma2Config", source=TRANSFORMERS, idle=RUNTIME)
