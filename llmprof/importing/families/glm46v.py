"""GLM-4.6V: the tower of text, ``glm4v_text`` where it does not say what it is."""

from __future__ import annotations

from llmprof.importing.towers import family_of_towers

FAMILY = family_of_towers("glm4v_text", tied=False)
