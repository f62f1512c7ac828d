"""ERNIE: BERT, and in later releases a table of tasks, which the spec language cannot say."""

from __future__ import annotations

from llmprof.importing.blocks import off
from llmprof.importing.config import Config
from llmprof.importing.document import Doc
from llmprof.importing.encoders import Sizes
from llmprof.importing.encoders import document as encoder
from llmprof.importing.family import TRANSFORMERS, Family


def document(c: Config) -> Doc:
    """The table."""
    off(c, "use_task_id", why="a table of tasks would be added to the embeddings")
    sizes = Sizes()
    return encoder(c, sizes, "Ernie", max_context=c.size("max_position_embeddings", default=sizes.positions))


FAMILY = Family(
    document=document, config_class="ErnieConfig", source=TRANSFORMERS, idle=frozenset({"task_type_vocab_size"})
)
