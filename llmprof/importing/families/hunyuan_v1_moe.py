"""Hunyuan-A13B: the dense models' layers with experts, each as wide as the one that all tokens share."""

from __future__ import annotations

from llmprof.importing.config import Config, Read
from llmprof.importing.dense import RUNTIME, count_of_layers, kv_heads, normed_after_rotation, whole_rope
from llmprof.importing.document import Doc
from llmprof.importing.experts import experts
from llmprof.importing.families.hunyuan_v1_dense import RELEASED
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.parts import GLUS, per_head


def document(c: Config) -> Doc:
    """The table."""
    hidden = c.size("hidden_size", default=4096)
    heads = c.size("num_attention_heads", default=32)
    head_dim = per_head(hidden, heads, c, "head_dim")
    count = count_of_layers(c, default=32)
    eps = c.number("rms_norm_eps", default=1e-5)
    bias = c.flag("attention_bias", default=False)
    width = c.size("intermediate_size", default=11008)
    normed_after_rotation(c)
    _what_the_class_has(c, head_dim, width, count.value)
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=290943),
        "d_model": hidden,
        "max_context": c.size("max_position_embeddings", default=2048),
        "tied_embeddings": c.flag("tie_word_embeddings", default=False),
        "position": whole_rope(c, head_dim, theta=10000.0),
        "layers": {
            "count": count,
            "norm": {"kind": "rmsnorm", "placement": "pre", "eps": eps},
            "attention": {
                "kind": "gqa",
                "n_heads": heads,
                "n_kv_heads": kv_heads(c, heads),
                "head_dim": head_dim,
                "qkv_bias": bias,
                "out_bias": bias,
                "qk_norm": {"kind": "rmsnorm", "eps": eps},
            },
            "ffn": experts(
                c.choice("hidden_act", of=GLUS, default="silu"),
                count=c.size("num_experts", "num_local_experts", default=1),
                top_k=_top_k(c, count.value),
                width=width,
                shared=width,
                router={"normalise": True},
            ),
        },
    }


def _top_k(c: Config, count: int) -> Read[int]:
    """``moe_topk``: a number, or one for each layer, which must be the same in all."""
    key = "moe_topk" if c.has("moe_topk") else "num_experts_per_tok"
    listed = c.raw(key)
    if not isinstance(listed, list):
        return c.size("moe_topk", "num_experts_per_tok", default=1)
    found = c.sizes(key, least=1)
    if len(set(found.value)) != 1 or len(found.value) != count:
        c.stop(key, f"{count} numbers that are the same: layers of unlike choices are not read")
    return Read(found.value[0], found.keys)


def _what_the_class_has(c: Config, head_dim: Read[int], width: Read[int], count: int) -> None:
    """Fields of the release that the class does not read, at the values that it implements."""
    for key in (
        "add_classification_head",
        "group_limited_greedy",
        "mlp_bias",
        "n_group",
        "position_embedding_xdrope",
        "routed_scaling_factor",
        "topk_group",
        "use_cla",
        "use_mla",
    ):
        c.must(key, False, None, why="the class has no such thing")
    for key in ("norm_topk_prob", "use_mixed_mlp_moe", "use_qk_norm", "use_rotary_pos_emb"):
        c.must(key, True, why="the class has it in any case")
    c.must("attention_head_dim", head_dim.value, why="the class reads head_dim")
    c.must("norm_type", "rms", why="the class has RMSNorms")
    c.must("moe_layer_num_skipped", 0, why="the class has experts in every layer")
    c.must("num_shared_expert", 1, [1] * count, why="the class has one shared expert")
    c.must("moe_intermediate_size", width.value, [width.value] * count, why="the class reads intermediate_size")


FAMILY = Family(
    document=document,
    config_class="HunYuanMoEV1Config",
    source=TRANSFORMERS,
    idle=RUNTIME | RELEASED | {"capacity_factor", "moe_drop_tokens", "moe_random_routing_dropped_token"},
)
