"""Mixtures of experts: qwen2moe, qwen3moe, gpt-oss, and deepseek2, the name of DeepSeek-V2, V3 and Kimi K2 in files."""

from __future__ import annotations

from llmprof.importing.gguf.common import (
    RMS,
    biases,
    head_dim,
    projections,
    rotation,
    scaling,
    sizes,
    vocabulary,
    whole_context,
)
from llmprof.importing.gguf.keys import Keys, shortest

SOFTMAX, SIGMOID = 1, 2
"""`llama_expert_gating_func_type` (https://github.com/ggml-org/llama.cpp, recalled)."""


def _experts(k: Keys, width: int, field: str) -> int:
    """How many there are, how many of them a token goes to, and how wide they are; returns the width."""
    count, chosen = k.size("expert_count"), k.size("expert_used_count")
    inner = k.size("expert_feed_forward_length")
    k.put(field, count, "expert_count")
    k.put("num_experts_per_tok", chosen, "expert_used_count")
    why = "by expert_count and expert_feed_forward_length"
    k.holds("ffn_gate_exps.weight", (count, inner, width), why)
    k.holds("ffn_up_exps.weight", (count, inner, width), why)
    k.holds("ffn_down_exps.weight", (count, width, inner), why)
    return inner


def qwen2moe(k: Keys) -> str:
    """``qwen2moe``: experts beside a shared one with a gate; llama.cpp does not divide chosen weights (recalled)."""
    width, heads = sizes(k)
    each = head_dim(k, width, heads)
    projections(k, width, heads, each)
    rotation(k, each)
    vocabulary(k)
    k.put("moe_intermediate_size", _experts(k, width, "num_experts"), "expert_feed_forward_length")
    shared = k.size("expert_shared_feed_forward_length")
    k.put("shared_expert_intermediate_size", shared, "expert_shared_feed_forward_length")
    k.holds("ffn_up_shexp.weight", (shared, width), "by expert_shared_feed_forward_length")
    k.put("intermediate_size", k.size("feed_forward_length", default=shared), "feed_forward_length")
    k.put("norm_topk_prob", k.flag("expert_weights_norm", default=False), "expert_weights_norm")
    k.must("expert_gating_func", SOFTMAX, why="the family makes scores by a softmax")
    k.put("decoder_sparse_step", 1)
    k.put("mlp_only_layers", [])
    k.put("qkv_bias", biases(k, "attn_q", "attn_k", "attn_v"))
    k.put("rms_norm_eps", k.number(RMS), RMS)
    k.put("hidden_act", "silu")
    whole_context(k)
    k.put("sliding_window", None)
    return "qwen2_moe"


def qwen3moe(k: Keys) -> str:
    """``qwen3moe``: experts in every layer, and chosen weights are divided by their sum, as llama.cpp has it."""
    width, heads = sizes(k)
    each = head_dim(k, width, heads)
    projections(k, width, heads, each)
    rotation(k, each)
    vocabulary(k)
    k.put("moe_intermediate_size", _experts(k, width, "num_experts"), "expert_feed_forward_length")
    k.put("intermediate_size", k.size("feed_forward_length", default=k.fields["moe_intermediate_size"]))
    k.put("norm_topk_prob", k.flag("expert_weights_norm", default=True), "expert_weights_norm")
    k.must("expert_shared_count", 0, why="the family has no shared expert")
    k.must("expert_shared_feed_forward_length", 0, why="the family has no shared expert")
    k.must("expert_weights_scale", 0.0, 1.0, why="the family does not scale chosen weights")
    k.must("expert_gating_func", SOFTMAX, why="the family makes scores by a softmax")
    k.put("decoder_sparse_step", 1)
    k.put("mlp_only_layers", [])
    k.put("attention_bias", biases(k, "attn_q", "attn_k", "attn_v", "attn_output"))
    k.put("rms_norm_eps", k.number(RMS), RMS)
    k.put("hidden_act", "silu")
    k.put("use_sliding_window", False)
    return "qwen3_moe"


def gpt_oss(k: Keys) -> str:
    """``gpt-oss``: every second layer sees a window, all have sinks."""
    width, heads = sizes(k)
    each = head_dim(k, width, heads)
    projections(k, width, heads, each)
    k.holds("attn_sinks.weight", (heads,), "one for each head of queries")
    rotation(k, each, theta=None)
    vocabulary(k)
    k.put("intermediate_size", _experts(k, width, "num_local_experts"), "expert_feed_forward_length")
    k.must("feed_forward_length", k.fields["intermediate_size"], 0, why="all layers have experts")
    k.must("expert_shared_count", 0, why="the family has no shared expert")
    window = k.size("attention.sliding_window")
    k.put("sliding_window", window, "attention.sliding_window")
    interval = k.size("attention.sliding_window_pattern", default=2)
    kinds = ("sliding_attention", "full_attention")
    k.put("layer_types", [kinds[(layer + 1) % interval == 0] for layer in range(k.layers())])
    k.put("attention_bias", biases(k, "attn_q", "attn_k", "attn_v", "attn_output"))
    k.put("rms_norm_eps", k.number(RMS), RMS)
    k.put("hidden_act", "silu")
    k.put("swiglu_limit", 7.0)  # these two are constants of llama.cpp, as of the family's class
    k.put("swiglu_alpha", 1.702)
    return "gpt_oss"


def deepseek2(k: Keys) -> str:
    """``deepseek2``: latent attention. The gating function says which of the two families it is; without one, V2.

    Newer files keep keys as one latent of all heads (key_length 576) and say a head's own widths apart (``_mla``).
    """
    width, heads = sizes(k)
    k.put("num_key_value_heads", heads)  # which the class does not read
    latent, rotated = k.size("attention.kv_lora_rank"), k.size("rope.dimension_count")
    key, value = k.size("attention.key_length"), k.size("attention.value_length")
    if k.has("attention.key_length_mla"):
        k.must("attention.key_length", latent + rotated, why="a latent and a rotated key, shared by all heads")
        k.must("attention.value_length", latent, why="the latent")
        k.must("attention.head_count_kv", 1, why="one latent for all heads")
        key, value = k.size("attention.key_length_mla"), k.size("attention.value_length_mla")
    if key <= rotated:
        k.wrong("attention.key_length", f"more than the {rotated} values that are rotated")
    k.put("kv_lora_rank", latent, "attention.kv_lora_rank")
    k.put("qk_rope_head_dim", rotated, "rope.dimension_count")
    k.put("qk_nope_head_dim", key - rotated, "attention.key_length")
    k.put("v_head_dim", value, "attention.value_length")
    rank = k.size("attention.q_lora_rank", default=0, least=0) or None
    k.put("q_lora_rank", rank, "attention.q_lora_rank")
    k.holds("attn_kv_a_mqa.weight", (latent + rotated, width), "by kv_lora_rank and rope.dimension_count")
    k.holds("attn_kv_b.weight", (heads * (key - rotated + value), latent), "by the widths of a head")
    k.holds("attn_q.weight", (heads * key, width), "by the widths of a head")
    if rank is not None:
        k.holds("attn_q_a.weight", (rank, width), "by q_lora_rank")
        k.holds("attn_q_b.weight", (heads * key, rank), "by the widths of a head")
    k.holds("attn_output.weight", (width, heads * value), "by the widths of a head")
    k.put("attention_bias", False)
    _rescaled(k)
    vocabulary(k)
    k.put("rms_norm_eps", k.number(RMS), RMS)
    k.put("hidden_act", "silu")
    return _router(k, width)


def _rescaled(k: Keys) -> None:
    """The rotation, and what its rescaling makes of the scores' factor."""
    k.put("rope_theta", k.number("rope.freq_base", default=10000.0), "rope.freq_base")
    found = scaling(k)
    log = k.number("rope.scaling.yarn_log_multiplier") if k.has("rope.scaling.yarn_log_multiplier") else None
    if found is not None and log is not None:
        # llama.cpp keeps a tenth of what the config calls so.
        found["mscale"] = found["mscale_all_dim"] = shortest(10 * log)


def _router(k: Keys, width: int) -> str:
    dense = k.size("feed_forward_length")
    k.put("intermediate_size", dense, "feed_forward_length")
    k.holds("ffn_up.weight", (dense, width), "by feed_forward_length")
    inner = _experts(k, width, "n_routed_experts")
    k.put("moe_intermediate_size", inner, "expert_feed_forward_length")
    k.put("n_shared_experts", k.size("expert_shared_count", default=0, least=0), "expert_shared_count")
    k.put("first_k_dense_replace", k.size("leading_dense_block_count", default=0, least=0), "leading_dense_block_count")
    k.put("moe_layer_freq", 1)
    scale = k.number("expert_weights_scale", default=1.0)
    k.put("routed_scaling_factor", scale, "expert_weights_scale")
    gating = k.size("expert_gating_func", default=SOFTMAX)
    normed = k.flag("expert_weights_norm", default=False)
    k.put("norm_topk_prob", normed, "expert_weights_norm")
    groups, chosen = k.size("expert_group_count", default=1), k.size("expert_group_used_count", default=1)
    k.must(
        "nextn_predict_layers",
        0,
        why="of layers that predict further tokens it is not known whether block_count has them",
    )
    k.put("num_nextn_predict_layers", 0)
    if gating == SIGMOID:
        k.put("n_group", groups, "expert_group_count")
        k.put("topk_group", chosen, "expert_group_used_count")
        return "deepseek_v3"
    if gating != SOFTMAX:
        k.wrong("expert_gating_func", f"{SOFTMAX} (softmax) or {SIGMOID} (sigmoid)")
    k.put("mlp_bias", False)
    if groups > 1:
        k.put("topk_method", "group_limited_greedy")
        k.put("n_group", groups, "expert_group_count")
        k.put("topk_group", chosen, "expert_group_used_count")
    else:
        k.put("topk_method", "greedy")
    return "deepseek_v2"
