"""Kimi K2.5: the tower of text, ``deepseek_v3`` where it does not say what it is."""

from __future__ import annotations

from llmprof.importing.towers import family_of_towers

FAMILY = family_of_towers("deepseek_v3", tied=True)
