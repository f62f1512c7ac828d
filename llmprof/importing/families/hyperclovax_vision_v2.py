"""HyperCLOVA X Vision 2: the tower of text, ``hyperclovax`` where it does not say what it is."""

from __future__ import annotations

from llmprof.importing.towers import family_of_towers

FAMILY = family_of_towers("hyperclovax", tied=True)
