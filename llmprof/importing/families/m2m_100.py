"""M2M-100 and NLLB's dense models: pre-norm, ReLU, sinusoids that are computed."""

from __future__ import annotations

from llmprof.importing.config import Config
from llmprof.importing.document import Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.seq2seq import Layout, Sizes
from llmprof.importing.seq2seq import document as encoder_decoder

LAYOUT = Layout(
    placement="pre",
    normed=False,
    said={
        "add_final_layer_norm": True,
        "normalize_before": True,
        "normalize_embedding": False,
        "static_position_embeddings": True,
    },
)


def document(c: Config) -> Doc:
    """The table."""
    sizes = Sizes(vocab_size=128112, activation="relu", scaled=True)
    positions = c.size("max_position_embeddings", default=sizes.positions)
    return encoder_decoder(c, sizes, LAYOUT, positions=positions, position={"kind": "sinusoidal"})


FAMILY = Family(document=document, config_class="M2M100Config", source=TRANSFORMERS)
