"""XVERSE: LLaMA's block with or without experts, which then stand in every layer. transformers has no class of it."""

from __future__ import annotations

from llmprof.importing.config import Config, Read
from llmprof.importing.dense import RUNTIME, kv_heads, whole_rope
from llmprof.importing.document import Doc
from llmprof.importing.experts import experts, joint_width
from llmprof.importing.family import Family
from llmprof.importing.parts import GLUS, per_head

SOURCE = (
    "sglang 0.5.23, https://pypi.org/project/sglang/0.5.23/, sglang/srt/models/xverse.py and "
    "xverse_moe.py, read 2026-11-30"
)


def document(c: Config) -> Doc:
    """The table."""
    hidden = c.size("hidden_size")
    heads = c.size("num_attention_heads")
    head_dim = per_head(hidden, heads, c)
    act = c.choice("hidden_act", of={"silu": GLUS["silu"]})
    c.must("rope_scaling", None, why="no release rescales the rotation")
    c.ignore("max_tokenizer_truncation", "initializer_weight")
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size"),
        "d_model": hidden,
        "max_context": c.size("max_position_embeddings"),
        "tied_embeddings": c.flag("tie_word_embeddings", default=False),
        "position": whole_rope(c, head_dim, theta=10000.0),
        "layers": {
            "count": c.size("num_hidden_layers"),
            "norm": {"kind": "rmsnorm", "placement": "pre", "eps": c.number("rms_norm_eps")},
            "attention": {
                "kind": "gqa",
                "n_heads": heads,
                "n_kv_heads": kv_heads(c, heads),
                "head_dim": head_dim,
            },
            "ffn": _feed_forward(c, act),
        },
    }


def _feed_forward(c: Config, act: Read[str]) -> Doc:
    width = c.size("intermediate_size")
    if not c.has("num_experts"):
        for key in ("moe_top_k", "num_shared_experts"):
            c.must(key, None, why="there are no experts")
        return {"kind": act, "d_ff": width}
    return experts(
        act,
        count=c.size("num_experts"),
        top_k=c.size("moe_top_k"),
        width=width,
        shared=joint_width(width, c.optional_size("num_shared_experts", default=None, least=0)),
        router={"normalise": c.flag("norm_topk_prob", default=False)},
    )


FAMILY = Family(document=document, config_class=None, source=SOURCE, idle=RUNTIME)
