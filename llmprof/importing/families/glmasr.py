"""GLM-ASR: the tower of text, ``llama`` where it says no other, to which the class adds sizes of its own."""

from __future__ import annotations

from llmprof.importing.config import Config
from llmprof.importing.document import Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.towers import added, text_tower

ADDED = {
    "vocab_size": 59264,
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-05,
}
"""What GlmAsrConfig puts into a ``text_config`` that does not say it."""


def document(c: Config) -> Doc:
    """The table."""
    return text_tower(c, "llama", tied=True, passed=added(c, "GlmAsrConfig", ADDED))


FAMILY = Family(document=document, config_class=None, source=TRANSFORMERS)
