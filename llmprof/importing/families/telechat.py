"""TeleChat 1 and 2: LLaMA's block with biases of the last matrix of each block. transformers has no class of it."""

from __future__ import annotations

from llmprof.importing.config import Config
from llmprof.importing.dense import RUNTIME, kv_heads, whole_rope
from llmprof.importing.document import Doc
from llmprof.importing.family import Family
from llmprof.importing.parts import per_head

SOURCE = (
    "vLLM, vllm/model_executor/models/telechat2.py, https://github.com/vllm-project/vllm/blob/"
    "0c4bb0edb6d9486a14ccdb98b7a19d09cbbd86b8/vllm/model_executor/models/telechat2.py, read 2026-11-30"
)

IDLE = frozenset(
    {
        "attention_softmax_in_fp32",
        "base_seqlen",
        "bias_dropout_fusion",
        "flash_attn",
        "masked_softmax_fusion",
        "offset_alibi",
        "skip_bias_add",
        "skip_bias_add_qkv",
        "slow_but_exact",
        "training_seqlen",
    }
)
"""Fields about training and kernels of the code that the releases carry."""


def document(c: Config) -> Doc:
    """The table."""
    hidden = c.size("hidden_size")
    heads = c.size("n_head")
    head_dim = per_head(hidden, heads, c)
    if not c.has("tie_word_embeddings"):
        c.stop("tie_word_embeddings", "true or false: what the code makes of its absence is not known")
    c.must("apply_residual_connection_post_layernorm", False, why="the code adds what stands before the norms")
    c.must("embed_layernorm", False, why="the code has no norm behind the embeddings")
    c.must("n_inner", None, why="ffn_hidden_size says it")
    c.must("hidden_act", "silu", why="the code has SiLU")
    if c.raw("logn"):
        c.leave_out("logn", "queries of long texts are multiplied by a logarithm, which changes no size and no product")
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size"),
        "d_model": hidden,
        "max_context": c.size("max_position_embeddings", "seq_length"),
        "tied_embeddings": c.flag("tie_word_embeddings"),
        "position": whole_rope(c, head_dim, theta=10000.0),
        "layers": {
            "count": c.size("n_layer"),
            "norm": {"kind": "rmsnorm", "placement": "pre", "eps": c.number("layer_norm_epsilon")},
            "attention": {
                "kind": "gqa",
                "n_heads": heads,
                "n_kv_heads": kv_heads(c, heads),
                "head_dim": head_dim,
                "out_bias": True,
            },
            "ffn": {"kind": "swiglu", "d_ff": c.size("ffn_hidden_size"), "down_bias": True},
        },
    }


FAMILY = Family(document=document, config_class=None, source=SOURCE, idle=RUNTIME | IDLE)
