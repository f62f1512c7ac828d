"""OLMo Hybrid: gated DeltaNet before a norm in most layers, attention as in OLMo 2 in every fourth."""

from __future__ import annotations

from llmprof.importing.config import Config, Read, inferred
from llmprof.importing.delta import CHUNK, WORDS
from llmprof.importing.dense import RUNTIME, count_of_layers, kv_heads, whole_rope
from llmprof.importing.document import Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.mixers import NOWHERE, layer_kinds
from llmprof.importing.parts import per_head, stack


def document(c: Config) -> Doc:
    """The table. Norms stand before the halves of a layer of the one kind, and after those of the other."""
    hidden = c.size("hidden_size", default=3840)
    heads = c.size("num_attention_heads", default=30)
    head_dim = per_head(hidden, heads, c, "head_dim")
    count = count_of_layers(c, default=32)
    eps = c.number("rms_norm_eps", default=1e-6)
    bias = c.flag("attention_bias", default=False)
    c.must("hidden_act", "silu", "swish", why="the convolution of the mixer has another activation")
    norm = {"kind": "rmsnorm", "eps": eps}
    names = layer_kinds(c, count, "layer_types", of=WORDS, default=_placed(count.value))
    if len(set(names)) == 1:
        c.stop(
            "layer_types" if c.has("layer_types") else "num_hidden_layers", "layers of both kinds, as the class wants"
        )
    if c.flag("linear_allow_neg_eigval", default=True).value:
        c.remark("beta of the mixer is doubled (linear_allow_neg_eigval), which is left out: one product per head")
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=100352),
        "d_model": hidden,
        "max_context": c.size("max_position_embeddings", default=65536),
        "tied_embeddings": c.flag("tie_word_embeddings", default=False),
        "layers": stack(
            count,
            names,
            {
                "linear": {
                    "norm": {**norm, "placement": "pre"},
                    "attention": _mixer(c, hidden, heads),
                    "position": NOWHERE,
                },
                "full": {
                    "norm": {**norm, "placement": "reordered"},
                    "attention": {
                        "kind": "gqa",
                        "n_heads": heads,
                        "n_kv_heads": kv_heads(c, heads),
                        "head_dim": head_dim,
                        "qkv_bias": bias,
                        "out_bias": bias,
                        "qk_norm": norm,
                        "qk_norm_over": "all-heads",
                    },
                    "position": _position(c, head_dim),
                },
            },
            {
                "ffn": {"kind": "swiglu", "d_ff": c.size("intermediate_size", default=11008)},
                "final_norm": norm,
            },
        ),
    }


def _placed(count: int) -> list[str]:
    """Attention in every fourth layer, and in the last one where there are fewer."""
    words = ["linear_attention" if (i + 1) % 4 else "full_attention" for i in range(count)]
    if "full_attention" not in words:
        words[-1:] = ["full_attention"]
    return words


def _mixer(c: Config, hidden: Read[int], heads: Read[int]) -> Doc:
    """As many key and value heads as the attention has; a key three quarters of a head wide, a value twice that."""
    keys = c.size("linear_num_key_heads", default=heads)
    values = c.size("linear_num_value_heads", default=heads)
    key_dim = inferred(
        int(0.75 * hidden.value / keys.value),
        f"three quarters of {hidden.value:,} over {keys.value} heads, as the class has it",
        hidden,
        keys,
    )
    wide = c.size("linear_key_head_dim", default=key_dim)
    value_dim = inferred(2 * wide.value, "twice the width of a key, as the class has it", wide)
    return {
        "kind": "gated-deltanet",
        "n_heads": values,
        "n_key_heads": keys,
        "key_dim": wide,
        "value_dim": c.size("linear_value_head_dim", default=value_dim),
        "d_conv": c.size("linear_conv_kernel_dim", default=4),
        "chunk": CHUNK,
    }


def _position(c: Config, head_dim: Read[int]) -> Doc:
    """The rotation, or none where the file says that it or its base is null, as the released ones do."""
    inner = c.below("rope_parameters") if not _null(c, "rope_parameters") else None
    if inner is None or _null(inner, "rope_theta") or _null(c, "rope_theta"):
        for one in (c, *((inner,) if inner is not None else ())):
            one.ignore("rope_theta", "rope_type", "type")
        c.remark("queries and keys are not rotated, as a rotation of null is meant in the released files")
        return NOWHERE
    return whole_rope(c, head_dim, theta=10000.0)


def _null(c: Config, key: str) -> bool:
    """Whether the file says null."""
    return key in c.unread() and c.raw(key) is None


FAMILY = Family(
    document=document,
    config_class="OlmoHybridConfig",
    source=TRANSFORMERS,
    # First values of parameters.
    idle=RUNTIME | {"linear_a_log_max", "linear_a_log_min", "linear_dt_init_floor", "linear_dt_max", "linear_dt_min"},
)
