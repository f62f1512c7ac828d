"""T5 1.0 and 1.1, Flan-T5, UL2: RMSNorm, a table of relative positions, no biases, scores that are not scaled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from llmprof.importing.blocks import built_as, multi_head
from llmprof.importing.config import Config, Read, inferred
from llmprof.importing.document import LEFT_OUT, Doc, Left
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.parts import GLUS, MLPS

FFNS: Mapping[str, str] = {**MLPS, **{f"gated-{name}": kind for name, kind in GLUS.items()}, "gated-gelu": "geglu-tanh"}
"""``feed_forward_proj`` -> the kind of feed-forward. Gated GELU is by tanh, as T5 1.1 was trained."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """The defaults of a class, and whether tied logits are scaled by d_model ** -0.5 in it."""

    vocab_size: int = 32128
    d_model: int = 512
    d_ff: int = 2048
    layers: int = 6
    heads: int = 8
    feed_forward: str = "relu"
    scaled: bool = True


def document(c: Config) -> Doc:
    """The table of T5's own class."""
    return encoder_decoder(c, Sizes())


def encoder_decoder(c: Config, sizes: Sizes) -> Doc:
    """T5 and its kin; of a config that is of the encoder's class, the encoder alone."""
    hidden = c.size("d_model", "hidden_size", default=sizes.d_model)
    norm: Doc = {"kind": "rmsnorm", "placement": "pre", "eps": c.number("layer_norm_epsilon", default=1e-6)}
    heads = c.size("num_heads", "num_attention_heads", default=sizes.heads)
    attention = multi_head(heads, c.size("d_kv", "head_dim", default=64), bias=False, scale=1.0)
    count = c.size("num_layers", "num_hidden_layers", default=sizes.layers)
    layer: Doc = {"norm": norm, "attention": attention, "ffn": _ffn(c, sizes)}
    decoder_count = c.size("num_decoder_layers", default=count)
    around: Doc = {
        "vocab_size": c.size("vocab_size", default=sizes.vocab_size),
        "d_model": hidden,
        "max_context": Read(None, (), "relative positions bound nothing"),
    }
    position: Doc = {
        "kind": "t5-bias",
        "n_buckets": c.size("relative_attention_num_buckets", default=32),
        "max_distance": c.size("relative_attention_max_distance", default=128),
    }
    c.ignore("n_positions")
    if (built_as(c) or "").endswith("EncoderModel"):
        c.ignore("scale_decoder_outputs", "tie_word_embeddings")
        alone: Doc = {"tied_embeddings": False, "position": position, "layers": {"count": count, **layer}}
        return {"structure": "encoder", **around, **alone, "head": {"kind": "none"}}
    c.must("is_encoder_decoder", True, None, why="one side alone is another architecture")
    tied, scale = _output(c, sizes, hidden)
    return {
        "structure": "encoder-decoder",
        **around,
        "tied_embeddings": tied,
        "position": position,
        "encoder": {"count": count, **layer},
        "decoder": {"count": decoder_count, **layer, "cross_attention": attention},
        "head": {"kind": "lm", "input_scale": scale},
    }


def _ffn(c: Config, sizes: Sizes) -> Doc:
    kind = c.choice("feed_forward_proj", of=FFNS, default=sizes.feed_forward)
    said = c.raw("feed_forward_proj") or sizes.feed_forward
    gated, _, activation = str(said).rpartition("-")
    derived = "gelu_new" if said == "gated-gelu" else activation
    c.must("dense_act_fn", derived, None, why="what feed_forward_proj comes to")
    c.must("is_gated_act", gated == "gated", None, why="what feed_forward_proj comes to")
    return {"kind": kind, "d_ff": c.size("d_ff", default=sizes.d_ff)}


def _output(c: Config, sizes: Sizes, hidden: Read[int]) -> tuple[Read[bool], Read[float] | Read[Left]]:
    """Whether the output matrix is the token table, and what hidden states are multiplied by before it.

    transformers 5.23 ties it whatever the config says; the released weights of T5 1.1, Flan-T5 and mT5, whose configs
    untie it, have an output matrix of their own.
    """
    tied = c.flag("tie_word_embeddings", default=True)
    if not tied.value:
        c.remark(
            "the output matrix is untied, as the config says and the releases are; transformers 5.23 ties it anyway"
        )
    if not sizes.scaled:
        return tied, Read(LEFT_OUT)
    scaled = c.flag("scale_decoder_outputs", default=Read(tied.value, tied.keys))
    if not scaled.value:
        return tied, Read(LEFT_OUT, scaled.keys)
    return tied, inferred(hidden.value**-0.5, f"{hidden.value} ** -0.5, for the output matrix is tied", scaled, hidden)


FAMILY = Family(document=document, config_class="T5Config", source=TRANSFORMERS)
