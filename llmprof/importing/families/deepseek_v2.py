"""DeepSeek-V2, V2-Lite, V2.5 and Coder-V2: latent attention, a softmax over all experts, shared experts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmprof.importing.config import Config
from llmprof.importing.dense import count_of_layers
from llmprof.importing.document import Doc
from llmprof.importing.experts import grouped
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.latent import IDLE, latent_decoder
from llmprof.importing.layers import first_dense

DEFAULTS: Mapping[str, Any] = {
    "vocab_size": 102400,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "moe_intermediate_size": 1407,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "n_shared_experts": 2,
    "n_routed_experts": 64,
    "kv_lora_rank": 512,
    "q_lora_rank": 1536,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "qk_nope_head_dim": 128,
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-6,
}


def document(c: Config) -> Doc:
    """The table."""
    count = count_of_layers(c, default=32)
    mlp_bias = c.flag("mlp_bias", default=False)
    if mlp_bias.value and not c.optional_size("n_shared_experts", default=2, least=0).value:
        c.wrong("n_shared_experts", "1 or more, with mlp_bias: the class keeps a bias of a shared expert of no width")
    c.must("moe_layer_freq", 1, why="the class has experts in every layer after the dense ones")
    return latent_decoder(
        c,
        DEFAULTS,
        count,
        first_dense(c, count, 0),
        router=_router(c),
        top_k=c.size("num_experts_per_tok"),
        also_experts=("num_experts",),
        mlp_bias=mlp_bias,
    )


def _router(c: Config) -> Doc:
    """A softmax over all experts; those of a token are the best of all, or the best of the best groups.

    A group is as good as its best expert here, and in the language as its two best together: which experts are chosen
    is the workload's to say, so that parameters, FLOPs and the cache are the same.
    """
    c.must("scoring_func", "softmax", why="the class makes scores of logits by a softmax over all experts")
    c.must(
        "norm_topk_prob",
        False,
        None,
        why="transformers does not divide chosen weights by their sum, and DeepSeek's own file then does not scale",
    )
    by_group = c.choice("topk_method", of={"greedy": False, "group_limited_greedy": True}, default="greedy")
    router: Doc = {"scale": c.number("routed_scaling_factor", default=1.0)}
    if not by_group.value:
        c.ignore("n_group", "topk_group")
        return router
    groups = grouped(c.size("n_group"), c.size("topk_group"))
    if groups:
        c.remark(
            "groups of experts are chosen by their best expert, here by their two best: the router's own kernels "
            "differ by that, no parameter, no FLOP of a matrix and no byte of the cache"
        )
    return {**router, **groups}


FAMILY = Family(document=document, config_class="DeepseekV2Config", source=TRANSFORMERS, idle=IDLE)
