"""Baichuan 1 and 2: LLaMA's block, with rotations in the models of 7B and ALiBi in those of 13B.

Both are one ``model_type`` with two classes: that of the rotations has ``max_position_embeddings``, that of ALiBi only
``model_max_length``. A config with neither is refused.
"""

from __future__ import annotations

from llmprof.importing.config import Config
from llmprof.importing.dense import RUNTIME
from llmprof.importing.document import Doc
from llmprof.importing.family import Family
from llmprof.importing.parts import GLUS, per_head


def document(c: Config) -> Doc:
    """The table; what decides a shape must be in the file. The classes have ``silu`` where it says nothing."""
    hidden = c.size("hidden_size")
    heads = c.size("num_attention_heads")
    head_dim = per_head(hidden, heads, c)
    rotates = c.has("max_position_embeddings")
    if rotates:
        context = c.size("max_position_embeddings")
        position: Doc = {"kind": "rope", "theta": 10000.0}
        c.remark("max_position_embeddings is there, so this is the class that rotates queries and keys")
    else:
        context = c.size("model_max_length")
        position = {"kind": "alibi"}
        c.remark("max_position_embeddings is not there and model_max_length is, so this is the class of ALiBi")
    if c.has("z_loss_weight"):
        c.remark("the rows of the output matrix are normed (Baichuan 2), which is left out: weights can be stored so")
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size"),
        "d_model": hidden,
        "max_context": context,
        "tied_embeddings": c.flag("tie_word_embeddings"),
        "position": position,
        "layers": {
            "count": c.size("num_hidden_layers"),
            "norm": {"kind": "rmsnorm", "placement": "pre", "eps": c.number("rms_norm_eps")},
            "attention": {"kind": "gqa", "n_heads": heads, "n_kv_heads": heads, "head_dim": head_dim},
            "ffn": {"kind": c.choice("hidden_act", of=GLUS, default="silu"), "d_ff": c.size("intermediate_size")},
        },
    }


FAMILY = Family(
    document=document,
    config_class=None,
    source="https://github.com/mlc-ai/mlc-llm/tree/79d603f085f50500e9509fa01785ffa7ecfaaa93/python/mlc_llm/model: "
    "model_preset.py and baichuan/baichuan_model.py, read 2026-11-30; "
    "https://huggingface.co/baichuan-inc: Baichuan2-7B-Base, Baichuan2-13B-Base, modeling_baichuan.py, recalled",
    idle=RUNTIME | {"_from_model_config", "z_loss_weight"},
)
