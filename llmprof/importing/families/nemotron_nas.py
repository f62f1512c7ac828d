"""Llama Nemotron Super and Ultra: LLaMA's layers, each with heads and a feed-forward of its own, or without either."""

from __future__ import annotations

import math
from typing import Any

from llmprof.importing.config import Config, Read, inferred
from llmprof.importing.dense import RUNTIME, count_of_layers, whole_rope
from llmprof.importing.document import Doc
from llmprof.importing.family import Family
from llmprof.importing.jsontext import shown
from llmprof.importing.layers import layered
from llmprof.importing.parts import GLUS, per_head

BLOCKS = "block_configs"
MULTIPLE = 256
"""Of which the widths of feed-forwards are, rounded up."""


def document(c: Config) -> Doc:
    """The table; what decides a shape must be in the file."""
    hidden = c.size("hidden_size")
    heads = c.size("num_attention_heads")
    head_dim = per_head(hidden, heads, c)
    count = count_of_layers(c)
    bias = c.flag("attention_bias")
    act = c.choice("hidden_act", of=GLUS)
    mlp_bias = c.flag("mlp_bias")
    for key in ("intermediate_size", "num_key_value_heads"):
        c.must(key, None, why=f"each entry of {BLOCKS} has its own")
    at: Read[Any] = Read(None, (BLOCKS,))
    names, groups = [], {}
    for attention, ffn in _blocks(c, count):
        in_group = _number(c, attention, "n_heads_in_group", whole=True)
        factor = _number(c, ffn, "ffn_mult")
        name = f"kv-{'none' if in_group is None else int(in_group)}-ffn-{'none' if factor is None else factor}"
        names.append(name)
        if name in groups:
            continue
        groups[name] = {
            "attention": {"kind": "none"} if in_group is None else _attention(c, heads, head_dim, int(in_group), bias),
            "ffn": {"kind": "none"}
            if factor is None
            else {
                "kind": act,
                "d_ff": inferred(_width(factor, hidden.value), f"2/3 x {factor:g} x {hidden.value}", at, hidden),
                "bias": mlp_bias,
            },
            **({"position": {"kind": "none"}} if in_group is None else {}),
        }
    called = {name: f"layers-{number}" for number, name in enumerate(groups)}
    layers, _ = layered(
        count,
        ([called[name] for name in names], {called[name]: group for name, group in groups.items()}),
        common={"norm": {"kind": "rmsnorm", "placement": "pre", "eps": c.number("rms_norm_eps")}},
    )
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size"),
        "d_model": hidden,
        "max_context": c.size("max_position_embeddings"),
        "tied_embeddings": c.flag("tie_word_embeddings"),
        "position": whole_rope(c, head_dim, theta=None),
        "layers": layers,
    }


def _blocks(c: Config, count: Read[int]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """The attention and the feed-forward of each layer, as the file has them."""
    found = c.raw(BLOCKS)
    if not isinstance(found, list) or len(found) != count.value:
        c.stop(BLOCKS, f"a list of {count.value} objects, one for each layer")
    blocks = []
    for block in found:
        if not isinstance(block, dict) or set(block) != {"attention", "ffn"}:
            c.stop(BLOCKS, "objects of attention and ffn")
        attention, ffn = block["attention"], block["ffn"]
        _only(c, attention, {"n_heads_in_group", "no_op"}, _IDLE_OF_ATTENTION)
        _only(c, ffn, {"ffn_mult", "no_op"}, _IDLE_OF_FFN)
        blocks.append((attention, ffn))
    return blocks


_IDLE_OF_ATTENTION = {
    "num_sink_tokens",
    "replace_with_linear",
    "sparsify",
    "unshifted_sink",
    "use_prefill_window_in_sink_attention",
    "window_length",
}
_IDLE_OF_FFN = {"replace_with_linear", "sparsify"}


def _only(c: Config, part: Any, read: set[str], off: set[str]) -> None:
    """Stops at what is not understood: fields that are not `read` must be `off`, which is null or false."""
    if not isinstance(part, dict):
        c.stop(BLOCKS, "objects of attention and ffn")
    for key, value in part.items():
        if key not in read and not (key in off and (value is None or value is False)):
            c.stop(BLOCKS, f"nothing but {', '.join(sorted(read))} in an object, and found {key} = {shown(value)}")


def _number(c: Config, part: dict[str, Any], key: str, *, whole: bool = False) -> float | None:
    """A number above 0, or None where the part is left out of its layer."""
    if part.get("no_op") is True:
        return None
    value = part.get(key)
    if part.get("no_op", False) is not False or type(value) not in ((int,) if whole else (int, float)):
        c.stop(BLOCKS, f"{key}, a number, or no_op = true")
    assert isinstance(value, int | float)
    if not 0 < value < math.inf:
        c.stop(BLOCKS, f"{key} above 0")
    return value


def _attention(c: Config, heads: Read[int], head_dim: Read[int], in_group: int, bias: Read[bool]) -> Doc:
    if heads.value % in_group:
        c.stop(BLOCKS, f"n_heads_in_group that divides {heads.value} heads")
    at: Read[Any] = Read(None, (BLOCKS,))
    return {
        "kind": "gqa",
        "n_heads": heads,
        "n_kv_heads": inferred(heads.value // in_group, f"{heads.value} heads in groups of {in_group}", at, heads),
        "head_dim": head_dim,
        "qkv_bias": bias,
        "out_bias": bias,
    }


def _width(factor: float, hidden: int) -> int:
    """int(2 x factor x hidden / 3), rounded up to a multiple of `MULTIPLE`."""
    return -(-int(min(2 * factor * hidden / 3, 2.0**52)) // MULTIPLE) * MULTIPLE


FAMILY = Family(
    document=document,
    config_class=None,
    source="https://huggingface.co/nvidia/Llama-3_3-Nemotron-Super-49B-v1, configuration_decilm.py and "
    "modeling_decilm.py, recalled",
    idle=RUNTIME,
)
