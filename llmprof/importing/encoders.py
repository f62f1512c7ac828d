"""The encoders of BERT's kin: learned positions and segments, two-matrix feed-forwards, biases everywhere."""

from __future__ import annotations

from dataclasses import dataclass

from llmprof.importing.blocks import encoder_head, multi_head
from llmprof.importing.config import Config, Read
from llmprof.importing.document import LEFT_OUT, Doc
from llmprof.importing.parts import MLPS, per_head

LEGACY = frozenset(
    {
        "eos_token_ids",
        "pooler_fc_size",
        "pooler_num_attention_heads",
        "pooler_num_fc_layers",
        "pooler_size_per_head",
        "pooler_type",
    }
)
"""Fields of early releases that no class of this kin reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """The defaults of a class."""

    vocab_size: int = 30522
    hidden: int = 768
    layers: int = 12
    heads: int = 12
    d_ff: int = 3072
    positions: int = 512
    segments: int = 2
    eps: float = 1e-12


def document(
    c: Config,
    sizes: Sizes,
    family: str,
    *,
    max_context: Read[int],
    placement: str = "post",
    normed: bool = True,
    head_act: Read[str] | None = None,
) -> Doc:
    """The architecture of a class whose models are called `family` + Model and `family` + ForMaskedLM.

    `max_context` is what the table of ``max_position_embeddings`` rows holds, `normed` whether a norm follows the
    embeddings, `head_act` the kind of activation of the masked-LM head where it is not that of the layers.
    """
    c.must("position_embedding_type", "absolute", None, why="relative positions have tables that cannot be said")
    c.must("directionality", "bidi", None, why="the class attends in both directions")
    c.must("tie_word_embeddings", True, why="untied, the class keeps two biases of the output, of which one is idle")
    c.ignore(*LEGACY)
    hidden = c.size("hidden_size", default=sizes.hidden)
    heads = c.size("num_attention_heads", default=sizes.heads)
    eps = c.number("layer_norm_eps", default=sizes.eps)
    norm: Doc = {"kind": "layernorm", "eps": eps}
    activation = c.choice("hidden_act", of=MLPS, default="gelu")
    return {
        "structure": "encoder",
        "vocab_size": c.size("vocab_size", default=sizes.vocab_size),
        "d_model": hidden,
        "max_context": max_context,
        "tied_embeddings": True,
        "position": {"kind": "learned", "rows": c.size("max_position_embeddings", default=sizes.positions)},
        "embedding": {
            "norm": norm if normed else LEFT_OUT,
            "type_vocab_size": c.size("type_vocab_size", default=sizes.segments),
        },
        "layers": {
            "count": c.size("num_hidden_layers", default=sizes.layers),
            "norm": {**norm, "placement": placement},
            "attention": multi_head(heads, per_head(hidden, heads, c), bias=True),
            "ffn": {"kind": activation, "d_ff": c.size("intermediate_size", default=sizes.d_ff), "bias": True},
        },
        **encoder_head(c, family, norm=norm, activation=head_act or activation, pooler=True),
    }


def after_padding(c: Config, sizes: Sizes) -> Read[int]:
    """The longest input where positions count from the row behind that of ``pad_token_id`` (RoBERTa)."""
    rows = c.size("max_position_embeddings", default=sizes.positions)
    pad = c.size("pad_token_id", default=1, least=0)
    left = rows.value - pad.value - 1
    if left < 1:
        c.wrong("pad_token_id", f"less than {max(rows.value - 1, 1)}: positions count from the row behind it")
    note = f"of {rows.value} rows the first {pad.value + 1} are not used: positions count from pad_token_id + 1"
    return Read(max(left, 1), rows.keys + pad.keys, note)
