"""StarCoder and SantaCoder: GPT-2 with one head of keys."""

from __future__ import annotations

from llmprof.importing.blocks import built_as, four_times
from llmprof.importing.config import Config, Read, inferred
from llmprof.importing.document import LEFT_OUT, Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.parts import MLPS, per_head


def document(c: Config) -> Doc:
    """The table."""
    built_as(c)
    hidden = c.size("n_embd", "hidden_size", default=768)
    heads = c.size("n_head", "num_attention_heads", default=12)
    positions = c.size("n_positions", "max_position_embeddings", default=1024)
    c.must("n_ctx", positions.value, None, why="the context is as long as the table of positions")
    one = c.flag("multi_query", default=True)
    c.must("num_key_value_heads", 1 if one.value else heads.value, None, why="what multi_query comes to")
    scaled = c.flag("scale_attn_weights", default=True)
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=50257),
        "d_model": hidden,
        "max_context": positions,
        "tied_embeddings": c.flag("tie_word_embeddings", default=True),
        "position": {"kind": "learned", "rows": positions},
        "layers": {
            "count": c.size("n_layer", "num_hidden_layers", default=12),
            "norm": {"kind": "layernorm", "placement": "pre", "eps": c.number("layer_norm_epsilon", default=1e-5)},
            "attention": {
                "kind": "gqa",
                "n_heads": heads,
                "n_kv_heads": Read(1, one.keys, one.note) if one.value else heads,
                "head_dim": per_head(hidden, heads, c),
                "qkv_bias": True,
                "out_bias": True,
                "scale": LEFT_OUT if scaled.value else inferred(1.0, "scores are not scaled", scaled),
            },
            "ffn": {
                "kind": c.choice("activation_function", of=MLPS, default="gelu_pytorch_tanh"),
                "d_ff": c.size("n_inner", default=four_times(hidden)),
                "bias": True,
            },
        },
    }


FAMILY = Family(
    document=document,
    config_class="GPTBigCodeConfig",
    source=TRANSFORMERS,
    idle=frozenset(
        {
            # How the softmax is computed, and what an early runner allocated.
            "attention_softmax_in_fp32",
            "scale_attention_softmax_in_fp32",
            "inference_runner",
            "max_batch_size",
            "max_sequence_length",
            "pad_key_length",
            "pre_allocate_kv_cache",
            "validate_runner_input",
            "summary_activation",
            "summary_proj_to_labels",
            "summary_type",
            "summary_use_proj",
        }
    ),
)
