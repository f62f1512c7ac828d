"""Gemma 1 to 3, the last as its tower of text."""

from __future__ import annotations

from llmprof.importing.gguf.common import RMS, biases, feed_forward, head_dim, projections, rotation, sizes, vocabulary
from llmprof.importing.gguf.keys import Keys

_ATTENTION = ("attn_q", "attn_k", "attn_v", "attn_output")


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
