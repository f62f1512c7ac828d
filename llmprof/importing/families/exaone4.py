"""EXAONE 4: norms on a block's outputs and of each head's queries and keys; layers without a window rotate nothing.

Where no layer has a window, all of them rotate.
"""

from __future__ import annotations

from llmprof.importing.config import Config, Read
from llmprof.importing.dense import FULL, RUNTIME, by_window, count_of_layers, every, layer_kinds, whole_rope
from llmprof.importing.document import Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.parts import GLUS, per_head


def document(c: Config) -> Doc:
    """The table."""
    hidden = c.size("hidden_size", default=4096)
    heads = c.size("num_attention_heads", default=32)
    head_dim = per_head(hidden, heads, c, "head_dim")
    eps = c.number("rms_norm_eps", default=1e-5)
    count = count_of_layers(c, default=32)
    window = c.optional_size("sliding_window", default=4096)
    kinds = _kinds(c, count, window)
    c.must("reorder_and_qk_norm", True, why="the class has the norms so in any case")
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=102400),
        "d_model": hidden,
        "max_context": c.size("max_position_embeddings", default=2048),
        "tied_embeddings": c.flag("tie_word_embeddings", default=False),
        "position": whole_rope(c, head_dim, theta=10000.0),
        "layers": by_window(
            c,
            count,
            kinds,
            window,
            {
                "norm": {"kind": "rmsnorm", "placement": "reordered", "eps": eps},
                "attention": {
                    "kind": "gqa",
                    "n_heads": heads,
                    "n_kv_heads": c.size("num_key_value_heads", default=32),
                    "head_dim": head_dim,
                    "qk_norm": {"kind": "rmsnorm", "eps": eps},
                },
                "ffn": {
                    "kind": c.choice("hidden_act", of=GLUS, default="silu"),
                    "d_ff": c.size("intermediate_size", default=16384),
                },
                "final_norm": {"kind": "rmsnorm", "eps": eps},
            },
            everywhere={} if window.value is None else {"position": {"kind": "none"}},
        ),
    }


def _kinds(c: Config, count: Read[int], window: Read[int] | Read[None]) -> Read[tuple[str, ...]]:
    """Which layers have the window: ``layer_types``, else by ``sliding_window_pattern``, an interval.

    A pattern in letters stands beside ``layer_types`` in the release, and the class reads it nowhere else.
    """
    if c.has("layer_types") or window.value is None:
        c.ignore("sliding_window_pattern")
        return layer_kinds(c, count, default=[FULL] * count.value, why="not stated: no layer has a window")
    step = c.size("sliding_window_pattern", default=4).value
    why = f"every {step} layers one sees all tokens, by sliding_window_pattern or the family's habit"
    return layer_kinds(c, count, default=every(count, step), why=why)


FAMILY = Family(document=document, config_class="Exaone4Config", source=TRANSFORMERS, idle=RUNTIME)
