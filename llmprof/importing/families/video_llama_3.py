"""VideoLLaMA 3: the tower of text, ``qwen2`` where it does not say what it is."""

from __future__ import annotations

from llmprof.importing.towers import family_of_towers

FAMILY = family_of_towers("qwen2", tied=False, either=True)
