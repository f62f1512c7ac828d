"""GPT-NeoX' Japanese kin: serial blocks without biases, but for the attention's output in the last layer."""

from __future__ import annotations

from llmprof.importing.blocks import built_as, layer_count, multi_head, unequal
from llmprof.importing.config import Config, inferred
from llmprof.importing.document import Doc
from llmprof.importing.families.gpt_neox import partly_rotated
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.parts import MLPS, per_head


def document(c: Config) -> Doc:
    """The table."""
    built_as(c)
    hidden = c.size("hidden_size", default=2560)
    heads = c.size("num_attention_heads", default=32)
    head_dim = per_head(hidden, heads, c)
    times = c.size("intermediate_multiple_size", default=4)
    count = layer_count(c, "num_hidden_layers", default=32)
    norm: Doc = {"kind": "layernorm", "placement": "pre", "eps": c.number("layer_norm_eps", default=1e-5)}
    common: Doc = {
        "norm": norm,
        "attention": multi_head(heads, head_dim, bias=False),
        "ffn": {
            "kind": c.choice("hidden_act", of=MLPS, default="gelu"),
            "d_ff": inferred(times.value * hidden.value, f"{times.value} x {hidden.value}", times, hidden),
        },
    }
    groups: dict[str, Doc] = {"body": {}, "last": {"attention": {"out_bias": True}}}
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=32000),
        "d_model": hidden,
        "max_context": c.size("max_position_embeddings", default=2048),
        "tied_embeddings": c.flag("tie_word_embeddings", default=True),
        "position": partly_rotated(c, head_dim, partial=1.0),
        "layers": unequal(count, ["body"] * (count.value - 1) + ["last"], groups, common),
    }


FAMILY = Family(
    document=document, config_class="GPTNeoXJapaneseConfig", source=TRANSFORMERS, idle=frozenset({"is_decoder"})
)
