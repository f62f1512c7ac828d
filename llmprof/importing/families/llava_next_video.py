"""LLaVA-NeXT-Video: the tower of text, ``llama`` where it does not say what it is."""

from __future__ import annotations

from llmprof.importing.towers import family_of_towers

FAMILY = family_of_towers("llama", tied=False, either=True)
