"""What the matrices of attention and feed-forward are called in files of Hugging Face's classes, by module path.

Of those classes alone that keep every matrix by itself: where three are kept as one, a scale per matrix is one, not
three.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from llmprof.spec.arch import ArchSpec, Glu, Gqa, LayerSpec, Mla, Mlp, Moe, NoFfn

SEPARATE = frozenset(
    {
        "cohere",
        "cohere2",
        "deepseek_v2",
        "deepseek_v3",
        "ernie4_5",
        "exaone4",
        "gemma",
        "gemma2",
        "gemma3_text",
        "glm4_moe",
        "gpt_oss",
        "granite",
        "kimi_k2",
        "llama",
        "minimax_m2",
        "ministral3",
        "mistral",
        "mixtral",
        "olmo",
        "olmo2",
        "olmo3",
        "olmoe",
        "qwen2",
        "qwen2_moe",
        "qwen3",
        "qwen3_moe",
        "seed_oss",
        "smollm3",
    }
)
"""Families that keep them by themselves, by the modeling files of transformers 5.23.0, read 2026-11-30."""

ATTENTION: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "q_proj": ("q_proj",),
        "k_proj": ("k_proj",),
        "v_proj": ("v_proj",),
        "o_proj": ("o_proj",),
        "q_down": ("q_a_proj",),
        "q_up": ("q_b_proj",),
        "kv_down": ("kv_a_proj_with_mqa",),
        "kv_up": ("kv_b_proj",),
    }
)
FFN: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "gate": ("gate_proj",),
        "up": ("up_proj",),
        "down": ("down_proj",),
        "shared.gate": ("shared_expert.gate_proj", "shared_experts.gate_proj"),
        "shared.up": ("shared_expert.up_proj", "shared_experts.up_proj"),
        "shared.down": ("shared_expert.down_proj", "shared_experts.down_proj"),
        "shared_gate": ("shared_expert_gate",),
    }
)
"""A leaf below ``attn`` or ``ffn`` -> what it is called below the class's own module."""

EXPERT = ("gate_proj", "up_proj", "down_proj", "w1", "w2", "w3", "gate_up_proj")
ATTENTIONS, FFNS = ("self_attn",), ("mlp", "block_sparse_moe", "feed_forward")
ROUTERS = ("mlp.gate", "mlp.router", "block_sparse_moe.gate")
ALONE = ("model.",)
IN_A_TOWER = ("language_model.model.", "model.language_model.")
"""What stands before the layers, where a model is one of text, and where it has a tower of text."""

ELSEWHERE = (
    "lm_head",
    "model.lm_head",
    "language_model.lm_head",
    "embed_tokens",
    "model.embed_tokens",
    "model.norm",
    "visual",
    "model.visual",
    "vision_tower",
    "model.vision_tower",
    "vision_model",
    "multi_modal_projector",
    "model.multi_modal_projector",
)
"""Modules that no method packs here, or that are no part of the tower of text: to spare them changes nothing."""
IN_A_LAYER = (
    "input_layernorm",
    "post_attention_layernorm",
    "self_attn.q_norm",
    "self_attn.k_norm",
    "self_attn.q_a_layernorm",
    "self_attn.kv_a_layernorm",
    "mlp.gate.e_score_correction_bias",
    *ROUTERS,
)
"""The same of every layer."""


def slots(arch: ArchSpec) -> Iterator[tuple[str, int, str]] | None:
    """(``layers.`` or ``mtp.layers.``, index, leaf) of every packable matrix; None where some have no name here."""
    layers: list[tuple[str, int, LayerSpec]] = [("layers.", i, layer) for i, layer in enumerate(arch.main.layers)]
    if arch.mtp is not None:
        layers += [("mtp.layers.", i, arch.mtp.layer) for i in range(arch.mtp.count)]
    found = [(stack, i, leaves(layer)) for stack, i, layer in layers]
    if len(arch.stacks) > 1 or any(names is None for _, _, names in found):
        return None
    return ((stack, i, leaf) for stack, i, names in found for leaf in names or ())


def leaves(layer: LayerSpec) -> tuple[str, ...] | None:
    """The packable leaves of one layer; None where it has a part that this table does not name."""
    if layer.mixer is not None or layer.cross_attention is not None:
        return None
    match layer.attention:
        case Gqa(output_gate=None, shared_kv=False):
            attention: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj")
        case Mla(indexer=None) as mla:
            attention = (*(("q_proj",) if mla.q_rank is None else ("q_down", "q_up")), "kv_down", "kv_up", "o_proj")
        case _:
            return None
    match layer.ffn:
        case Glu():
            ffn: tuple[str, ...] = ("gate", "up", "down")
        case Mlp():
            ffn = ("up", "down")
        case Moe(latent=None) as moe:
            shared = {None: (), Mlp: ("up", "down"), Glu: ("gate", "up", "down")}
            of = shared[None if moe.shared is None else type(moe.shared)]
            ffn = ("experts", *(f"shared.{name}" for name in of), *(("shared_gate",) if moe.shared_gate else ()))
        case NoFfn():
            ffn = ()
        case _:
            return None
    return (*(f"attn.{name}" for name in attention), *(f"ffn.{name}" for name in ffn))


def called(
    stack: str, index: int, leaf: str, n_layers: int, n_experts: int, prefixes: Sequence[str]
) -> list[tuple[str, ...]]:
    """The names that each matrix of a leaf may have in files; of experts those of the first and the last."""
    number = index if stack == "layers." else n_layers + index
    part, _, name = leaf.partition(".")
    if part == "attn":
        bodies = [tuple(f"{module}.{own}" for module in ATTENTIONS for own in ATTENTION[name])]
    elif name != "experts":
        bodies = [tuple(f"{module}.{own}" for module in FFNS for own in FFN[name])]
    else:
        bodies = [
            tuple(f"{module}.experts.{expert}.{own}" for module in FFNS)
            for expert in dict.fromkeys((0, n_experts - 1))
            for own in EXPERT
        ]
    return [tuple(f"{prefix}layers.{number}.{body}" for prefix in prefixes for body in some) for some in bodies]
