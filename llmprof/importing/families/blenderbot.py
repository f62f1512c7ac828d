"""BlenderBot: pre-norm, learned positions, a decoder that is deeper than its encoder."""

from __future__ import annotations

from llmprof.importing.config import Config
from llmprof.importing.document import Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.seq2seq import Layout, Sizes
from llmprof.importing.seq2seq import document as encoder_decoder

LAYOUT = Layout(
    placement="pre",
    normed=False,
    said={"add_final_layer_norm": True, "normalize_before": True, "static_position_embeddings": False},
)


def document(c: Config) -> Doc:
    """The table."""
    sizes = Sizes(vocab_size=8008, d_model=2560, layers=(2, 24), heads=32, d_ff=10240, positions=128)
    positions = c.size("max_position_embeddings", default=sizes.positions)
    c.ignore("normalize_embedding", "do_blenderbot_90_layernorm")  # of the 90M, which is a model_type of its own
    return encoder_decoder(c, sizes, LAYOUT, positions=positions, position={"kind": "learned", "rows": positions})


FAMILY = Family(document=document, config_class="BlenderbotConfig", source=TRANSFORMERS)
