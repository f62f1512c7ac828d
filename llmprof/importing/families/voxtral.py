"""Voxtral: the tower of text, ``llama`` where it says no other, to which the class adds sizes of its own."""

from __future__ import annotations

from llmprof.importing.config import Config
from llmprof.importing.document import Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.towers import added, text_tower

ADDED = {
    "vocab_size": 131072,
    "hidden_size": 3072,
    "intermediate_size": 8192,
    "num_hidden_layers": 30,
    "num_key_value_heads": 8,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-05,
    "rope_theta": 100_000_000.0,
    "head_dim": 128,
}
"""What VoxtralConfig puts into a ``text_config`` that does not say it."""


def document(c: Config) -> Doc:
    """The table."""
    return text_tower(c, "llama", tied="never", passed=added(c, "VoxtralConfig", ADDED))


FAMILY = Family(document=document, config_class=None, source=TRANSFORMERS)
