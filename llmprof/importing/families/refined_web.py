"""RefinedWeb, as Falcon-40B was first released: its own names of fields, grouped keys, parallel blocks of two norms."""

from __future__ import annotations

from llmprof.importing.blocks import four_times, on
from llmprof.importing.config import Config, Read
from llmprof.importing.document import Doc
from llmprof.importing.families.falcon import decoder
from llmprof.importing.family import Family

SOURCE = (
    "configuration_RW.py and modelling_RW.py of tiiuae/falcon-40b at its release; the fields in "
    "https://github.com/babuaditya97/FalconLLM_test, read 2026-11-30, recalled where they differ from the 7B's"
)


def document(c: Config) -> Doc:
    """The table. The schema states no longest context."""
    on(c, "parallel_attn", "new_decoder_architecture", why="the published code of this type knows no other")
    heads = c.size("n_head", "num_attention_heads")
    hidden = c.size("hidden_size", "n_embed")
    return decoder(
        c,
        hidden=hidden,
        heads=heads,
        kv_heads=c.size("n_head_kv", "num_kv_heads", default=heads),
        block=Read("parallel-two-norms"),
        bias=c.flag("bias", default=False),
        d_ff=four_times(hidden),
        activation=Read("gelu"),
        vocab_size=c.size("vocab_size"),
        max_context=Read(None, (), "the schema states none, and the rotation bounds nothing"),
        count=c.size("n_layer", "num_hidden_layers"),
    )


FAMILY = Family(document=document, config_class=None, source=SOURCE, idle=frozenset({"multi_query"}))
