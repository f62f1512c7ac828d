"""OpenELM: RMSNorms also of queries and keys; heads and feed-forward that grow from layer to layer."""

from __future__ import annotations

import math

from llmprof.importing.config import Config, Read, inferred
from llmprof.importing.dense import RUNTIME, count_of_layers
from llmprof.importing.document import LEFT_OUT, Doc
from llmprof.importing.family import Family
from llmprof.importing.layers import layered
from llmprof.importing.parts import GLUS, MLPS

EPS = 1e-6
"""Of all norms: the class leaves it at its RMSNorm's own default."""


def document(c: Config) -> Doc:
    """The table; what decides a shape must be in the file."""
    width = c.size("model_dim")
    count = count_of_layers(c, "num_transformer_layers")
    queries, keys = _each(c, "num_query_heads", count), _each(c, "num_kv_heads", count)
    d_ff = _widths(c, count, width)
    gated = c.flag("ffn_with_glu")
    normed = c.flag("normalize_qk_projections").value
    c.must("normalization_layer_name", "rms_norm", why="the class has RMSNorms")
    names = [f"{q}-{k}-{f.value}" for q, k, f in zip(queries, keys, d_ff, strict=True)]
    called = {name: f"layers-{number}" for number, name in enumerate(dict.fromkeys(names))}
    groups = {
        called[name]: {
            "attention": {
                "n_heads": Read(queries[i], ("num_query_heads",)),
                "n_kv_heads": Read(keys[i], ("num_kv_heads",)),
            },
            "ffn": {"d_ff": d_ff[i]},
        }
        for i, name in enumerate(names)
    }
    layers, _ = layered(
        count,
        ([called[name] for name in names], groups),
        common={
            "norm": {"kind": "rmsnorm", "placement": "pre", "eps": EPS},
            "attention": {
                "kind": "gqa",
                "head_dim": c.size("head_dim"),
                "qk_norm": {"kind": "rmsnorm", "eps": EPS} if normed else LEFT_OUT,
            },
            "ffn": {"kind": c.choice("activation_fn_name", of=GLUS if gated.value else MLPS)},
        },
    )
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size"),
        "d_model": width,
        "max_context": c.size("max_context_length"),
        "tied_embeddings": c.flag("share_input_output_layers"),
        "position": {"kind": "rope", "theta": c.number("rope_freq_constant")},
        "layers": layers,
    }


def _each(c: Config, key: str, count: Read[int]) -> list[int]:
    """A number of heads for each layer."""
    found = c.sizes(key, least=1)
    if len(found.value) != count.value:
        c.stop(key, f"{count.value} numbers, one for each layer")
    return list(found.value)


def _widths(c: Config, count: Read[int], width: Read[int]) -> list[Read[int]]:
    """The width of each feed-forward: the multiple of ``ffn_dim_divisor`` next to a multiplier times ``model_dim``.

    Halves go up, none is below the divisor, and none below nine tenths of what was asked for, as in the class.
    """
    listed, divisor = c.raw("ffn_multipliers"), c.size("ffn_dim_divisor")
    if (
        not isinstance(listed, list)
        or len(listed) != count.value
        or not all(type(factor) in (int, float) and 0 < factor < math.inf for factor in listed)
    ):
        c.stop("ffn_multipliers", f"{count.value} numbers above 0, one for each layer")
    widths = []
    for factor in listed:
        asked = min(factor * width.value, 2.0**52)
        made = max(divisor.value, int(asked + divisor.value / 2) // divisor.value * divisor.value)
        made += divisor.value if made < 0.9 * asked else 0
        why = f"{factor:g} x {width.value} values, to a multiple of {divisor.value}"
        widths.append(inferred(made, why, Read(factor, ("ffn_multipliers",)), width, divisor))
    return widths


FAMILY = Family(
    document=document,
    config_class=None,
    source="https://huggingface.co/apple/OpenELM-270M, configuration_openelm.py and modeling_openelm.py, recalled",
    idle=RUNTIME | {"num_gqa_groups", "qkv_multipliers", "rope_max_length"},
)
