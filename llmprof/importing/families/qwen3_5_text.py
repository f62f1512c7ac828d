"""The text tower of Qwen3.5: Qwen3-Next's layers with a plain feed-forward."""

from __future__ import annotations

from llmprof.importing.config import Config
from llmprof.importing.delta import layers_of_delta_and_attention
from llmprof.importing.dense import count_of_layers
from llmprof.importing.document import Doc
from llmprof.importing.family import TRANSFORMERS, Family


def document(c: Config) -> Doc:
    """The table. For text the three axes of the rotation have one index: it is a plain one."""
    count = count_of_layers(c, default=32)
    c.must("mlp_only_layers", [], None, why="the class has no experts")
    return layers_of_delta_and_attention(
        c,
        count,
        [False] * count.value,
        defaults={
            "vocab_size": 248320,
            "hidden_size": 4096,
            "num_attention_heads": 16,
            "num_key_value_heads": 4,
            "intermediate_size": 12288,
        },
        experts={},
    )


FAMILY = Family(document=document, config_class="Qwen3_5TextConfig", source=TRANSFORMERS)
