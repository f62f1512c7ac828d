"""Marian, the class of OPUS-MT: post-norm, sinusoids, no norm after the embeddings."""

from __future__ import annotations

from llmprof.importing.blocks import on
from llmprof.importing.config import Config
from llmprof.importing.document import Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.seq2seq import Layout, Sizes
from llmprof.importing.seq2seq import document as encoder_decoder

LAYOUT = Layout(
    placement="post",
    normed=False,
    said={
        "add_final_layer_norm": False,
        "normalize_before": False,
        "normalize_embedding": False,
        "static_position_embeddings": True,
    },
)


def document(c: Config) -> Doc:
    """The table. The class counts its sinusoids as parameters, though it does not save them."""
    sizes = Sizes(vocab_size=58101)
    on(c, "share_encoder_decoder_embeddings", why="each side would have a token table of its own")
    vocab_size = c.size("vocab_size", default=sizes.vocab_size)
    c.must("decoder_vocab_size", vocab_size.value, None, why="both sides share one token table")
    c.remark(
        "the sinusoids of both sides are counted as stored tables, as transformers holds them; the bias that it adds "
        "to the logits is a buffer there, and not counted"
    )
    positions = c.size("max_position_embeddings", default=sizes.positions)
    position: Doc = {"kind": "sinusoidal", "stored_rows": positions}
    return encoder_decoder(c, sizes, LAYOUT, positions=positions, position=position)


FAMILY = Family(document=document, config_class="MarianConfig", source=TRANSFORMERS)
