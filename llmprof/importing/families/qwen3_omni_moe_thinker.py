"""Qwen3-Omni's thinker: the tower of text, ``qwen3_omni_moe_text`` where it does not say what it is."""

from __future__ import annotations

from llmprof.importing.towers import family_of_towers

FAMILY = family_of_towers("qwen3_omni_moe_text", tied=False)
