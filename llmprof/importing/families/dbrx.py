"""DBRX: queries, keys and values in one matrix and clipped, experts in every layer, LayerNorms without a bias."""

from __future__ import annotations

from llmprof.importing.config import Config, Read
from llmprof.importing.dense import RUNTIME, clip, whole_rope
from llmprof.importing.document import Doc
from llmprof.importing.experts import experts
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.parts import GLUS, per_head


def document(c: Config) -> Doc:
    """The table."""
    hidden = c.size("d_model", default=2048)
    heads = c.size("n_heads", "num_attention_heads", default=16)
    head_dim = per_head(hidden, heads, c)
    c.must("head_dim", head_dim.value, None, why="the class divides the width of the model by the heads")
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=32000),
        "d_model": hidden,
        "max_context": c.size("max_seq_len", "max_position_embeddings", default=2048),
        "tied_embeddings": _untied(c),
        "position": _rope(c, head_dim),
        "layers": {
            "count": c.size("n_layers", "num_hidden_layers", default=24),
            "norm": {"kind": "layernorm", "placement": "pre", "bias": False, "eps": 1e-5},
            "attention": _attention(c, heads, head_dim),
            "ffn": _experts(c.below("ffn_config"), hidden),
        },
    }


def _untied(c: Config) -> bool:
    c.must("tie_word_embeddings", False, why="the class has no tied tables")
    return False


def _rope(c: Config, head_dim: Read[int]) -> Doc:
    """The rotation, whose base is in ``attn_config`` in every release; the class has its own, and writes both."""
    own = c.below("attn_config")
    made = whole_rope(c, head_dim, theta=10000.0)
    if not own.has("rope_theta"):
        return made
    base, stated = own.number("rope_theta"), made["theta"]
    c.account.defaults.pop("rope_theta", None)  # it is stated, one level below
    if stated.keys and stated.value != base.value:
        c.remark(f"the rotation's base is attn_config's {base.value:g}; the model's own says {stated.value:g}")
    return {**made, "theta": base}


def _attention(c: Config, heads: Read[int], head_dim: Read[int]) -> Doc:
    own = c.below("attn_config")
    kv = own.size("kv_n_heads", default=1)
    c.must("num_key_value_heads", kv.value, None, why="attn_config.kv_n_heads says it")
    return {
        "kind": "gqa",
        "n_heads": heads,
        "n_kv_heads": kv,
        "head_dim": head_dim,
        "qkv_clip": clip(own),
    }


def _experts(c: Config, hidden: Read[int]) -> Doc:
    """What ``ffn_config`` says; its ``hidden_size`` is always that of the model."""
    c.ignore("hidden_size", "moe_jitter_eps", "moe_loss_weight")
    p = c.optional_number("moe_normalize_expert_weights", default=1.0)
    if p.value not in (None, 1.0):
        c.refuse("moe_normalize_expert_weights", "1 or null: weights that are divided by another norm than their sum")
    return experts(
        c.below("ffn_act_fn").choice("name", of=GLUS, default="silu"),
        count=c.size("moe_num_experts", default=4),
        top_k=c.size("moe_top_k", default=1),
        width=c.size("ffn_hidden_size", default=3584),
        router={"normalise": Read(p.value is not None, p.keys, p.note)},
    )


FAMILY = Family(document=document, config_class="DbrxConfig", source=TRANSFORMERS, idle=RUNTIME)
