"""What most architectures of llama.cpp say alike, as fields of a config of LLaMA's kind.

The keys: `Keys` of the package gguf 0.19.0 (https://pypi.org/project/gguf/0.19.0/) and `GGUF_CONFIG_MAPPING` of
transformers 5.23.0 (`integrations/ggml.py`, https://pypi.org/project/transformers/5.23.0/), both read 2026-11-30. What
llama.cpp takes where a key is absent: `llama_model::load_hparams` (https://github.com/ggml-org/llama.cpp, recalled).
"""

from __future__ import annotations

from typing import Any

from llmprof.importing.gguf.keys import Keys
from llmprof.importing.headers.reading import wrong

RMS = "attention.layer_norm_rms_epsilon"
SCALINGS = ("none", "linear", "yarn", "longrope")


def vocabulary(k: Keys, *, tied: bool | None = None, field: str = "vocab_size") -> None:
    """The rows of the token table, and whether the output matrix is that table: where the file has no other.

    `tied` is what is known of a family whose files have the table twice. Elsewhere a second matrix counts, for it is in
    the file and a runtime loads it; that it may be a copy all the same is said in a remark.
    """
    rows = k.shape("token_embd.weight")[0]
    k.must("vocab_size", rows, why="the rows of token_embd.weight")
    k.put(field, rows)
    if "output.weight" in k.tensors:
        k.remarks.append(
            "output.weight is taken for a copy of the token table, which the converter of this family writes"
            if tied
            else "output.weight counts as a matrix of its own; a header does not say whether it is a copy of a tied "
            "table, as in some releases (Qwen3-0.6B): the config.json would"
        )
    k.put("tie_word_embeddings", "output.weight" not in k.tensors if tied is None else tied)


def sizes(k: Keys) -> tuple[int, int]:
    """Width and layers, and the context that the model was made for. Returns the width and the heads."""
    width, heads = k.size("embedding_length"), k.size("attention.head_count")
    k.put("hidden_size", width, "embedding_length")
    k.put("num_hidden_layers", k.layers(), "block_count")
    k.put("num_attention_heads", heads, "attention.head_count")
    k.put("num_key_value_heads", k.size("attention.head_count_kv", default=heads), "attention.head_count_kv")
    k.put("max_position_embeddings", k.size("context_length"), "context_length")
    return width, heads


def head_dim(k: Keys, width: int, heads: int, *, put: bool = True) -> int:
    """The width of a head: of keys and values alike; not stated, it is that of all heads over their number."""
    whole, rest = divmod(width, heads)
    if rest and not k.has("attention.key_length"):
        k.wrong("attention.key_length", f"the width of a head, which {width:,} over {heads} is not")
    found = k.size("attention.key_length", default=whole)
    if k.size("attention.value_length", default=whole) != found:
        k.wrong("attention.value_length", f"{found}, as of the keys: no family here has values of another width")
    if put:
        k.put("head_dim", found, "attention.key_length")
    return found


def projections(k: Keys, width: int, heads: int, each: int) -> None:
    """Holds the matrices of the attention against heads and widths, joined in one tensor or not."""
    kv = k.fields["num_key_value_heads"]
    why = f"for {heads} heads of queries and {kv} of keys, each of {each}"
    k.holds("attn_q.weight", (heads * each, width), why)
    k.holds("attn_k.weight", (kv * each, width), why)
    k.holds("attn_v.weight", (kv * each, width), why)
    k.holds("attn_qkv.weight", ((heads + 2 * kv) * each, width), why)
    k.holds("attn_output.weight", (width, heads * each), why)


def feed_forward(k: Keys, width: int, *, fused: bool = False, field: str = "intermediate_size") -> int:
    """The width of the feed-forward; with `fused`, gate and up are one tensor."""
    inner = k.size("feed_forward_length")
    k.put(field, inner, "feed_forward_length")
    k.holds("ffn_up.weight", ((2 if fused else 1) * inner, width), "by feed_forward_length")
    k.holds("ffn_gate.weight", (inner, width), "by feed_forward_length")
    k.holds("ffn_down.weight", (width, inner), "by feed_forward_length")
    return inner


def rotation(k: Keys, each: int, *, partial: bool = False, theta: float | None = 10000.0) -> None:
    """The base, the rotated part and the rescaling of the rotation. `theta` is the base where the file has none."""
    k.put("rope_theta", k.number("rope.freq_base", default=theta), "rope.freq_base")
    rotated = k.size("rope.dimension_count", default=each)
    if rotated != each:
        if not partial or rotated > each:
            k.wrong("rope.dimension_count", f"{each}, all values of a head")
        k.put("partial_rotary_factor", rotated / each, "rope.dimension_count")
    scaling(k)


def scaling(k: Keys) -> dict[str, Any] | None:
    """A rescaled rotation: by its keys, or by the table of frequencies that Llama 3's files have."""
    kind = k.word("rope.scaling.type", *SCALINGS)
    k.ignore(
        "rope.scaling.attn_factor",
        "rope.scaling.original_context_length",
        "rope.scaling.finetuned",
        "rope.scaling.yarn_ext_factor",
        "rope.scaling.yarn_attn_factor",
        "rope.scaling.yarn_beta_fast",
        "rope.scaling.yarn_beta_slow",
    )
    factor = k.number("rope.scaling.factor", default=1.0)
    if kind in (None, "none"):
        if "rope_freqs.weight" in k.tensors:
            k.put("rope_scaling", {"rope_type": "llama3"})
        elif "rope_factors_long.weight" in k.tensors:
            k.put("rope_scaling", {"rope_type": "longrope"})
        return None
    found = {"rope_type": kind, "factor": factor}
    k.put("rope_scaling", found, "rope.scaling.type")
    return found


def whole_context(k: Keys) -> None:
    """Says that all layers see all tokens, where llama.cpp has no window for a family that may have one."""
    layers = k.layers()
    k.put("use_sliding_window", False)
    k.put("max_window_layers", layers)
    k.put("layer_types", ["full_attention"] * layers)


def biases(k: Keys, *names: str) -> bool:
    """Whether the projections have biases: all of them or none, for that is what the family can say."""
    there = {name: k.in_all(f"{name}.bias") for name in names if k.in_all(f"{name}.weight")}
    if len(set(there.values())) > 1:
        some = ", ".join(name for name, has in there.items() if has)
        raise wrong(k.file.path, "blk.N", f"found biases of {some} alone", f"biases of {', '.join(there)}, or none")
    return any(there.values())


def without(k: Keys, *names: str) -> None:
    """Stops where a tensor is there that the family does not have."""
    for name in names:
        if k.in_all(name):
            raise wrong(k.file.path, f"blk.N.{name}", "found it", f"a file of {k.architecture} without it")
