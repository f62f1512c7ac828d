"""What many families' tables have in common: stacks of unequal layers, rotations, activations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from llmprof.importing.config import Config, Read, inferred
from llmprof.importing.document import LEFT_OUT, Doc, Left

MLPS: Mapping[str, str] = {
    "relu": "relu",
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu-tanh",
    "gelu_fast": "gelu-tanh",
    "gelu_pytorch_tanh": "gelu-tanh",
    "silu": "swish",
    "swish": "swish",
    "relu2": "relu2",
}
"""An activation between two matrices -> the kind of feed-forward. Names are those of transformers' `ACT2FN`."""

GLUS: Mapping[str, str] = {
    "sigmoid": "glu",
    "relu": "reglu",
    "gelu": "geglu",
    "gelu_python": "geglu",
    "gelu_new": "geglu-tanh",
    "gelu_fast": "geglu-tanh",
    "gelu_pytorch_tanh": "geglu-tanh",
    "silu": "swiglu",
    "swish": "swiglu",
}
"""The activation of a gate -> the kind of feed-forward of three matrices."""


def stack(count: Read[int], names: Sequence[str], groups: Mapping[str, Doc], common: Doc) -> Doc:
    """A stack of `count` layers, layer i like the group `names[i]`; `common` is what all groups have.

    One group that all layers are like is written without a name, groups that follow each other with their counts,
    and all else as the shortest cycle of names.
    """
    assert len(names) == count.value, "one name for each layer"
    used = list(dict.fromkeys(names))
    if len(used) == 1:
        return {"count": count, **common, **groups[used[0]]}
    runs = [name for i, name in enumerate(names) if i == 0 or names[i - 1] != name]
    if len(runs) == len(used):
        times = Counter(names)
        own = {name: {"count": Read(times[name], count.keys, count.note), **groups[name]} for name in used}
        return {**common, **own}
    return {"count": count, "pattern": _cycle(names), **common, **{name: groups[name] for name in used}}


def _cycle(names: Sequence[str]) -> list[str]:
    """The shortest list that, repeated and cut, is `names`; as many steps as there are names.

    `border[i]` is how many of the first i + 1 names are both their start and their end, as in Knuth, Morris and Pratt's
    search (SIAM J. Comput. 6(2), 1977, recalled); the names begin again after what is not in the whole's.
    """
    border = [0] * len(names)
    for i in range(1, len(names)):
        k = border[i - 1]
        while k and names[i] != names[k]:
            k = border[k - 1]
        border[i] = k + (names[i] == names[k])
    return list(names[: len(names) - border[-1]])


def per_head(hidden: Read[int], heads: Read[int], c: Config, *keys: str) -> Read[int]:
    """`head_dim`: the field where it is there, else hidden / heads, which must be whole."""
    whole = inferred(
        hidden.value // heads.value if heads.value else 1,
        f"not stated, so {hidden.value} values over {heads.value} heads, as the family has it",
        hidden,
        heads,
    )
    if keys and c.has_any(*keys):
        return c.size(*keys, default=whole)
    if heads.value and hidden.value % heads.value:
        at = (heads.keys or hidden.keys or ("hidden_size",))[0].rpartition(".")[2]
        c.wrong(at, f"a divisor of {hidden.value:,}")
    return whole


def rope(
    c: Config,
    head_dim: Read[int],
    *,
    theta: float | None,
    partial: float = 1.0,
    layer_type: str | None = None,
    theta_key: str = "rope_theta",
    round_to: int = 2,
) -> Doc:
    """The rotation: ``rope_theta``, ``partial_rotary_factor`` and ``rope_parameters`` or ``rope_scaling``.

    `theta` and `partial` are the class's defaults (None: the file must say it), `layer_type` picks the entry of
    ``rope_parameters`` that is a table by kind of layer. A rescaled rotation changes the tables of cosines and sines,
    no size and no kernel: it is left out, with a remark. The number of rotated values is int(head_dim x factor), which
    must be a multiple of `round_to`.
    """
    inner = c.below("rope_parameters")
    if layer_type is not None and inner.has(layer_type):
        inner = inner.below(layer_type)
    scaling = c.below("rope_scaling")
    for one in (inner, scaling):
        kind = one.raw("rope_type") or one.raw("type")
        one.ignore(*one.unread().keys() - {"rope_theta", "partial_rotary_factor"})
        if kind == "mrope":
            c.remark("for text the axes of the rotation (mrope) have one index: it is a plain one")
        elif kind not in (None, "default"):
            c.remark(
                f"the rotation is rescaled for longer contexts ({kind}), which is left out: it changes the tables of "
                "cosines and sines, no size and no kernel"
            )
    where = next((one for one in (inner, scaling) if one.has("rope_theta")), c)
    key = "rope_theta" if where is not c else theta_key
    base = where.number(key, default=theta) if theta is not None else where.number(key)
    c.ignore("rope_theta")
    at = inner if inner.has("partial_rotary_factor") else scaling if scaling.has("partial_rotary_factor") else c
    # That a head is rotated whole goes without saying in a class that knows no other rotation.
    unsaid = partial == 1.0 and not at.has("partial_rotary_factor")
    factor: Read[float] = Read(1.0) if unsaid else at.number("partial_rotary_factor", default=partial)
    c.ignore("partial_rotary_factor")
    rotated = int(head_dim.value * min(factor.value, 2.0))  # a factor above 1 is refused below, however large
    if factor.value == 1.0:
        return {"kind": "rope", "theta": base}
    if rotated % round_to or not 0 < rotated <= head_dim.value:
        at.wrong("partial_rotary_factor", f"a part of {head_dim.value} values that is a multiple of {round_to}")
    return {
        "kind": "rope",
        "theta": base,
        "rotary_dim": inferred(rotated, f"{head_dim.value} values of a head x {factor.value:g}", factor, head_dim),
    }


def window(c: Config, *, default: int | None, key: str = "sliding_window") -> Read[int] | Read[Left]:
    """A window, or nothing written where the field is null."""
    found = c.optional_size(key, default=default)
    return found if isinstance(found.value, int) else Read(LEFT_OUT, found.keys, found.note)
