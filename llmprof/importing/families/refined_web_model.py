"""RefinedWebModel, as Falcon-7B and Falcon-RW were first released: one head of keys or all, parallel or serial."""

from __future__ import annotations

from llmprof.importing.blocks import four_times, off
from llmprof.importing.config import Config, Read, inferred
from llmprof.importing.document import Doc
from llmprof.importing.families.falcon import decoder
from llmprof.importing.family import Family

SOURCE = (
    "configuration_RW.py of tiiuae/falcon-7b-instruct at its release, as kept in "
    "https://github.com/babuaditya97/FalconLLM_test, read 2026-11-30"
)


def document(c: Config) -> Doc:
    """The table. The schema states no longest context."""
    off(c, "new_decoder_architecture", why="the published code of this type knows no other than the first one")
    heads = c.size("n_head", "num_attention_heads")
    hidden = c.size("hidden_size", "n_embed")
    one = c.flag("multi_query", default=False)
    parallel = c.flag("parallel_attn", default=False)
    return decoder(
        c,
        hidden=hidden,
        heads=heads,
        kv_heads=inferred(1, "multi_query", one) if one.value else heads,
        block=Read("parallel" if parallel.value else "serial", parallel.keys, parallel.note),
        bias=c.flag("bias", default=False),
        d_ff=four_times(hidden),
        activation=Read("gelu"),
        vocab_size=c.size("vocab_size"),
        max_context=Read(None, (), "the schema states none"),
        count=c.size("n_layer", "num_hidden_layers"),
    )


FAMILY = Family(document=document, config_class=None, source=SOURCE)
