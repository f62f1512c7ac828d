"""Stacks of gated DeltaNet and gated attention, as in Qwen3-Next and Qwen3.5: what their tables have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from llmprof.importing.config import Config, Read
from llmprof.importing.document import Doc
from llmprof.importing.mixers import NOWHERE
from llmprof.importing.parts import rope, stack

WORDS: Mapping[str, str] = {"linear_attention": "linear", "full_attention": "full"}
"""A word of ``layer_types`` -> group."""

CHUNK = 64
"""Tokens of a prompt that are taken at once: ``torch_chunk_gated_delta_rule``'s default, which the class keeps."""


def layers_of_delta_and_attention(
    c: Config, count: Read[int], sparse: Sequence[bool], *, defaults: Mapping[str, int], experts: Doc
) -> Doc:
    """The whole document. `sparse` says which layers have `experts` in place of a plain feed-forward.

    Norms are of 1 + weight; the attention's queries come with a gate of their own width, without biases.
    """
    eps = c.number("rms_norm_eps", default=1e-6)
    norm = {"kind": "rmsnorm", "unit_offset": True, "eps": eps}
    c.must("hidden_act", "silu", "swish", why="the convolution of the mixer has another activation")
    c.must("attention_bias", False, why="the projection of the gate would have a bias")
    c.must("attn_output_gate", True, why="the class has the gate in any case")
    c.must("use_sliding_window", False, why="the class has no windows")
    if c.raw("use_sliding_window") is False:
        c.ignore("max_window_layers", "sliding_window")
    c.must("output_gate_type", "swish", "silu", why="the gate of the mixer's norm has another activation")
    c.must("mamba_ssm_dtype", "float32", why="states are kept in fp32 here")
    names = _names(c, count)
    dense = (
        {"kind": "swiglu", "d_ff": c.size("intermediate_size", default=defaults["intermediate_size"])}
        if not all(sparse)
        else {}
    )
    mixers = {
        "linear": {"attention": delta_net(c), "position": NOWHERE},
        "full": _attention(c, defaults, norm),
    }
    common: Doc = {"norm": {**norm, "placement": "pre"}}
    if len(set(sparse)) > 1:
        ffns = {"": dense, "-moe": experts}
        groups = {one + two: {**mixers[one], "ffn": ffns[two]} for one in mixers for two in ffns}
        names = [name + ("-moe" if more else "") for name, more in zip(names, sparse, strict=True)]
    else:
        groups, common["ffn"] = mixers, experts if sparse[0] else dense
    layers = stack(count, names, groups, common)
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=defaults["vocab_size"]),
        "d_model": c.size("hidden_size", default=defaults["hidden_size"]),
        "max_context": c.size("max_position_embeddings", default=32768),
        "tied_embeddings": c.flag("tie_word_embeddings", default=False),
        "layers": layers,
        **_further_tokens(c, names),
    }


def delta_net(c: Config) -> Doc:
    """The mixer, whose projections have no biases and whose convolution has none."""
    return {
        "kind": "gated-deltanet",
        "n_heads": c.size("linear_num_value_heads", default=32),
        "n_key_heads": c.size("linear_num_key_heads", default=16),
        "key_dim": c.size("linear_key_head_dim", default=128),
        "value_dim": c.size("linear_value_head_dim", default=128),
        "d_conv": c.size("linear_conv_kernel_dim", default=4),
        "chunk": CHUNK,
    }


def _attention(c: Config, defaults: Mapping[str, int], norm: Doc) -> Doc:
    head_dim = c.size("head_dim", default=256)
    heads = c.size("num_attention_heads", default=defaults["num_attention_heads"])
    return {
        "attention": {
            "kind": "gqa",
            "n_heads": heads,
            "n_kv_heads": c.size("num_key_value_heads", default=defaults["num_key_value_heads"]),
            "head_dim": head_dim,
            "output_gate": "value",
            "qk_norm": norm,
        },
        "position": rope(c, head_dim, theta=10000.0, partial=0.25),
    }


def _names(c: Config, count: Read[int]) -> list[str]:
    """A list of words, else attention in every ``full_attention_interval``-th layer."""
    if not c.has("layer_types"):
        every = c.size("full_attention_interval", default=4)
        return ["linear" if (i + 1) % every.value else "full" for i in range(count.value)]
    c.ignore("full_attention_interval")
    found = c.words("layer_types", of=WORDS)
    if len(found.value) != count.value:
        c.stop("layer_types", f"one word for each of {count.value:,} layers")
    return [WORDS[word] for word in found.value]


def _further_tokens(c: Config, names: Sequence[str]) -> Doc:
    """Layers that predict further tokens: like those of the attention (modeling code of vLLM's Qwen3-Next MTP)."""
    c.must("mtp_use_dedicated_embeddings", False, why="a further table of embeddings")
    if not c.has_any("mtp_num_hidden_layers", "num_nextn_predict_layers"):
        return {}
    count = c.size("mtp_num_hidden_layers", "num_nextn_predict_layers", least=0)
    if not count.value:
        return {}
    like = next((name for name in ("full-moe", "full") if name in names), None)
    if like is None:
        c.remark(f"{count.value} layers that predict further tokens are left out: no layer of the stack is like them")
        return {}
    return {"mtp": {"count": count, "like": like if len(set(names)) > 1 else "layers"}}
