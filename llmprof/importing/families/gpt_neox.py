"""GPT-NeoX, Pythia and what was released in their class: parallel blocks of two norms, partly rotated heads."""

from __future__ import annotations

from llmprof.importing.blocks import built_as, multi_head
from llmprof.importing.config import Config, Read, inferred
from llmprof.importing.document import LEFT_OUT, Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.parts import MLPS, per_head, rope


def document(c: Config) -> Doc:
    """The table."""
    built_as(c)
    hidden = c.size("hidden_size", default=6144)
    heads = c.size("num_attention_heads", default=64)
    head_dim = per_head(hidden, heads, c)
    parallel = c.flag("use_parallel_residual", default=True)
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=50432),
        "d_model": hidden,
        "max_context": c.size("max_position_embeddings", default=2048),
        "tied_embeddings": c.flag("tie_word_embeddings", default=False),
        "position": partly_rotated(c, head_dim, partial=0.25),
        "layers": {
            "count": c.size("num_hidden_layers", default=44),
            "block": Read("parallel-two-norms" if parallel.value else "serial", parallel.keys, parallel.note),
            "norm": {"kind": "layernorm", "placement": "pre", "eps": c.number("layer_norm_eps", default=1e-5)},
            "attention": multi_head(heads, head_dim, bias=c.flag("attention_bias", default=True)),
            "ffn": {
                "kind": c.choice("hidden_act", of=MLPS, default="gelu"),
                "d_ff": c.size("intermediate_size", default=24576),
                "bias": True,
            },
        },
    }


def partly_rotated(c: Config, head_dim: Read[int], *, partial: float) -> Doc:
    """The rotation by the names that this class has: ``rotary_emb_base`` and ``rotary_pct``, or ``rope_parameters``.

    `partial` is the class's default of ``rotary_pct``.
    """
    inside = any(c.below(key).has("partial_rotary_factor") for key in ("rope_parameters", "rope_scaling"))
    share = c.number("rotary_pct", "partial_rotary_factor", default=partial)
    c.number("rotary_emb_base", "rope_theta", default=10000.0)
    doc = rope(c, head_dim, theta=10000.0, theta_key="rotary_emb_base" if c.has("rotary_emb_base") else "rope_theta")
    if inside or share.value == 1.0:
        return doc
    rotated = int(head_dim.value * min(share.value, 2.0))
    if rotated % 2 or not 0 < rotated <= head_dim.value:
        c.wrong("rotary_pct", f"a part of {head_dim.value} values that is a multiple of 2")
    note = f"{head_dim.value} values of a head x {share.value:g}"
    return {**doc, "rotary_dim": inferred(rotated, note, share, head_dim) if rotated else LEFT_OUT}


FAMILY = Family(
    document=document, config_class="GPTNeoXConfig", source=TRANSFORMERS, idle=frozenset({"is_decoder", "num_steps"})
)
