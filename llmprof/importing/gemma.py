"""What the classes of Gemma share: scaled embeddings, norms that multiply by 1 + weight, a scale of the scores."""

from __future__ import annotations

from llmprof.importing.config import Config, Read, inferred
from llmprof.importing.dense import by_window, count_of_layers, every, layer_kinds, whole_rope
from llmprof.importing.document import LEFT_OUT, Doc, Left
from llmprof.importing.parts import GLUS


def scaled_embedding(hidden: Read[int]) -> Doc:
    """Token embeddings are multiplied by the square root of their width."""
    return {"scale": inferred(hidden.value**0.5, "the square root of hidden_size, as the family has it", hidden)}


def offset_norm(eps: Read[float], placement: str | None = None) -> Doc:
    """An RMSNorm that multiplies by 1 + weight."""
    norm: Doc = {"kind": "rmsnorm", "unit_offset": True, "eps": eps}
    return norm if placement is None else {"placement": placement, **norm}


def score_scale(c: Config, head_dim: Read[int]) -> Read[float] | Read[Left]:
    """``query_pre_attn_scalar`` ** -0.5; nothing written where that is the language's default."""
    scalar = c.number("query_pre_attn_scalar", default=256.0)
    if scalar.value == head_dim.value:
        return Read(LEFT_OUT, scalar.keys)
    return inferred(scalar.value**-0.5, f"query_pre_attn_scalar = {scalar.value:g} to the power of -1/2", scalar)


def softcap(c: Config, key: str, *, default: float | None) -> Read[float] | Read[Left]:
    """A cap of scores or logits, or nothing written where the field is null."""
    found = c.optional_number(key, default=default)
    return Read(LEFT_OUT, found.keys) if found.value is None else Read(found.value, found.keys, found.note)


def causal(c: Config) -> None:
    """Refuses Gemmas that look both ways, as those that make embeddings of texts do."""
    c.must("use_bidirectional_attention", None, False, why="this table is that of the causal decoders")


def capped(c: Config, placement: str) -> Doc:
    """Gemma 2's table: caps of scores and logits, a window in every second layer, norms placed as `placement` says."""
    hidden = c.size("hidden_size", default=2304)
    head_dim = c.size("head_dim", default=256)
    bias = c.flag("attention_bias", default=False)
    count = count_of_layers(c, default=26)
    kinds = layer_kinds(
        c, count, default=every(count, 2), why="not stated: every second layer sees all tokens, as the family has it"
    )
    causal(c)
    c.must("hidden_act", None, "gelu_pytorch_tanh", why="the class reads hidden_activation")
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=256000),
        "d_model": hidden,
        "max_context": c.size("max_position_embeddings", default=8192),
        "tied_embeddings": c.flag("tie_word_embeddings", default=True),
        "position": whole_rope(c, head_dim, theta=10000.0),
        "embedding": scaled_embedding(hidden),
        "layers": by_window(
            c,
            count,
            kinds,
            c.optional_size("sliding_window", "sliding_window_size", default=4096),
            {
                "norm": offset_norm(c.number("rms_norm_eps", default=1e-6), placement),
                "attention": {
                    "kind": "gqa",
                    "n_heads": c.size("num_attention_heads", default=8),
                    "n_kv_heads": c.size("num_key_value_heads", default=4),
                    "head_dim": head_dim,
                    "qkv_bias": bias,
                    "out_bias": bias,
                    "softcap": softcap(c, "attn_logit_softcapping", default=50.0),
                    "scale": score_scale(c, head_dim),
                },
                "ffn": {
                    "kind": c.choice("hidden_activation", of=GLUS, default="gelu_pytorch_tanh"),
                    "d_ff": c.size("intermediate_size", default=9216),
                },
            },
        ),
        "head": {"kind": "lm", "softcap": softcap(c, "final_logit_softcapping", default=30.0)},
    }
