"""PaliGemma 1 and 2: the tower of text, ``gemma`` where it does not say what it is."""

from __future__ import annotations

from llmprof.importing.towers import family_of_towers

FAMILY = family_of_towers(
    "gemma",
    tied=True,
    # The class reads the tower's alone, and released files have others around it.
    stale=("hidden_size", "vocab_size"),
    remark="image and prompt see each other both ways, which is left out: the tower of text is read as causal",
)
