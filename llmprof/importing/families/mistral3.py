"""Mistral Small 3.1 and 3.2, and others of their class: the tower of text, ``mistral`` where it says no other."""

from __future__ import annotations

from llmprof.importing.towers import family_of_towers

FAMILY = family_of_towers("mistral", tied=True)
