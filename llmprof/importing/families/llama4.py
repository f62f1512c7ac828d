"""Llama 4 (Scout, Maverick): the tower of text, ``llama4_text`` where it does not say what it is."""

from __future__ import annotations

from llmprof.importing.towers import family_of_towers

FAMILY = family_of_towers("llama4_text", tied="tower")
