"""What a message says was expected: the language's own words, never those of the checking library."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from llmprof.spec.nodes import Node, Scalar

# What a key stands for, said when it is missing.
_MEANING = {
    "name": "the model's name in lower case",
    "source": "where the shapes were read: {url, where, read}",
    "structure": "causal-decoder, prefix-decoder, encoder-decoder or encoder",
    "vocab_size": "the number of rows of the token table",
    "d_model": "the width of the hidden state",
    "max_context": "the longest context the model was made for, or null where nothing bounds it",
    "tied_embeddings": "true where the output matrix is the token table, else false",
    "norm": "{kind: layernorm or rmsnorm, placement: pre, post, sandwich or reordered}",
    "placement": "pre, post, sandwich or reordered",
    "attention": "{kind: gqa, n_heads, n_kv_heads, head_dim}, or another kind of attention",
    "cross_attention": "an attention over the encoder's output: {kind: gqa, n_heads, n_kv_heads, head_dim}",
    "ffn": "{kind, d_ff}, for example {kind: swiglu, d_ff: 11008}",
    "position": "rope, alibi, t5-bias, gaussian, learned, sinusoidal or none, here or at the top level",
    "n_heads": "the number of query heads",
    "n_kv_heads": "the number of key/value heads: n_heads for multi-head, 1 for multi-query",
    "head_dim": "the width of one head: it is stated, never derived from d_model / n_heads",
    "pattern": "{kind: sliding, window} or another pattern: dilated, strided, fixed, global-window, bigbird",
    "chunk": "how many tokens the blockwise form takes at once, for example 64",
    "n_features": "the number of random features of a head, for example 256",
    "factor": "how many keys become one",
    "method": "conv or mean: how several keys become one",
    "n_clusters": "the number of groups of queries",
    "n_bits": "the number of signs that a query is hashed to, for example 63",
    "iterations": "the number of rounds that are run, for example 6",
    "n_projected": "the number of rows that keys and values are projected to, for example 256",
    "length": "the longest sequence, in tokens, that the projections are made for",
    "share": "heads (one projection for keys, one for values) or key-value (one for both)",
    "n_landmarks": "the number of segments whose means stand for all queries and keys, for example 64",
    "lambda_init": "the first share of the second map, above 0 and below 1, for example 0.8",
    "dilation": "how many blocks apart the blocks of the window stand: 1 for no gaps",
    "stride": "the length of a run of blocks",
    "summary": "how many blocks at the end of every run all later queries see",
    "n_global": "how many of the first blocks see all and are seen by all; 0 for none",
    "n_random": "how many random blocks each block of queries sees; 0 for none",
    "q_rank": "the width of the queries' bottleneck, or null where they are projected at once",
    "kv_rank": "how many latent values of a token are kept, for example 512",
    "nope_dim": "how many values of a head's query and key are not rotated, for example 128",
    "rope_dim": "how many values of a head's query and key are rotated, for example 64",
    "value_dim": "the width of a head's value, for example 128",
    "indexer": "{n_heads, head_dim, top_k}: what chooses the keys that a query attends to",
    "top_k": "how many are chosen",
    "n_experts": "the number of experts that the router chooses from",
    "expert": "one of the experts, for example {kind: swiglu, d_ff: 2048}",
    "d_inner": "the number of channels that the state space runs over, for example 2 * d_model",
    "d_state": "how many values of state a channel has, for example 16 (mamba-1) or 128 (mamba-2)",
    "d_conv": "how many tokens the causal convolution reaches over, its own included, for example 4",
    "dt_rank": "the width of the bottleneck of the step sizes, for example d_model / 16",
    "n_groups": "the number of groups that share B and C (mamba-2), or of equal groups of experts (moe)",
    "norm_groups": "over how many equal parts of the channels the gated norm runs; 0 where there is no norm",
    "n_key_heads": "the number of query and key heads; each serves n_heads / n_key_heads value heads",
    "key_dim": "the width of a query or key head",
    "n_blocks": "how many diagonal blocks a gate's matrix has",
    "width": "the number of channels of the recurrence",
    "channels": "how many values a frame of sound has: mel bins, for example 80",
    "kernel": "how many frames a convolution reaches over, for example 3",
    "like": "the group of layers that the mtp layers are like",
    "d_ff": "the inner width of the feed-forward",
    "theta": "the base of the rotation, for example 10000",
    "n_buckets": "the number of distance buckets, for example 32",
    "max_distance": "the distance from which all share the last bucket, for example 128",
    "rows": "the number of rows of the position table as it is stored",
    "url": "the address of the page",
    "count": "the number of layers",
    "dtype": "fp32, bf16 or fp16: of all that is not packed",
}

# The same for keys that mean something else in other mappings, or have another unit there: by kind.
_OF_KIND = {
    ("sparse", "block"): "how many tokens make one block of the pattern; 1 is a pattern of single tokens",
    **{
        (kind, "window"): "how wide the window is, in blocks"
        for kind in ("sliding", "dilated", "global-window", "bigbird")
    },
    ("moe", "top_k"): "how many experts a token goes to",
    ("gqa", "chunk"): "how many positions one chunk has: a query sees those of its own that are not after it",
    ("gqa", "window"): "how many of the last tokens a query sees, its own included",
    ("fp8-blocks", "rows"): "how many rows share a scale, for example 128",
    ("fp8-blocks", "columns"): "how many columns share a scale, for example 128",
    ("fp8", "per"): "matrix or row: what has a scale of its own",
    ("gptq", "bits"): "2, 3, 4 or 8 bits a value",
    ("awq", "group"): "how many columns of a row share a scale, for example 128",
    ("int", "bits"): "4 or 8 bits a value",
}

_BY_TYPE = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping",
    "dataclass_type": "a mapping",
    "model_attributes_type": "a mapping",
    "none_required": "null",
}


def meaning(key: str, kinds: tuple[str, ...] = ()) -> str | None:
    """What `key` stands for in a mapping of one of `kinds`; None where its type says it all."""
    own = (_OF_KIND[kind, key] for kind in kinds if (kind, key) in _OF_KIND)
    return next(own, _MEANING.get(key))


def alternatives(names: tuple[str, ...] | list[str]) -> str:
    """``a``, ``a or b``, ``a, b or c``."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


def expected(error_type: str, context: dict[str, Any]) -> str:
    """The words for one pydantic error type; a sensible sentence for one that was never seen."""
    match error_type:
        case "greater_than":
            return f"a number above {context['gt']:g}"
        case "greater_than_equal":
            return f"a number of at least {context['ge']:g}"
        case "less_than_equal":
            return f"a number of at most {context['le']:g}"
        case "too_short":
            return "a list with at least one entry"
        case "string_too_short":
            return "text that is not empty"
        case "string_too_long":
            return f"at most {context['max_length']} characters"
        case "string_pattern_mismatch":
            return "lower case letters, digits, '.', '_' and '-', beginning with a letter or digit"
        case "literal_error" | "enum":
            return str(context["expected"]).replace("'", "")
        case _:
            return _BY_TYPE.get(error_type, "a value that the spec language allows here")


def value_hint(error_type: str, node: Node) -> str | None:
    """What to write instead, where a value looks like a known slip."""
    if not isinstance(node, Scalar):
        return None
    text = node.text.strip()
    if error_type == "bool_type" and text.lower() in {"yes", "on", "y"}:
        return "write true"
    if error_type == "bool_type" and text.lower() in {"no", "off", "n"}:
        return "write false"
    if error_type in {"int_type", "float_type"} and isinstance(node.value, str):
        return _number_hint(text)
    if error_type in {"int_type", "int_from_float"} and isinstance(node.value, float) and node.value.is_integer():
        return f"write {int(node.value)}"
    return None


def _number_hint(text: str) -> str | None:
    digits = text.replace(",", "").replace("_", "").replace(" ", "")
    if digits.isascii() and digits.isdigit():
        return f"write {int(digits):_} without quotes" if len(digits) < 20 else None
    scale = {"k": 10**3, "ki": 2**10, "m": 10**6, "mi": 2**20, "b": 10**9}.get(digits.lstrip("0123456789").lower())
    number = digits[: len(digits) - len(digits.lstrip("0123456789"))]
    if scale is not None and number and len(number) < 10:
        return f"write {int(number) * scale:_}"
    return None


def did_you_mean(
    word: str, known: tuple[str, ...] | list[str], elsewhere: dict[str, str] | None = None, *, cutoff: float = 0.6
) -> str | None:
    """A hint for a misspelt word, or for a name that other programs use."""
    foreign = (elsewhere or {}).get(word.lower())
    if foreign is not None:
        return foreign
    near = get_close_matches(word.lower(), known, n=1, cutoff=cutoff)
    return f"did you mean {near[0]!r}?" if near else None
