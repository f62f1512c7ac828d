"""The encoder-decoders of BART's kin: multi-head attention with biases, two-matrix feed-forwards, one table for all.

They differ in where the norms stand, in what marks positions, and in the defaults of their classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llmprof.importing.blocks import built_as, multi_head, root
from llmprof.importing.config import Config, Read
from llmprof.importing.document import LEFT_OUT, Doc
from llmprof.importing.parts import MLPS, per_head

LEGACY = frozenset(
    {
        "add_bias_logits",
        "extra_layer_norm",
        "extra_pos_embeddings",
        "force_bos_token_to_be_generated",
        "layernorm_variant",
        "replacing_rate",
        "save_step",
        "student_decoder_layers",
        "student_encoder_layers",
    }
)
"""Fields of early releases that no class of this kin reads: each class is what they said of its models."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """The defaults of a class; both sides have the same but for their numbers of layers."""

    vocab_size: int = 50265
    d_model: int = 1024
    layers: tuple[int, int] = (12, 12)
    heads: int = 16
    d_ff: int = 4096
    positions: int = 1024
    activation: str = "gelu"
    scaled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What a class builds whatever its config says, and the fields of early releases that say the same.

    `normed` is whether a norm follows the embeddings.
    """

    placement: str
    normed: bool
    said: dict[str, Any]


def width(c: Config, sizes: Sizes) -> Read[int]:
    """``d_model``."""
    return c.size("d_model", "hidden_size", default=sizes.d_model)


def document(c: Config, sizes: Sizes, layout: Layout, *, positions: Read[int], position: Doc) -> Doc:
    """The architecture: `position` marks both sides, `positions` is the longest input of either."""
    whole(c)
    for key, value in layout.said.items():
        c.must(key, value, None, why="the class of this model_type builds nothing else")
    c.must("tie_word_embeddings", True, why="untied, each side has a token table of its own, which cannot be said")
    hidden = width(c, sizes)
    scaled = c.flag("scale_embedding", default=sizes.scaled)
    embedding: Doc = {"scale": root(hidden, scaled)} if scaled.value else {}
    if layout.normed:
        embedding["norm"] = {"kind": "layernorm", "eps": 1e-5}
    c.ignore(*LEGACY)
    return {
        "structure": "encoder-decoder",
        "vocab_size": c.size("vocab_size", default=sizes.vocab_size),
        "d_model": hidden,
        "max_context": positions,
        "tied_embeddings": True,
        "position": position,
        "embedding": embedding if embedding else LEFT_OUT,
        "encoder": side(c, "encoder", hidden, sizes, layout.placement),
        "decoder": side(c, "decoder", hidden, sizes, layout.placement),
    }


def whole(c: Config) -> None:
    """Stops the import of a config that is of one side alone."""
    if (built_as(c) or "").endswith("ForCausalLM"):
        c.stop("architectures", "an encoder-decoder: the decoder alone is another architecture")
    c.must("is_encoder_decoder", True, None, why="one side alone is another architecture")


def side(c: Config, which: str, hidden: Read[int], sizes: Sizes, placement: str, **attention: Any) -> Doc:
    """One stack. Of the encoder the fields have second, shorter names; `attention` are further keys of attention."""
    encoder = which == "encoder"
    short = ("num_attention_heads",) if encoder else ()
    heads = c.size(f"{which}_attention_heads", *short, default=sizes.heads)
    made = multi_head(heads, per_head(hidden, heads, c), bias=True, **attention)
    return {
        "count": c.size(
            f"{which}_layers", *(("num_hidden_layers",) if encoder else ()), default=sizes.layers[0 if encoder else 1]
        ),
        "norm": {"kind": "layernorm", "placement": placement, "eps": 1e-5},
        "attention": made,
        **({} if encoder else {"cross_attention": made}),
        "ffn": {
            "kind": c.choice("activation_function", of=MLPS, default=sizes.activation),
            "d_ff": c.size(f"{which}_ffn_dim", default=sizes.d_ff),
            "bias": True,
        },
    }
