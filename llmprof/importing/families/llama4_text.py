"""Llama 4's tower of text: chunks where positions are rotated, no rotation elsewhere, experts beside a shared one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from llmprof.importing.config import Config, Read, inferred
from llmprof.importing.dense import RUNTIME, count_of_layers, kv_heads, whole_rope
from llmprof.importing.document import Doc
from llmprof.importing.experts import experts
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.heads import stated_head_dim
from llmprof.importing.layers import each_layer, layered, told
from llmprof.importing.parts import GLUS

FULL, CHUNKED = "full_attention", "chunked_attention"


def document(c: Config) -> Doc:
    """The table."""
    hidden = c.size("hidden_size", default=5120)
    heads = c.size("num_attention_heads", default=40)
    head_dim = stated_head_dim(c, hidden, heads, 128)
    count = count_of_layers(c, default=48)
    act = c.choice("hidden_act", of=GLUS, default="silu")
    width = c.size("intermediate_size", default=8192)
    eps = c.number("rms_norm_eps", default=1e-5)
    bias = c.flag("attention_bias", default=False)
    moe = experts(
        act,
        count=c.size("num_local_experts", default=16),
        top_k=c.size("num_experts_per_tok", default=1),
        width=width,
        shared=width,
        router={"scores": "sigmoid", "weigh": "input"},
    )
    dense = {"kind": act, "d_ff": c.size("intermediate_size_mlp", default=16384)}
    layers, _ = layered(
        count,
        (_experts(c, count), {"dense": {"ffn": dense}, "sparse": {"ffn": moe}}),
        _seen(c, count, eps),
        common={
            "norm": {"kind": "rmsnorm", "placement": "pre", "eps": eps},
            "attention": {
                "kind": "gqa",
                "n_heads": heads,
                "n_kv_heads": kv_heads(c, heads, default=8),
                "head_dim": head_dim,
                "qkv_bias": bias,
                "out_bias": bias,
            },
        },
    )
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=202048),
        "d_model": hidden,
        "max_context": c.size("max_position_embeddings", default=131072),
        "tied_embeddings": c.flag("tie_word_embeddings", default=False),
        "position": whole_rope(c, head_dim, theta=500000.0),
        "layers": layers,
    }


def _experts(c: Config, count: Read[int]) -> tuple[str, ...]:
    """Which layers have experts: those that ``moe_layers`` lists, else every ``interleave_moe_layer_step``-th."""
    step = c.size("interleave_moe_layer_step", default=1)
    by_step = tuple(range(step.value - 1, count.value, step.value))
    if not c.has("moe_layers"):
        told(c, step)
    with_experts = set(c.sizes("moe_layers", default=inferred(by_step, "every so many layers")).value)
    return tuple("sparse" if layer in with_experts else "dense" for layer in range(count.value))


def _seen(c: Config, count: Read[int], eps: Read[float]) -> tuple[Sequence[str], Mapping[str, Doc]]:
    """What a layer sees, and whether it rotates: rotated layers see their chunk alone, unless ``layer_types`` says so.

    Queries and keys are normalised without a weight where they are rotated; after the rotation, which keeps lengths.
    """
    rotated = _rotated(c, count)
    kinds = each_layer(c, "layer_types", (FULL, CHUNKED), tuple(CHUNKED if rotates else FULL for rotates in rotated))
    if not c.has("layer_types"):
        c.remark(
            "layer_types is not in the file: layers that rotate see their chunk, the others all, as the class has it"
        )
    names = tuple(_name(rotates, kind) for rotates, kind in zip(rotated, kinds, strict=True))
    chunk = c.optional_size("attention_chunk_size", default=8192)
    if CHUNKED in kinds and chunk.value is None:
        c.stop("attention_chunk_size", f"a size, for the layers of {CHUNKED}")
    normed = c.flag("use_qk_norm", default=True).value
    meaning: dict[str, Doc] = {}
    for rotates, kind in dict.fromkeys(zip(rotated, kinds, strict=True)):
        attention: Doc = {"chunk": chunk} if kind == CHUNKED else {}
        if rotates and normed:
            attention["qk_norm"] = {"kind": "rmsnorm", "weight": False, "eps": eps}
        meaning[_name(rotates, kind)] = {
            **({"attention": attention} if attention else {}),
            **({} if rotates else {"position": {"kind": "none"}}),
        }
    if not all(rotated):
        tuned = c.raw("attn_temperature_tuning")
        if tuned is None or tuned:
            c.remark(
                "layers without a rotation multiply their queries by a function of the position that grows slowly "
                "(attn_temperature_tuning), which is left out: one product per value of a query"
            )
    return names, meaning


def _name(rotates: bool, kind: str) -> str:
    if kind == CHUNKED:
        return "chunked" if rotates else "nope-chunked"
    return "global" if rotates else "nope"


def _rotated(c: Config, count: Read[int]) -> tuple[bool, ...]:
    """Which layers rotate: where ``no_rope_layers`` has a 1; null or an empty list is all but every so many."""
    interval = c.size("no_rope_layer_interval", default=4)
    c.must("nope_layer_interval", interval.value, None, why="the class reads no_rope_layer_interval")
    listed = c.sizes("no_rope_layers", default=inferred((), "as often as no_rope_layer_interval says")).value
    if not listed:
        told(c, interval)
        return tuple((layer + 1) % interval.value != 0 for layer in range(count.value))
    if len(listed) < count.value:
        c.stop("no_rope_layers", f"at least {count.value} numbers, one for each layer")
    return tuple(bool(item) for item in listed[: count.value])


FAMILY = Family(
    document=document,
    config_class="Llama4TextConfig",
    source=TRANSFORMERS,
    idle=RUNTIME
    | {"attn_scale", "attn_temperature_tuning", "floor_scale", "for_llm_compressor", "router_jitter_noise"},
)
