"""RWKV-4: time mixing and channel mixing, each behind a LayerNorm, and one more norm before the first layer."""

from __future__ import annotations

from llmprof.importing.config import Config, inferred
from llmprof.importing.document import Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.mixers import NOWHERE


def document(c: Config) -> Doc:
    """The table. The last norm has the library's own eps, whatever the field says."""
    hidden = c.size("hidden_size", default=4096)
    eps = c.number("layer_norm_epsilon", default=1e-5)
    wide = inferred(4 * hidden.value, f"not stated, so 4 x {hidden.value:,}, as the class has it", hidden)
    # Halves weights and hidden states every so many layers against overflow in fp16; 0 or less: never.
    every = c.raw("rescale_every")
    if every is not None and type(every) is not int:
        c.wrong("rescale_every", "a whole number")
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=50277),
        "d_model": hidden,
        "max_context": c.size("context_length", "max_position_embeddings", default=1024),
        "tied_embeddings": c.flag("tie_word_embeddings", default=False),
        "position": NOWHERE,
        "embedding": {"norm": {"kind": "layernorm", "eps": eps}},
        "layers": {
            "count": c.size("num_hidden_layers", default=32),
            "norm": {"kind": "layernorm", "placement": "pre", "eps": eps},
            "final_norm": {"kind": "layernorm", "eps": 1e-5},
            "attention": {"kind": "rwkv-4", "width": c.size("attention_hidden_size", default=hidden)},
            "ffn": {"kind": "rwkv-channel-mix", "d_ff": c.size("intermediate_size", default=wide)},
        },
    }


FAMILY = Family(
    document=document, config_class="RwkvConfig", source=TRANSFORMERS, idle=frozenset({"num_attention_heads"})
)
