"""MiniCPM 3: latent attention in a dense decoder, with factors on embeddings, residuals and logits."""

from __future__ import annotations

from llmprof.importing.config import Config, Read, inferred
from llmprof.importing.dense import RUNTIME, whole_rope
from llmprof.importing.document import Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.latent import INNER_EPS, softmax_scale
from llmprof.importing.parts import GLUS, per_head


def document(c: Config) -> Doc:
    """The table."""
    hidden = c.size("hidden_size", default=2560)
    heads = c.size("num_attention_heads", default=40)
    nope = c.size("qk_nope_head_dim", default=64)
    rope_dim = c.size("qk_rope_head_dim", default=32)
    c.must("num_key_value_heads", None, heads.value, why="all heads read one latent, which has no heads of its own")
    count = c.size("num_hidden_layers", default=62)
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=73448),
        "d_model": hidden,
        "max_context": c.size("max_position_embeddings", default=32768),
        "tied_embeddings": c.flag("tie_word_embeddings", default=True),
        "position": whole_rope(c, rope_dim, theta=10000.0),
        "embedding": {"scale": c.number("scale_emb", default=12.0)},
        "layers": {
            "count": count,
            "norm": {"kind": "rmsnorm", "placement": "pre", "eps": c.number("rms_norm_eps", default=1e-5)},
            "residual": {"kind": "plain", "scale": _residual(c, count)},
            "attention": {
                "kind": "mla",
                "n_heads": heads,
                "q_rank": c.optional_size("q_lora_rank", default=768),
                "kv_rank": c.size("kv_lora_rank", default=256),
                "nope_dim": nope,
                "rope_dim": rope_dim,
                "value_dim": _value_dim(c, hidden, heads),
                "norm": {"kind": "rmsnorm", "eps": INNER_EPS},
                "bias": c.flag("attention_bias", default=False),
                "scale": softmax_scale(c, nope, rope_dim),
            },
            "ffn": {
                "kind": c.choice("hidden_act", of=GLUS, default="silu"),
                "d_ff": c.size("intermediate_size", default=6400),
                "bias": c.flag("mlp_bias", default=False),
            },
        },
        "head": {"kind": "lm", "input_scale": _before_the_head(c, hidden)},
    }


def _value_dim(c: Config, hidden: Read[int], heads: Read[int]) -> Read[int]:
    """``v_head_dim``; null or absent is hidden / heads."""
    return per_head(hidden, heads, c, "v_head_dim")


def _residual(c: Config, count: Read[int]) -> Read[float]:
    """``scale_depth`` over the square root of the number of layers; null is 1."""
    depth = c.optional_number("scale_depth", default=1.4)
    if depth.value is None:
        return inferred(1.0, "scale_depth is null: residuals are not scaled", depth)
    made = depth.value / count.value**0.5
    return inferred(made, f"scale_depth = {depth.value:g} over the square root of {count.value} layers", depth, count)


def _before_the_head(c: Config, hidden: Read[int]) -> Read[float]:
    """``dim_model_base`` over the width of the model; null is 1."""
    base = c.optional_size("dim_model_base", default=256)
    if base.value is None:
        return inferred(1.0, "dim_model_base is null: the last state is not scaled", base)
    return inferred(base.value / hidden.value, f"dim_model_base = {base.value} over hidden_size", base, hidden)


FAMILY = Family(
    document=document,
    config_class="MiniCPM3Config",
    source=TRANSFORMERS,
    idle=RUNTIME | {"embedding_initializer_range", "head_dim", "qk_head_dim", "rope_interleave"},
)
