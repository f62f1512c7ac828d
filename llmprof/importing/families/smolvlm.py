"""SmolVLM 1 and 2: the tower of text, ``llama`` where it does not say what it is."""

from __future__ import annotations

from llmprof.importing.leftovers import of_idefics
from llmprof.importing.towers import family_of_towers

FAMILY = family_of_towers("llama", tied=False, inside=of_idefics)
