"""GPT-Neo: GPT-2 with unscaled scores, no biases of queries, keys and values, and windows in every other layer."""

from __future__ import annotations

from typing import Any

from llmprof.importing.blocks import built_as, four_times, layer_count, multi_head, unequal
from llmprof.importing.config import Config, Read
from llmprof.importing.document import Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.parts import MLPS, per_head

DEFAULT_TYPES = [[["global", "local"], 12]]


def document(c: Config) -> Doc:
    """The table."""
    built_as(c)
    hidden = c.size("hidden_size", default=2048)
    heads = c.size("num_heads", "num_attention_heads", default=16)
    head_dim = per_head(hidden, heads, c)
    positions = c.size("max_position_embeddings", default=2048)
    count = layer_count(c, "num_layers", "num_hidden_layers", default=24)
    window = c.size("window_size", default=256)
    common: Doc = {
        "norm": {"kind": "layernorm", "placement": "pre", "eps": c.number("layer_norm_epsilon", default=1e-5)},
        "attention": multi_head(heads, head_dim, bias=False, out_bias=True, scale=1.0),
        "ffn": {
            "kind": c.choice("activation_function", of=MLPS, default="gelu_new"),
            "d_ff": c.size("intermediate_size", default=four_times(hidden)),
            "bias": True,
        },
    }
    groups: dict[str, Doc] = {"global": {}, "local": {"attention": {"window": window}}}
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=50257),
        "d_model": hidden,
        "max_context": positions,
        "tied_embeddings": c.flag("tie_word_embeddings", default=True),
        "position": {"kind": "learned", "rows": positions},
        "layers": unequal(count, _types(c, count), groups, common),
    }


def _types(c: Config, count: Read[int]) -> list[str]:
    """The kind of each layer, from runs of the form [[kinds], how often]."""
    runs = c.raw("attention_types")
    said = [] if runs is None else runs
    types: list[str] = []
    for kinds, times in map(_run, said if isinstance(said, list) else [None]):
        if not kinds or times * len(kinds) > count.value - len(types):
            break
        types += kinds * times
    else:
        types = types if runs is not None else ["global", "local"] * 12
    if len(types) != count.value:
        c.stop("attention_types", f'runs like {DEFAULT_TYPES} of "global" and "local", {count.value:,} layers in all')
    c.must("attention_layers", types, None, why="what attention_types comes to")
    return types


def _run(item: Any) -> tuple[list[str], int]:
    """The kinds of a run and how often they are repeated; no kinds where it is no such thing."""
    match item:
        case [[*kinds], int(times)] if kinds and all(kind in ("global", "local") for kind in kinds):
            return [str(kind) for kind in kinds], max(times, 0)
    return [], 0


FAMILY = Family(
    document=document,
    config_class="GPTNeoConfig",
    source=TRANSFORMERS,
    idle=frozenset({"summary_activation", "summary_proj_to_labels", "summary_type", "summary_use_proj"}),
)
