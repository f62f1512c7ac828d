"""GPT-2 and what was released in its class: pre-norm, LayerNorm, biases everywhere, learned positions."""

from __future__ import annotations

from llmprof.importing.blocks import built_as, four_times, layer_count, multi_head, unequal
from llmprof.importing.config import Config, Read, inferred
from llmprof.importing.document import LEFT_OUT, Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.parts import MLPS, per_head


def document(c: Config) -> Doc:
    """The table."""
    built_as(c)
    c.must("n_special", 0, None, why="further tokens would have rows of their own")
    hidden = c.size("n_embd", "hidden_size", default=768)
    heads = c.size("n_head", "num_attention_heads", default=12)
    head_dim = per_head(hidden, heads, c)
    positions = c.size("n_positions", "max_position_embeddings", default=1024)
    c.must("n_ctx", positions.value, None, why="the context is as long as the table of positions")
    if c.flag("reorder_and_upcast_attn", default=False).value:
        c.remark("the release computes attention scores in fp32 (reorder_and_upcast_attn); llmprof does not")
    count = layer_count(c, "n_layer", "num_hidden_layers", default=12)
    names, scales = _scales(c, count, head_dim)
    common: Doc = {
        "norm": {"kind": "layernorm", "placement": "pre", "eps": c.number("layer_norm_epsilon", default=1e-5)},
        "attention": multi_head(heads, head_dim, bias=True),
        "ffn": {
            "kind": c.choice("activation_function", of=MLPS, default="gelu_new"),
            "d_ff": c.size("n_inner", default=four_times(hidden)),
            "bias": True,
        },
    }
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=50257),
        "d_model": hidden,
        "max_context": positions,
        "tied_embeddings": c.flag("tie_word_embeddings", default=True),
        "position": {"kind": "learned", "rows": positions},
        "layers": unequal(count, names, scales, common),
    }


def _scales(c: Config, count: Read[int], head_dim: Read[int]) -> tuple[list[str], dict[str, Doc]]:
    """What scores are multiplied by, by layer: the same in all, unless it falls with the layer's index."""
    by_width = c.flag("scale_attn_weights", default=True)
    by_layer = c.flag("scale_attn_by_inverse_layer_idx", default=False)
    if not by_layer.value:
        scale = Read(LEFT_OUT, by_width.keys) if by_width.value else inferred(1.0, "scores are not scaled", by_width)
        return ["all"] * count.value, {"all": {"attention": {"scale": scale}}}
    whole = head_dim.value**-0.5 if by_width.value else 1.0
    groups: dict[str, Doc] = {
        f"layer-{i}": {"attention": {"scale": inferred(whole / (i + 1), f"over {i + 1}, the layer's number", by_layer)}}
        for i in range(count.value)
    }
    return list(groups), groups


FAMILY = Family(
    document=document,
    config_class="GPT2Config",
    source=TRANSFORMERS,
    idle=frozenset(
        {
            "apply_query_key_layer_scaling",  # GPT-SW3: of its training, as the next
            "normalize_attention_scores",
            "predict_special_tokens",
            "summary_activation",
            "summary_proj_to_labels",
            "summary_type",
            "summary_use_proj",
        }
    ),
)
