"""EXAONE 4.5: the tower of text, ``exaone4`` where it does not say what it is."""

from __future__ import annotations

from llmprof.importing.towers import family_of_towers

FAMILY = family_of_towers("exaone4", tied=False)
