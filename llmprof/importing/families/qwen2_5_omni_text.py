"""The text tower of Qwen2.5-Omni's thinker: Qwen2.5-VL's with other defaults."""

from __future__ import annotations

from llmprof.importing.config import Config
from llmprof.importing.dense import RUNTIME
from llmprof.importing.document import Doc
from llmprof.importing.families.qwen2_vl_text import Defaults, decoder
from llmprof.importing.family import TRANSFORMERS, Family

DEFAULTS = Defaults(
    hidden_size=3584,
    intermediate_size=18944,
    num_hidden_layers=28,
    num_attention_heads=28,
    num_key_value_heads=4,
    rms_norm_eps=1e-6,
    max_window_layers=28,
    tie_word_embeddings=True,
)


def document(c: Config) -> Doc:
    """The table."""
    return decoder(c, DEFAULTS)


FAMILY = Family(document=document, config_class="Qwen2_5OmniTextConfig", source=TRANSFORMERS, idle=RUNTIME)
