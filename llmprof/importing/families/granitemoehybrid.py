"""Granite 4: Mamba-2 or attention, then experts beside a feed-forward that always runs, or that alone; multipliers."""

from __future__ import annotations

from llmprof.importing.config import Config, Read, inferred
from llmprof.importing.dense import count_of_layers, kv_heads, optional_scale, whole_rope
from llmprof.importing.document import LEFT_OUT, Doc, Left
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.mixers import ATTENTION_OR_MIXER, IDLE, NOWHERE, inner, layer_kinds, mamba_2, silu_alone
from llmprof.importing.parts import GLUS, per_head, stack


def document(c: Config) -> Doc:
    """The table. The router's softmax is over the chosen experts."""
    hidden = c.size("hidden_size", default=4096)
    heads = c.size("num_attention_heads", default=32)
    head_dim = per_head(hidden, heads, c, "head_dim")
    count = count_of_layers(c, default=32)
    bias = c.flag("attention_bias", default=False)
    names = layer_kinds(
        c,
        count,
        "layer_types",
        "layers_block_type",
        of=ATTENTION_OR_MIXER,
        default=["linear_attention"] * count.value,
    )
    silu_alone(c, "hidden_act")
    c.must("normalization_function", "rmsnorm", why="the class has RMSNorm alone")
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=32000),
        "d_model": hidden,
        "max_context": c.size("max_position_embeddings", default=2048),
        "tied_embeddings": c.flag("tie_word_embeddings", default=False),
        "embedding": {"scale": optional_scale(c.number("embedding_multiplier", default=1.0))},
        "layers": stack(
            count,
            names,
            {
                "mamba": {
                    "attention": mamba_2(c, inner(c, "mamba_expand", hidden, default=2)),
                    "position": NOWHERE,
                }
                if "mamba" in names
                else {},
                "softmax": {
                    "attention": {
                        "kind": "gqa",
                        "n_heads": heads,
                        "n_kv_heads": kv_heads(c, heads),
                        "head_dim": head_dim,
                        "qkv_bias": bias,
                        "out_bias": bias,
                        "scale": c.number("attention_multiplier", default=1.0),
                    },
                    "position": _position(c, head_dim),
                },
            },
            {
                "norm": {"kind": "rmsnorm", "placement": "pre", "eps": c.number("rms_norm_eps", default=1e-6)},
                "ffn": _ffn(c),
                "residual": {"kind": "plain", "scale": c.number("residual_multiplier", default=1.0)},
            },
        ),
        "head": {"kind": "lm", "output_scale": _output_scale(c)},
    }


def _position(c: Config, head_dim: Read[int]) -> Doc:
    kind = c.raw("position_embedding_type")
    if kind not in (None, "nope", "rope"):
        c.refuse("position_embedding_type", "rope or nope")
    turned = whole_rope(c, head_dim, theta=10000.0)
    return turned if kind == "rope" else NOWHERE


def _ffn(c: Config) -> Doc:
    act = c.choice("hidden_act", of=GLUS, default="silu")
    always = {"kind": act, "d_ff": c.size("shared_intermediate_size", default=1024)}
    experts = c.size("num_local_experts", default=8, least=0)
    if experts.value == 0:
        return always
    return {
        "kind": "moe",
        "n_experts": experts,
        "top_k": c.size("num_experts_per_tok", default=2),
        "expert": {"kind": act, "d_ff": c.size("intermediate_size", default=11008)},
        "shared": always,
        "scores": "softmax-chosen",
    }


def _output_scale(c: Config) -> Read[float] | Read[Left]:
    divisor = c.number("logits_scaling", default=1.0)
    if divisor.value == 1.0:
        return Read(LEFT_OUT, divisor.keys)
    return inferred(1 / divisor.value, f"logits are divided by {divisor.value:g} (logits_scaling)", divisor)


FAMILY = Family(
    document=document,
    config_class="GraniteMoeHybridConfig",
    source=TRANSFORMERS,
    # The state space's sizes say nothing where no layer has one, nor the experts' where there are none.
    idle=IDLE
    | {
        "init_method",
        "intermediate_size",
        "mamba_chunk_size",
        "mamba_conv_bias",
        "mamba_d_conv",
        "mamba_d_head",
        "mamba_d_state",
        "mamba_expand",
        "mamba_n_groups",
        "mamba_n_heads",
        "mamba_proj_bias",
        "num_experts_per_tok",
        "time_step_limit",
    },
)
