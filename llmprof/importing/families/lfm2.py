"""LFM2: gated short convolutions, and attention in a few layers."""

from __future__ import annotations

from llmprof.importing.config import MAX_SIZE, Config, Read, inferred
from llmprof.importing.dense import count_of_layers, whole_rope
from llmprof.importing.document import Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.mixers import NOWHERE
from llmprof.importing.parts import per_head, stack

KINDS = {"full_attention": "full", "conv": "conv"}
"""A word of ``layer_types`` -> group."""


def document(c: Config) -> Doc:
    """The table. Fields of Liquid's own code stand beside the class's in released configs, and must say the same."""
    hidden = c.size("hidden_size", default=2560)
    for key in ("block_dim", "conv_dim", "conv_dim_out"):
        c.must(key, hidden.value, None, why="the class reads hidden_size")
    count = count_of_layers(c, default=32)
    c.must("block_use_swiglu", True, why="the class has SwiGLU alone")
    c.must("use_pos_enc", True, why="the class rotates in any case")
    return {
        **model(c, hidden),
        "layers": stack(
            count,
            _names(c, count),
            mixers(c, hidden),
            {"norm": norm(c), "ffn": {"kind": "swiglu", "d_ff": _width(c)}},
        ),
    }


def model(c: Config, hidden: Read[int]) -> Doc:
    """What stands around the layers, in LFM2 and in LFM2-MoE."""
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=65536),
        "d_model": hidden,
        "max_context": c.size("max_position_embeddings", default=128_000),
        "tied_embeddings": c.flag("tie_word_embeddings", "tie_embedding", default=True),
    }


def norm(c: Config) -> Doc:
    """The norm of all layers."""
    eps = c.number("norm_eps", "block_norm_eps", default=1e-5)
    return {"kind": "rmsnorm", "placement": "pre", "eps": eps}


def mixers(c: Config, hidden: Read[int]) -> dict[str, Doc]:
    """The two kinds of layers, in LFM2 and in LFM2-MoE."""
    heads = c.size("num_attention_heads", default=32)
    c.must("num_heads", heads.value, None, why="the class reads num_attention_heads")
    head_dim = per_head(hidden, heads, c, "head_dim")
    bias = c.flag("conv_bias", default=False)
    return {
        "conv": {
            "attention": {
                "kind": "short-conv",
                "d_conv": c.size("conv_L_cache", default=3),
                "conv_bias": bias,
                "bias": bias,
            },
            "position": NOWHERE,
        },
        "full": {
            "attention": {
                "kind": "gqa",
                "n_heads": heads,
                "n_kv_heads": c.size("num_key_value_heads", default=8),
                "head_dim": head_dim,
                "qk_norm": {"kind": "rmsnorm", "eps": norm(c)["eps"]},
            },
            "position": whole_rope(c, head_dim, theta=1_000_000.0),
        },
    }


def _names(c: Config, count: Read[int]) -> list[str]:
    """Words for each layer, else the places of the attention; without either all layers attend."""
    words: list[str] | None = None
    if c.has("layer_types"):
        found = c.words("layer_types", of=KINDS)
        if len(found.value) != count.value:
            c.stop("layer_types", f"one word for each of {count.value:,} layers")
        words = [KINDS[word] for word in found.value]
    if words is not None and not c.has("full_attn_idxs"):
        return words
    chosen = c.sizes("full_attn_idxs", default=Read(tuple(range(count.value)), (), "all, as the class has it"))
    placed = ["full" if i in chosen.value else "conv" for i in range(count.value)]
    if words is not None and words != placed:
        c.wrong("full_attn_idxs", "the layers that layer_types calls full_attention")
    return words or placed


def _width(c: Config) -> Read[int]:
    """The feed-forward's width: of the field two thirds, times a factor, up to a multiple (Lfm2MLP)."""
    if c.has("block_ff_dim"):
        wide = c.size("block_ff_dim")
        if c.has("intermediate_size") and c.size("intermediate_size").value != wide.value:
            c.remark("intermediate_size is not read: the class takes block_ff_dim where both are there")
    else:
        wide = c.size("intermediate_size", default=12288)
    if not c.flag("block_auto_adjust_ff_dim", default=True).value:
        return wide
    width = int(2 * wide.value / 3)
    multiplier = c.number("block_ffn_dim_multiplier", default=1.0)
    multiple = c.size("block_multiple_of", default=256)
    # A factor that takes it beyond all sizes is refused by the spec language, however large.
    width = -(-int(min(multiplier.value * width, 2.0 * MAX_SIZE)) // multiple.value) * multiple.value
    how = f"two thirds of {wide.value:,}, times {multiplier.value:g}, up to a multiple of {multiple.value}"
    return inferred(width, how, wide, multiplier, multiple)


FAMILY = Family(
    document=document,
    config_class="Lfm2Config",
    source=TRANSFORMERS,
    idle=frozenset(
        {
            "block_ffn_dim_multiplier",
            "block_mlp_init_scale",
            "block_multiple_of",
            "block_out_init_scale",
            "block_use_xavier_init",
            "conv_use_xavier_init",
            "intermediate_size",
        }
    ),
)
