"""Llama-Nemotron Super and Ultra (model_type nemotron-nas): LLaMA's block, in which a search chose each layer's parts.

Each of ``block_configs`` says how many query heads share a key/value head, or that there is no attention, and how wide
the feed-forward is, or that there is none.
"""

from __future__ import annotations

from typing import Any

from llmprof.importing.common import idle
from llmprof.importing.config import Config, Read, inferred
from llmprof.importing.dense import RUNTIME, whole_rope
from llmprof.importing.document import Doc
from llmprof.importing.family import Family
from llmprof.importing.mixers import NOWHERE
from llmprof.importing.parts import GLUS, per_head, stack
from llmprof.spec.groups import MAX_LAYERS
from llmprof.spec.nodes import child_path

ROUND_TO = 256
"""Feed-forwards are a multiple of this wide."""


def document(c: Config) -> Doc:
    """The table. It has no defaults: the schema is of released files, not of a class of transformers."""
    hidden, heads = c.size("hidden_size"), c.size("num_attention_heads")
    head_dim = per_head(hidden, heads, c, "head_dim")
    bias = c.flag("attention_bias")
    ffn = {"kind": c.choice("hidden_act", of=GLUS), "bias": c.flag("mlp_bias")}
    c.must("intermediate_size", None, why="each block states a width of its own")
    c.must("num_key_value_heads", None, why="each block states its groups of heads")
    attention = {"kind": "gqa", "n_heads": heads, "head_dim": head_dim, "qkv_bias": bias, "out_bias": bias}
    groups: dict[str, Doc] = {}
    names = []
    for block in _blocks(c):
        parts = _parts(block, hidden, heads)
        if parts is None:
            continue
        shared, width = parts
        name = "-".join(
            [f"kv{shared.value}" if shared is not None else "bare", str(width.value) if width is not None else "bare"]
        )
        names.append(name)
        groups[name] = {
            "attention": {**attention, "n_kv_heads": shared} if shared is not None else NOWHERE,
            "ffn": {**ffn, "d_ff": width} if width is not None else NOWHERE,
            **({"position": NOWHERE} if shared is None else {}),
        }
    c.finish()
    if not names:
        c.stop("block_configs", "at least one layer with an attention or a feed-forward")
    count = Read(len(names), ("block_configs",))
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size"),
        "d_model": hidden,
        "max_context": c.size("max_position_embeddings"),
        "tied_embeddings": c.flag("tie_word_embeddings"),
        "position": whole_rope(c, head_dim, theta=None),
        "layers": stack(
            count, names, groups, {"norm": {"kind": "rmsnorm", "placement": "pre", "eps": c.number("rms_norm_eps")}}
        ),
    }


def _blocks(c: Config) -> list[Config]:
    """A reader for each block, which there are as many of as there are layers."""
    count = c.size("num_hidden_layers")
    listed: Any = c.raw("block_configs")
    good = isinstance(listed, list) and all(isinstance(block, dict) for block in listed)
    if not good or len(listed) != count.value or count.value > MAX_LAYERS:
        c.stop("block_configs", f"a list of objects, one for each of num_hidden_layers = {count.value:,}")
    at = child_path(c.path, "block_configs")
    return [
        Config(c.source, block, family=c.family, path=child_path(at, i), account=c.account)
        for i, block in enumerate(listed)
    ]


def _parts(block: Config, hidden: Read[int], heads: Read[int]) -> tuple[Read[int] | None, Read[int] | None] | None:
    """How many key/value heads a block has and how wide its feed-forward is: None for what it lacks, or lacks both."""
    attention, ffn = block.below("attention"), block.below("ffn")
    for one in (attention, ffn):
        one.must("replace_with_linear", False, None, why="a matrix stands in for the part")
        one.must("sparsify", None, why="weights that are left out")
    for key in ("num_sink_tokens", "window_length", "mamba", "llama4"):
        attention.must(key, None, why="another attention")
    for key in ("unshifted_sink", "use_prefill_window_in_sink_attention"):
        attention.must(key, False, None, why="another attention")
    ffn.must("moe", None, why="another feed-forward")
    shared = None if attention.flag("no_op").value else _shared(attention, heads)
    width = None if ffn.flag("no_op").value else _width(ffn, hidden)
    attention.ignore("n_heads_in_group")
    ffn.ignore("ffn_mult")
    for part in block.parts():
        for key, value in part.unread().items():
            if not idle(key, value):
                part.wrong(key, "only fields that the table of nemotron-nas understands: this one may decide a shape")
    if shared is None and width is None:
        block.remark("layers without attention and feed-forward do nothing, and are left out")
        return None
    return shared, width


def _shared(attention: Config, heads: Read[int]) -> Read[int]:
    group = attention.size("n_heads_in_group")
    if heads.value % group.value:
        attention.wrong("n_heads_in_group", f"a divisor of num_attention_heads = {heads.value}")
    return inferred(heads.value // group.value, f"{heads.value} heads in groups of {group.value}", heads, group)


def _width(ffn: Config, hidden: Read[int]) -> Read[int]:
    """Two thirds of the hidden size times ``ffn_mult``, up to a multiple."""
    multiple = ffn.number("ffn_mult")
    if multiple.value > 2**20:
        ffn.wrong("ffn_mult", f"a number of at most {2**20:,}")
        return hidden
    width = -(-int(2 * multiple.value * hidden.value / 3) // ROUND_TO) * ROUND_TO
    how = f"two thirds of {hidden.value:,} times {multiple.value:g}, up to a multiple of {ROUND_TO}"
    return inferred(width, how, multiple, hidden)


FAMILY = Family(
    document=document,
    config_class=None,
    source="modeling_decilm.py and config.json of nvidia/Llama-3_3-Nemotron-Super-49B-v1, the former read in public "
    "copies, the latter in aiconfigurator-core 0.12.0, https://pypi.org/project/aiconfigurator-core/, 2026-11-30",
    idle=RUNTIME,
)
