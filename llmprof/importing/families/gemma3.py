"""Gemma 3 with images (4B, 12B, 27B): the tower of text, ``gemma3_text`` where it does not say what it is."""

from __future__ import annotations

from llmprof.importing.towers import family_of_towers

FAMILY = family_of_towers("gemma3_text", tied=True)
