"""Qwen3-ASR: the tower of text, ``qwen3`` where it does not say what it is."""

from __future__ import annotations

from llmprof.importing.towers import family_of_towers

# The bias is that of a head which other classes of this config have.
FAMILY = family_of_towers("qwen3", tied=True, stale=("token_classification_bias",))
