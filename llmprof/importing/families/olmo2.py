"""OLMo 2: RMSNorms on the outputs of attention and feed-forward, and over all queries and all keys."""

from __future__ import annotations

from llmprof.importing.config import Config
from llmprof.importing.dense import RUNTIME, whole_rope
from llmprof.importing.document import Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.olmo import reordered_layer
from llmprof.importing.parts import per_head


def document(c: Config) -> Doc:
    """The table."""
    hidden = c.size("hidden_size", default=4096)
    heads = c.size("num_attention_heads", default=32)
    head_dim = per_head(hidden, heads, c, "head_dim")
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=50304),
        "d_model": hidden,
        "max_context": c.size("max_position_embeddings", default=2048),
        "tied_embeddings": c.flag("tie_word_embeddings", default=False),
        "position": whole_rope(c, head_dim, theta=10000.0),
        "layers": {"count": c.size("num_hidden_layers", default=32), **reordered_layer(c, heads, head_dim)},
    }


FAMILY = Family(document=document, config_class="Olmo2Config", source=TRANSFORMERS, idle=RUNTIME)
