"""LLaMA's kin: llama (Mistral and Mixtral are files of it too), qwen2, qwen3, gemma 1 to 3, phi3, starcoder2."""

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


def gemma(k: Keys) -> str:
    """``gemma``."""
    width, heads = sizes(k)
    each = head_dim(k, width, heads)
    projections(k, width, heads, each)
    rotation(k, each)
    vocabulary(k)
    feed_forward(k, width)
    k.put("attention_bias", biases(k, *_ATTENTION))
    k.put("rms_norm_eps", k.number(RMS), RMS)
    k.put("hidden_act", "gelu_pytorch_tanh")
    return "gemma"


def gemma2(k: Keys) -> str:
    """``gemma2``: every second layer sees a window; the largest scales scores by the width over all heads."""
    each = _gemma(k)
    _scale(k, each, largest=46)
    k.put("attn_logit_softcapping", k.number("attn_logit_softcapping", default=50.0), "attn_logit_softcapping")
    k.put("final_logit_softcapping", k.number("final_logit_softcapping", default=30.0), "final_logit_softcapping")
    k.put("layer_types", _every(k, 2))
    return "gemma2"


def gemma3(k: Keys) -> str:
    """``gemma3``: the tower of text; every sixth layer sees all tokens, and the others rotate with a base of 10,000."""
    each = _gemma(k)
    k.holds("attn_q_norm.weight", (each,), "by attention.key_length")
    _scale(k, each, largest=62)
    k.put("rope_local_base_freq", k.number("rope.freq_base_swa", default=10000.0), "rope.freq_base_swa")
    capped = k.number("final_logit_softcapping") if k.has("final_logit_softcapping") else None
    k.put("final_logit_softcapping", capped, "final_logit_softcapping")
    k.put("attn_logit_softcapping", None)
    k.put("layer_types", _every(k, 6))
    return "gemma3_text"


def _gemma(k: Keys) -> int:
    width, heads = sizes(k)
    each = head_dim(k, width, heads)
    projections(k, width, heads, each)
    rotation(k, each, theta=10000.0 if k.architecture == "gemma2" else None)
    k.ignore("rope.dimension_count_swa", "attention.key_length_swa", "attention.value_length_swa")
    vocabulary(k)
    feed_forward(k, width)
    k.put("attention_bias", biases(k, *_ATTENTION))
    k.put("rms_norm_eps", k.number(RMS), RMS)
    k.put("hidden_activation", "gelu_pytorch_tanh")
    k.put("sliding_window", k.size("attention.sliding_window"), "attention.sliding_window")
    return each


def _scale(k: Keys, each: int, *, largest: int) -> None:
    """The files do not say it: llama.cpp scales by the width over all heads in the model of so many layers alone."""
    by_width = k.layers() == largest
    width, heads = k.size("embedding_length"), k.size("attention.head_count")
    k.put("query_pre_attn_scalar", width // heads if by_width else each)


def _every(k: Keys, interval: int) -> list[str]:
    """Which layers see all tokens: every so many, as llama.cpp has it, or as the file says."""
    interval = k.size("attention.sliding_window_pattern", default=interval)
    if k.architecture == "gemma3":
        k.put("sliding_window_pattern", interval, "attention.sliding_window_pattern")
    return ["sliding_attention" if (layer + 1) % interval else "full_attention" for layer in range(k.layers())]


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
