"""What the classes of Gemma share: scaled embeddings, norms that multiply by 1 + weight, a scale of the scores."""

from __future__ import annotations

from llmprof.importing.config import Config, Read, inferred
from llmprof.importing.document import LEFT_OUT, Doc, Left


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
