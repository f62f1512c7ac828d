"""Granite Speech Plus: the tower of text, ``granite`` where it does not say what it is."""

from __future__ import annotations

from llmprof.importing.towers import family_of_towers

FAMILY = family_of_towers("granite", tied=True)
