"""LLaMA's kin: llama (Mistral and Mixtral are files of it too), qwen2, qwen3, phi3, starcoder2, olmo2, granite."""

from __future__ import annotations

from llmprof.importing.gguf.common import (
    RMS,
    biases,
    feed_forward,
    head_dim,
    projections,
    rotation,
    sizes,
    vocabulary,
    whole_context,
    without,
)
from llmprof.importing.gguf.keys import Keys

_ATTENTION = ("attn_q", "attn_k", "attn_v", "attn_output")


def llama(k: Keys) -> str:
    """``llama``: with experts it is a Mixtral, without any a LLaMA, whatever it was called before."""
    width, heads = sizes(k)
    each = head_dim(k, width, heads)
    projections(k, width, heads, each)
    rotation(k, each)
    vocabulary(k)
    without(k, "attn_q_norm.weight", "attn_norm_2.weight", "post_attention_norm.weight")
    k.put("rms_norm_eps", k.number(RMS), RMS)
    k.put("hidden_act", "silu")
    experts = k.size("expert_count", default=0, least=0)
    if experts:
        chosen = k.size("expert_used_count")
        inner = k.size("feed_forward_length")
        k.put("intermediate_size", inner, "feed_forward_length")
        k.put("num_local_experts", experts, "expert_count")
        k.put("num_experts_per_tok", chosen, "expert_used_count")
        k.put("sliding_window", None)
        k.holds("ffn_gate_exps.weight", (experts, inner, width), "by expert_count and feed_forward_length")
        without(k, *(f"{name}.bias" for name in _ATTENTION))
        return "mixtral"
    k.must("expert_used_count", 0, why="there are no experts")
    feed_forward(k, width)
    k.put("attention_bias", biases(k, *_ATTENTION))
    k.put("mlp_bias", biases(k, "ffn_gate", "ffn_up", "ffn_down"))
    return "llama"


def qwen2(k: Keys) -> str:
    """``qwen2``: the projections of queries, keys and values have biases, and all layers see all tokens."""
    width, heads = sizes(k)
    each = head_dim(k, width, heads)
    projections(k, width, heads, each)
    rotation(k, each)
    vocabulary(k)
    feed_forward(k, width)
    without(k, "attn_output.bias", "attn_q_norm.weight")
    if not biases(k, "attn_q", "attn_k", "attn_v"):
        k.shape("blk.0.attn_q.bias")
    k.put("rms_norm_eps", k.number(RMS), RMS)
    k.put("hidden_act", "silu")
    whole_context(k)
    return "qwen2"


def qwen3(k: Keys) -> str:
    """``qwen3``: queries and keys are normalised, and nothing has a bias."""
    width, heads = sizes(k)
    each = head_dim(k, width, heads)
    projections(k, width, heads, each)
    k.holds("attn_q_norm.weight", (each,), "by attention.key_length")
    rotation(k, each)
    vocabulary(k)
    feed_forward(k, width)
    k.put("attention_bias", biases(k, *_ATTENTION))
    k.put("rms_norm_eps", k.number(RMS), RMS)
    k.put("hidden_act", "silu")
    whole_context(k)
    return "qwen3"


def phi3(k: Keys) -> str:
    """``phi3``: queries, keys and values are one tensor, gate and up another."""
    width, heads = sizes(k)
    each = head_dim(k, width, heads, put=False)
    projections(k, width, heads, each)
    rotation(k, each, partial=True)
    vocabulary(k)
    feed_forward(k, width, fused=True)
    without(k, "attn_qkv.bias", "attn_output.bias", "attn_q.bias")
    k.put("rms_norm_eps", k.number(RMS), RMS)
    k.put("hidden_act", "silu")
    window = k.size("attention.sliding_window", default=0, least=0)
    k.put("sliding_window", window or None, "attention.sliding_window")
    return "phi3"


def starcoder2(k: Keys) -> str:
    """``starcoder2``: the files say nothing of a window, and llama.cpp has none."""
    width, heads = sizes(k)
    each = head_dim(k, width, heads, put=False)
    projections(k, width, heads, each)
    rotation(k, each)
    vocabulary(k)
    feed_forward(k, width)
    k.put("use_bias", biases(k, *_ATTENTION, "ffn_up", "ffn_down"))
    k.put("norm_epsilon", k.number("attention.layer_norm_epsilon"), "attention.layer_norm_epsilon")
    k.put("hidden_act", "gelu_pytorch_tanh")
    k.put("sliding_window", None)
    return "starcoder2"


def olmo2(k: Keys) -> str:
    """``olmo2``: queries and keys are normalised over all heads, and norms stand on what the halves make."""
    k.must("attention.sliding_window", 0, why="a window is OLMo 3's, which has no table")
    width, heads = sizes(k)
    each = head_dim(k, width, heads, put=False)
    projections(k, width, heads, each)
    k.holds("attn_q_norm.weight", (heads * each,), "over all heads")
    rotation(k, each)
    vocabulary(k)
    feed_forward(k, width)
    k.put("attention_bias", biases(k, *_ATTENTION))
    k.put("rms_norm_eps", k.number(RMS), RMS)
    k.put("hidden_act", "silu")
    return "olmo2"


def granite(k: Keys) -> str:
    """``granite``: LLaMA with four factors, without experts."""
    k.must("expert_count", 0, why="Granite's experts have no table")
    width, heads = sizes(k)
    each = head_dim(k, width, heads, put=False)
    projections(k, width, heads, each)
    rotation(k, each)
    vocabulary(k)
    feed_forward(k, width)
    k.put("attention_bias", biases(k, *_ATTENTION))
    k.put("mlp_bias", biases(k, "ffn_gate", "ffn_up", "ffn_down"))
    k.put("rms_norm_eps", k.number(RMS), RMS)
    k.put("hidden_act", "silu")
    k.put("attention_multiplier", k.number("attention.scale"), "attention.scale")
    k.put("embedding_multiplier", k.number("embedding_scale"), "embedding_scale")
    k.put("residual_multiplier", k.number("residual_scale"), "residual_scale")
    k.put("logits_scaling", k.number("logit_scale"), "logit_scale")
    return "granite"
