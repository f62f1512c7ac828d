"""LFM2-VL: the tower of text, ``lfm2`` where it does not say what it is."""

from __future__ import annotations

from llmprof.importing.towers import family_of_towers

FAMILY = family_of_towers("lfm2", tied=True)
