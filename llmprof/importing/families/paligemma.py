"""PaliGemma 1 and 2: the tower of text, ``gemma`` where it does not say what it is."""

from __future__ import annotations

from llmprof.importing.config import Config
from llmprof.importing.document import Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.towers import text_tower


def document(c: Config) -> Doc:
    """The table: that of the tower, whose masks are the whole's affair."""
    c.remark("image and prompt see each other both ways, which is left out: the tower of text is read as causal")
    return text_tower(
        c,
        "gemma",
        tied=True,
        # The class reads the tower's alone, and released files have others around it.
        stale=("hidden_size", "vocab_size"),
        # Version 5 writes into the tower what the class of the whole sets there in any case.
        passed={"use_bidirectional_attention": None},
        inside=_of_images,
    )


def _of_images(inner: Config) -> None:
    inner.ignore("num_image_tokens")


FAMILY = Family(document=document, config_class=None, source=TRANSFORMERS)
