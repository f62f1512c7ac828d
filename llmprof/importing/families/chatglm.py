"""ChatGLM's two schemas: ChatGLM-6B (prefix decoder, DeepNorm), and ChatGLM2, 3, CodeGeeX2 and GLM-4-9B (causal).

Both call themselves ``chatglm``; they are told apart by the names of their fields.
"""

from __future__ import annotations

from llmprof.importing.blocks import built_as, multi_head, off, on
from llmprof.importing.config import Config, Read, inferred
from llmprof.importing.document import LEFT_OUT, Doc
from llmprof.importing.family import Family
from llmprof.importing.parts import per_head

SOURCE = (
    "configuration_chatglm.py as released: ChatGLM-6B in https://github.com/greensheng/chatglm-6b, ChatGLM2-6B in "
    "https://github.com/syjjhl/chatglm2-6b, both read 2026-11-30; what they decide in modeling_chatglm.py beside them"
)
FIRST = ("inner_hidden_size", "max_sequence_length", "position_encoding_2d")
SECOND = ("ffn_hidden_size", "padded_vocab_size", "multi_query_group_num", "seq_length")
BASE = 10000.0


def document(c: Config) -> Doc:
    """The table. The defaults of the published classes are those of one model each, so that sizes must be stated."""
    built_as(c)
    c.must("pre_seq_len", None, why="a prefix that was tuned adds an encoder of its own")
    off(c, "prefix_projection", why="a prefix that was tuned adds an encoder of its own")
    c.must(
        "quantization_bit", 0, None, why="how the weights are stored: say it with --weight-dtype, and leave it out here"
    )
    first = [key for key in FIRST if c.has(key)]
    second = [key for key in SECOND if c.has(key)]
    if first and second:
        c.stop(second[0], f"the fields of one schema: {first[0]} is ChatGLM-6B's, {second[0]} that of its successors")
    return _first(c) if first else _second(c)


def _first(c: Config) -> Doc:
    """ChatGLM-6B. Half of a head is rotated by the position, half by that within what is generated.

    The code normalises first and takes the residual from the normed value: post-norm DeepNorm with a norm after the
    embeddings, counted one norm later.
    """
    hidden, heads = c.size("hidden_size"), c.size("num_attention_heads")
    eps = c.number("layernorm_epsilon", default=1e-5)
    two = c.flag("position_encoding_2d", default=True)
    return {
        "structure": "prefix-decoder",
        "vocab_size": c.size("vocab_size"),
        "d_model": hidden,
        "max_context": c.size("max_sequence_length", default=2048),
        "tied_embeddings": c.flag("tie_word_embeddings", default=True),
        "position": {"kind": "rope", "theta": BASE, "axes": Read(2 if two.value else 1, two.keys, two.note)},
        "embedding": {"norm": {"kind": "layernorm", "eps": eps}},
        "layers": {
            "count": c.size("num_layers", "num_hidden_layers"),
            "norm": {"kind": "layernorm", "placement": "post", "eps": eps},
            "residual": {"kind": "deepnorm", "rule": "glm"},
            "attention": multi_head(heads, per_head(hidden, heads, c), bias=True),
            "ffn": {"kind": "gelu-tanh", "d_ff": c.size("inner_hidden_size"), "bias": True},
        },
    }


def _second(c: Config) -> Doc:
    """ChatGLM2 and after. The first half of a head is rotated, in pairs; ``rope_ratio`` multiplies the base."""
    off(c, "apply_residual_connection_post_layernorm", why="the residual would be taken after the norm")
    off(c, "fp32_residual_connection", why="the residual would be kept in fp32")
    off(c, "tie_word_embeddings", why="the published code has an output matrix of its own")
    on(c, "original_rope", why="the published code knows no other rotation")
    hidden, heads = c.size("hidden_size"), c.size("num_attention_heads")
    head_dim = c.size("kv_channels")
    if head_dim.value % 4:
        c.wrong("kv_channels", "a multiple of 4: the half that is rotated has pairs")
    bias = c.flag("add_bias_linear", default=False)
    qkv = c.flag("add_qkv_bias", default=False)
    final = c.flag("post_layer_norm", default=True)
    norm = c.flag("rmsnorm", default=True)
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("padded_vocab_size", "vocab_size"),
        "d_model": hidden,
        "max_context": c.size("seq_length"),
        "tied_embeddings": False,
        "position": {
            "kind": "rope",
            "theta": _theta(c),
            "rotary_dim": inferred(head_dim.value // 2, f"half of the {head_dim.value} values of a head", head_dim),
        },
        "layers": {
            "count": c.size("num_layers", "num_hidden_layers"),
            "norm": {
                "kind": Read("rmsnorm" if norm.value else "layernorm", norm.keys, norm.note),
                "placement": "pre",
                "eps": c.number("layernorm_epsilon", default=1e-5),
            },
            "final_norm": Read(LEFT_OUT, final.keys) if final.value else inferred("none", "no norm at the end", final),
            "attention": {
                "kind": "gqa",
                "n_heads": heads,
                "n_kv_heads": _groups(c, heads),
                "head_dim": head_dim,
                "qkv_bias": Read(bias.value or qkv.value, qkv.keys + bias.keys, qkv.note),
                "out_bias": bias,
            },
            "ffn": {"kind": "swiglu", "d_ff": c.size("ffn_hidden_size"), "bias": bias},
        },
    }


def _theta(c: Config) -> Read[float] | float:
    if not c.has("rope_ratio"):
        return BASE
    ratio = c.number("rope_ratio")
    return inferred(BASE * ratio.value, f"{BASE:g} x rope_ratio {ratio.value:g}, as GLM-4's code has it", ratio)


def _groups(c: Config, heads: Read[int]) -> Read[int]:
    """How many heads of keys there are: ``multi_query_attention`` groups, and its groups may be more than one."""
    grouped = c.flag("multi_query_attention", default=False)
    groups = c.size("multi_query_group_num", default=1)
    return groups if grouped.value else Read(heads.value, heads.keys, grouped.note)


FAMILY = Family(
    document=document,
    config_class=None,
    source=SOURCE,
    idle=frozenset(
        {
            "apply_query_key_layer_scaling",  # a factor that is multiplied in and divided out
            "attention_softmax_in_fp32",
            "bias_dropout_fusion",
            "interleaved_qkv",  # the order of the columns of one matrix
            "quantization_embeddings",
            "rotary_percent",  # released with CodeGeeX2, and read by no code
        }
    ),
)
