"""EuroBERT: LLaMA's layers that attend in both directions, and a plain output matrix as masked-LM head."""

from __future__ import annotations

from llmprof.importing.blocks import built_as
from llmprof.importing.config import Config
from llmprof.importing.document import Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.parts import GLUS, per_head, rope


def document(c: Config) -> Doc:
    """The table."""
    hidden = c.size("hidden_size", default=768)
    heads = c.size("num_attention_heads", default=12)
    head_dim = per_head(hidden, heads, c, "head_dim")
    bias = c.flag("attention_bias", default=False)
    mlp_bias = c.flag("mlp_bias", default=False)
    name = built_as(c)
    if name is None:
        c.remark("architectures is not in the file: counted with the masked-language-model head")
    elif name not in ("EuroBertForMaskedLM", "EuroBertModel"):
        c.stop("architectures", "EuroBertForMaskedLM or EuroBertModel")
    return {
        "structure": "encoder",
        "vocab_size": c.size("vocab_size", default=128256),
        "d_model": hidden,
        "max_context": c.size("max_position_embeddings", default=8192),
        "tied_embeddings": c.flag("tie_word_embeddings", default=False),
        "position": rope(c, head_dim, theta=10000.0),
        "layers": {
            "count": c.size("num_hidden_layers", default=12),
            "norm": {"kind": "rmsnorm", "placement": "pre", "eps": c.number("rms_norm_eps", default=1e-5)},
            "attention": {
                "kind": "gqa",
                "n_heads": heads,
                "n_kv_heads": c.size("num_key_value_heads", default=heads),
                "head_dim": head_dim,
                "qkv_bias": bias,
                "out_bias": bias,
            },
            "ffn": {
                "kind": c.choice("hidden_act", of=GLUS, default="silu"),
                "d_ff": c.size("intermediate_size", default=3072),
                "bias": mlp_bias,
            },
        },
        "head": {"kind": "none"} if name == "EuroBertModel" else {"kind": "lm", "bias": mlp_bias},
    }


FAMILY = Family(
    document=document,
    config_class="EuroBertConfig",
    source=TRANSFORMERS,
    idle=frozenset({"classifier_pooling", "pretraining_tp"}),
)
