"""What the families of multi-head attention and two-matrix feed-forwards have in common, and the heads of encoders.

The class names that a config lists under ``architectures`` are transformers' own: they say which head stands on the
stack, where a family has several.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from llmprof.importing.config import Config, Read, inferred
from llmprof.importing.document import LEFT_OUT, Doc
from llmprof.importing.parts import stack
from llmprof.spec.groups import MAX_LAYERS

OTHER_HEAD = re.compile(
    r".*For(?:\w*Classification|\w*QuestionAnswering|MultipleChoice|NextSentencePrediction|\w*Regression)|"
    r".*(?:DoubleHeads|WithValueHead)\w*"
)
"""Classes whose head is no matrix over the vocabulary."""

Flag = Read[bool] | bool


def multi_head(heads: Read[int], head_dim: Read[int], *, bias: Flag, out_bias: Flag | None = None, **more: Any) -> Doc:
    """Attention of as many heads of keys as of queries; `out_bias` is `bias` where nothing else is said."""
    out = bias if out_bias is None else out_bias
    return {
        "kind": "gqa",
        "n_heads": heads,
        "n_kv_heads": heads,
        "head_dim": head_dim,
        "qkv_bias": bias,
        "out_bias": out,
        **more,
    }


def four_times(hidden: Read[int]) -> Read[int]:
    """The width of a feed-forward that nothing states."""
    return inferred(4 * hidden.value, f"not stated, so 4 x {hidden.value}, as the family has it", hidden)


def root(hidden: Read[int], scaled: Read[bool]) -> Read[Any]:
    """What token embeddings are multiplied by: sqrt(d_model) where `scaled`, else nothing is written."""
    if not scaled.value:
        return Read(LEFT_OUT, scaled.keys)
    return inferred(hidden.value**0.5, f"the square root of {hidden.value}", scaled, hidden)


def layer_count(c: Config, *keys: str, default: int) -> Read[int]:
    """A number of layers that a table makes a list of: bounded as the spec language bounds it."""
    count = c.size(*keys, default=default)
    if count.value > MAX_LAYERS:
        c.stop(keys[0], f"at most {MAX_LAYERS:,} layers")
    return count


def unequal(count: Read[int], names: Sequence[str], groups: Mapping[str, Doc], common: Doc) -> Doc:
    """A stack whose layer i is like the group `names[i]`, of which each says only what it has beside `common`."""
    used = set(names)
    if len(used) == 1:
        return {"count": count, **_over(common, groups[names[0]])}
    return stack(count, names, groups, common)


def _over(common: Doc, own: Doc) -> Doc:
    """What a group comes to: its mappings over those of the stack, key by key, as the spec language merges them."""
    both = {key: _over(common[key], item) for key, item in own.items() if isinstance(common.get(key), dict)}
    return {**common, **own, **both}


def off(c: Config, *keys: str, why: str) -> None:
    """Fields that this family understands as ``false`` or ``null`` alone; `why` says what another value would mean."""
    for key in keys:
        c.must(key, False, None, why=why)


def on(c: Config, *keys: str, why: str) -> None:
    """Fields that this family understands as ``true`` alone; `why` says what another value would mean."""
    for key in keys:
        c.must(key, True, None, why=why)


def built_as(c: Config) -> str | None:
    """The class that the config says it is of, None where it says nothing; one with another head stops the import."""
    said = c.raw("architectures")
    if said is None or said == []:
        return None
    if not isinstance(said, Sequence) or not all(isinstance(name, str) for name in said) or isinstance(said, str):
        c.stop("architectures", "a list of names of classes")
    name = str(said[0])
    if OTHER_HEAD.fullmatch(name):
        c.stop(
            "architectures",
            "a model with a matrix over the vocabulary, or without a head: the spec language has no head of this "
            "kind. To count what stands below the head, write the class of the bare model here",
        )
    return name


def encoder_head(
    c: Config, family: str, *, norm: Doc, activation: Read[str], pooler: bool, dense_bias: Flag = True
) -> Doc:
    """``head`` and ``pooler`` of an encoder whose classes are called `family` + ForMaskedLM and `family` + Model.

    `activation` is the kind that stands between the matrices of the masked-LM head, which is exact GELU in the spec
    language. `pooler` says whether the bare model has one.
    """
    name = built_as(c)
    if name is None:
        c.remark(
            "architectures is not in the file: counted with the masked-language-model head, without the pooler"
            if pooler
            else "architectures is not in the file: counted with the masked-language-model head"
        )
    elif name == f"{family}Model":
        return {"head": {"kind": "none"}, "pooler": pooler}
    elif name != f"{family}ForMaskedLM":
        c.stop("architectures", f"{family}ForMaskedLM or {family}Model: the spec language has no other head of these")
    if activation.value != "gelu":
        c.refuse(
            activation.keys[0] if activation.keys else "architectures",
            "gelu: between the matrices of a masked-language-model head the spec language knows no other",
        )
    return {"head": {"kind": "mlm", "dense_bias": dense_bias, "norm": norm}}
