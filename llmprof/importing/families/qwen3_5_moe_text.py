"""The text tower of Qwen3.5-MoE: Qwen3-Next's layers, with experts in every one."""

from __future__ import annotations

from llmprof.importing.config import Config
from llmprof.importing.delta import layers_of_delta_and_attention
from llmprof.importing.dense import count_of_layers
from llmprof.importing.document import Doc
from llmprof.importing.families.qwen3_next import moe
from llmprof.importing.family import TRANSFORMERS, Family


def document(c: Config) -> Doc:
    """The table. The chosen weights are divided by their sum in any case."""
    count = count_of_layers(c, default=40)
    c.must("mlp_only_layers", [], None, why="the class has experts in every layer")
    return layers_of_delta_and_attention(
        c,
        count,
        [True] * count.value,
        defaults={"vocab_size": 248320, "hidden_size": 2048, "num_attention_heads": 16, "num_key_value_heads": 2},
        experts=moe(c, c.size("num_experts", default=256), top_k=8, normalise=True),
    )


FAMILY = Family(
    document=document,
    config_class="Qwen3_5MoeTextConfig",
    source=TRANSFORMERS,
    idle=frozenset({"intermediate_size"}),
)
