"""ModernBERT: pre-norm GeGLU layers with rotations, most of which see a window; the first has no norm in front."""

from __future__ import annotations

from llmprof.importing.blocks import built_as, encoder_head, layer_count, multi_head, unequal
from llmprof.importing.config import Config, Read
from llmprof.importing.document import Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.parts import GLUS, MLPS, per_head, rope

TYPES = ("full_attention", "sliding_attention")


def document(c: Config) -> Doc:
    """The table. A layer with a window sees ``local_attention`` // 2 tokens on either side."""
    hidden = c.size("hidden_size", default=768)
    heads = c.size("num_attention_heads", default=12)
    head_dim = per_head(hidden, heads, c)
    norm: Doc = {
        "kind": "layernorm",
        "bias": c.flag("norm_bias", default=False),
        "eps": c.number("norm_eps", default=1e-5),
    }
    c.must("layer_norm_eps", norm["eps"].value, None, why="norm_eps is the one that the class reads")
    c.must("position_embedding_type", "absolute", "sans_pos", "rope", None, why="the class rotates whatever this says")
    count = layer_count(c, "num_hidden_layers", default=22)
    types = _types(c, count)
    common: Doc = {
        "norm": {**norm, "placement": "pre"},
        "attention": multi_head(heads, head_dim, bias=c.flag("attention_bias", default=False)),
        "ffn": {
            "kind": c.choice("hidden_activation", of=GLUS, default="gelu"),
            "d_ff": c.size("intermediate_size", default=1152),
            "bias": c.flag("mlp_bias", default=False),
        },
        "final_norm": norm,
    }
    names = ["first", *("global" if kind == TYPES[0] else "local" for kind in types[1:])]
    return {
        "structure": "encoder",
        "vocab_size": c.size("vocab_size", default=50368),
        "d_model": hidden,
        "max_context": c.size("max_position_embeddings", default=8192),
        "tied_embeddings": c.flag("tie_word_embeddings", default=True),
        "embedding": {"norm": norm},
        "layers": unequal(count, names, _groups(c, head_dim, types), common),
        **_head(c, norm),
    }


def _types(c: Config, count: Read[int]) -> list[str]:
    """The kind of each layer: listed, or every nth of the global kind, from the first on."""
    every = c.size("global_attn_every_n_layers", default=3)
    derived = [TYPES[bool(i % every.value)] for i in range(count.value)]
    said: list[str] = list(c.words("layer_types", of=TYPES, default=Read(derived, count.keys)).value)
    if len(said) != count.value:
        c.stop("layer_types", f"{count.value:,} kinds, one for each layer")
    return said


def _groups(c: Config, head_dim: Read[int], types: list[str]) -> dict[str, Doc]:
    """What layers have beside each other: a window and a rotation of their own, the first no norm in front."""
    window = c.size("local_attention", default=128)
    whole = rope(c, head_dim, theta=160000.0, theta_key="global_rope_theta", layer_type=TYPES[0])
    part = rope(c, head_dim, theta=10000.0, theta_key="local_rope_theta", layer_type=TYPES[1])
    made: dict[str, Doc] = {
        TYPES[0]: {"position": whole},
        TYPES[1]: {"attention": {"window": window}, "position": part},
    }
    return {"first": {"norm": {"first": False}, **made[types[0]]}, "global": made[TYPES[0]], "local": made[TYPES[1]]}


def _head(c: Config, norm: Doc) -> Doc:
    """The masked-LM head, whose fields of activation and bias have names of their own."""
    bare = built_as(c) == "ModernBertModel"
    activation = c.choice("classifier_activation", of=MLPS, default="gelu")
    dense = c.flag("classifier_bias", default=False)
    if not bare:
        c.must("decoder_bias", True, why="the output matrix of a masked-LM head has a bias in the spec language")
    c.ignore("decoder_bias")
    return encoder_head(c, "ModernBert", norm=norm, activation=activation, pooler=False, dense_bias=dense)


FAMILY = Family(
    document=document,
    config_class="ModernBertConfig",
    source=TRANSFORMERS,
    idle=frozenset(
        {
            "classifier_pooling",
            "deterministic_flash_attn",
            "reference_compile",
            "repad_logits_with_grad",
            "sparse_pred_ignore_index",
            "sparse_prediction",
        }
    ),
)
