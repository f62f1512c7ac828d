"""Qwen2.5-Omni's thinker: the tower of text, ``qwen2_5_omni_text`` where it does not say what it is."""

from __future__ import annotations

from llmprof.importing.towers import family_of_towers

# A tower that states no flag does not tie: released thinkers have an output matrix of their own and state none.
FAMILY = family_of_towers("qwen2_5_omni_text", tied=False, silent=True)
