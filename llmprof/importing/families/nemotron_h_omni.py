"""Nemotron 3 Omni: the tower of text, ``nemotron_h`` where it does not say what it is."""

from __future__ import annotations

from llmprof.importing.towers import family_of_towers

FAMILY = family_of_towers("nemotron_h", tied="tower")
