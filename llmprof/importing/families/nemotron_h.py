"""Nemotron-H and Nemotron 3: layers of one part each, a Mamba-2, an attention without positions or a feed-forward."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmprof.importing.config import Config, Read, inferred
from llmprof.importing.dense import kv_heads
from llmprof.importing.document import LEFT_OUT, Doc, Left
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.jsontext import shown
from llmprof.importing.mixers import IDLE, NOWHERE, fp32_residual, silu_alone, step_limit
from llmprof.importing.parts import MLPS, stack

LETTERS: Mapping[str, str] = {"M": "mamba", "*": "softmax", "-": "mlp", "E": "moe"}
"""A letter of ``hybrid_override_pattern`` -> group."""

WORDS: Mapping[str, str] = {
    "mamba": "mamba",
    "linear_attention": "mamba",
    "attention": "softmax",
    "full_attention": "softmax",
    "mlp": "mlp",
    "moe": "moe",
}
"""A word of ``layers_block_type`` -> group."""


def document(c: Config) -> Doc:
    """The table."""
    names = _names(c)
    count = inferred(len(names.value), "one for each entry of the pattern of layers", names)
    if c.has("num_hidden_layers") and c.size("num_hidden_layers").value != count.value:
        c.wrong("num_hidden_layers", f"{count.value}, as many as the pattern of layers has")
    c.must("tie_word_embeddings", False, why="transformers' class ties nothing")
    _no_more(c)
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=131072),
        "d_model": c.size("hidden_size", default=4096),
        "max_context": c.size("max_position_embeddings", default=4096),
        "tied_embeddings": False,
        "position": NOWHERE,
        "layers": stack(
            count,
            names.value,
            {
                "mamba": {"attention": _mamba(c), "ffn": NOWHERE},
                "softmax": {"attention": _attention(c), "ffn": NOWHERE},
                "mlp": _alone(_mlp(c, "intermediate_size", default=21504)) if "mlp" in names.value else {},
                "moe": _alone(_experts(c)) if "moe" in names.value else {},
            },
            {"norm": {"kind": "rmsnorm", "placement": "pre", "eps": _eps(c)}},
        ),
    }


def _alone(ffn: Doc) -> Doc:
    return {"attention": NOWHERE, "ffn": ffn}


def _names(c: Config) -> Read[Any]:
    """The group of each layer: a list of words, else a string of letters, else the class's four layers."""
    words: Read[Any] | None = None
    if c.has_any("layers_block_type", "layer_types"):
        found = c.words("layers_block_type", "layer_types", of=WORDS)
        words = Read(tuple(WORDS[word] for word in found.value), found.keys)
    pattern = c.raw("hybrid_override_pattern")
    if pattern is not None:
        if not isinstance(pattern, str) or not pattern or not set(pattern) <= LETTERS.keys():
            c.stop("hybrid_override_pattern", "a string of M, *, - and E, one for each layer")
        letters = tuple(LETTERS[letter] for letter in pattern)
        if words is not None and words.value != letters:
            c.wrong("hybrid_override_pattern", "the layers that layers_block_type lists")
        words = words or Read(letters, ("hybrid_override_pattern",))
    if words is None:
        words = Read(("mamba", "moe", "softmax", "mlp"), (), "as the class has it where no pattern is stated")
    if not words.value:
        c.stop("layers_block_type" if c.has("layers_block_type") else "layer_types", "at least one layer")
    return words


def _eps(c: Config) -> Read[float]:
    return c.number("layer_norm_epsilon", "norm_eps", "rms_norm_eps", default=1e-5)


def _mamba(c: Config) -> Doc:
    groups = c.size("n_groups", "mamba_n_groups", default=8)
    silu_alone(c, "mamba_hidden_act")
    c.must("mamba_proj_bias", False, why="the class reads use_bias for the projections of the mixer")
    c.must("mamba_ssm_cache_dtype", "float32", why="states are kept in fp32 here")
    step_limit(c)
    step_limit(c, "mamba_dt_limit")
    return {
        "kind": "mamba-2",
        "n_heads": c.size("mamba_num_heads", default=128),
        "head_dim": c.size("mamba_head_dim", default=64),
        "d_state": c.size("ssm_state_size", default=128),
        "n_groups": groups,
        "d_conv": c.size("conv_kernel", "mamba_d_conv", default=4),
        "conv_bias": c.flag("use_conv_bias", "mamba_conv_bias", default=True),
        "chunk": c.size("chunk_size", "mamba_chunk_size", default=128),
        "norm_groups": groups,
        "bias": c.flag("use_bias", default=False),
    }


def _attention(c: Config) -> Doc:
    heads = c.size("num_attention_heads", default=32)
    shared = kv_heads(c, heads, default=8)
    head_dim = c.size("head_dim", default=128)
    c.must("attention_head_dim", head_dim.value, None, why="the class has this where head_dim is not there")
    c.must("num_query_groups", shared.value, None, why="num_key_value_heads by another name")
    c.must("attention_bias", False, why="the class's attention has no biases")
    c.must("sliding_window", None, why="the class's attention has no window")
    return {
        "kind": "gqa",
        "n_heads": heads,
        "n_kv_heads": shared,
        "head_dim": head_dim,
    }


def _mlp(c: Config, key: str, *, default: int, bias: bool | None = None) -> Doc:
    return {
        "kind": c.choice("mlp_hidden_act", of=MLPS, default="relu2"),
        "d_ff": c.size(key, default=default),
        "bias": c.flag("mlp_bias", default=False) if bias is None else bias,
    }


def _experts(c: Config) -> Doc:
    """The chosen experts never have biases; the shared one has those of the feed-forwards."""
    latent = c.optional_size("moe_latent_size", default=None)
    if latent.value is not None and c.flag("mlp_bias", default=False).value:
        c.refuse("mlp_bias", "false beside moe_latent_size: the projections around the experts would have biases")
    c.must("n_shared_experts", 1, why="the class has one, moe_shared_expert_intermediate_size wide")
    narrow: Read[int] | Read[Left] = latent if isinstance(latent.value, int) else Read(LEFT_OUT)
    return {
        "kind": "moe",
        "n_experts": c.size("n_routed_experts", "num_local_experts", default=8),
        "top_k": c.size("num_experts_per_tok", default=2),
        "expert": _mlp(c, "moe_intermediate_size", default=7688, bias=False),
        "shared": _mlp(c, "moe_shared_expert_intermediate_size", default=7688),
        "scores": "sigmoid",
        "normalise": c.flag("norm_topk_prob", default=True),
        "scale": c.number("routed_scaling_factor", default=1.0),
        "correction_bias": True,
        "latent": narrow,
        "n_groups": c.size("n_group", default=1),
        "groups_per_token": c.size("topk_group", default=1),
    }


def _no_more(c: Config) -> None:
    """What is not part of the model proper."""
    fp32_residual(c, default=False)
    if c.has("num_nextn_predict_layers") and c.size("num_nextn_predict_layers", least=0).value:
        pattern = c.raw("mtp_hybrid_override_pattern") or c.raw("mtp_layers_block_type") or "one attention, one moe"
        c.remark(
            f"layers that predict further tokens ({shown(pattern)}) are left out: they are counted apart, and the "
            "language has none of several parts"
        )


FAMILY = Family(
    document=document,
    config_class="NemotronHConfig",
    source=TRANSFORMERS,
    # Read by no line of the modeling code: expand, time_step_rank, and the rotation that the attention does not have.
    # moe_shared_expert_overlap is how a GPU runs two streams. Sizes of what no layer has say nothing.
    idle=IDLE
    | {
        "expand",
        "intermediate_size",
        "mlp_bias",
        "mlp_hidden_act",
        "mamba_dt_init_floor",
        "mamba_dt_max",
        "mamba_dt_min",
        "mamba_expand",
        "moe_shared_expert_overlap",
        "mtp_hybrid_override_pattern",
        "mtp_layers_block_type",
        "partial_rotary_factor",
        "rope_theta",
        "time_step_rank",
        "moe_intermediate_size",
        "moe_latent_size",
        "moe_shared_expert_intermediate_size",
        "n_group",
        "n_routed_experts",
        "n_shared_experts",
        "norm_topk_prob",
        "num_experts_per_tok",
        "num_local_experts",
        "routed_scaling_factor",
        "topk_group",
    },
)
