"""OLMo 3: OLMo 2's layer; three layers with a window to one without, and rotations rescaled in the latter alone."""

from __future__ import annotations

from llmprof.importing.config import Config
from llmprof.importing.dense import FULL, RUNTIME, SLIDING, by_window, count_of_layers, every, layer_kinds, whole_rope
from llmprof.importing.document import Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.olmo import reordered_layer
from llmprof.importing.parts import per_head


def document(c: Config) -> Doc:
    """The table."""
    hidden = c.size("hidden_size", default=4096)
    heads = c.size("num_attention_heads", default=32)
    head_dim = per_head(hidden, heads, c, "head_dim")
    count = count_of_layers(c, default=32)
    kinds = layer_kinds(
        c, count, default=every(count, 4), why="not stated: every fourth layer sees all tokens, as the family has it"
    )
    c.must("rope_theta", None, 500000, why="the class takes it for the layers without a window alone")
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=50304),
        "d_model": hidden,
        "max_context": c.size("max_position_embeddings", default=2048),
        "tied_embeddings": c.flag("tie_word_embeddings", default=False),
        "position": whole_rope(c, head_dim, theta=500000.0, layer_type=FULL),
        "layers": by_window(
            c,
            count,
            kinds,
            c.optional_size("sliding_window", default=4096),
            reordered_layer(c, heads, head_dim),
            local={"position": whole_rope(c, head_dim, theta=500000.0, layer_type=SLIDING)},
        ),
    }


FAMILY = Family(document=document, config_class="Olmo3Config", source=TRANSFORMERS, idle=RUNTIME)
