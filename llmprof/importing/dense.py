"""What the tables of dense decoders have in common: key-value heads, whole rotations, windows by layer."""

from __future__ import annotations

from collections.abc import Sequence

from llmprof.importing.account import MISSING
from llmprof.importing.config import Config, Read, inferred
from llmprof.importing.document import LEFT_OUT, Doc, Left
from llmprof.importing.parts import per_head, rope, stack
from llmprof.spec.groups import MAX_LAYERS

FULL, SLIDING = "full_attention", "sliding_attention"
"""The words of ``layer_types`` for a layer that sees all tokens before it, and for one with a window."""


def kv_heads(c: Config, heads: Read[int], *, default: int | None = None) -> Read[int]:
    """``num_key_value_heads``: null is as many as there are heads, absent is `default`, or the same without one."""
    if default is None:
        return c.size("num_key_value_heads", default=heads)
    given = c.optional_size("num_key_value_heads", default=default)
    if given.value is None:
        return inferred(heads.value, "num_key_value_heads is null: every head has keys and values of its own", heads)
    return Read(given.value, given.keys, given.note)


def stated_head_dim(c: Config, hidden: Read[int], heads: Read[int], *, default: int) -> Read[int]:
    """``head_dim`` of a class that has a number of its own where it is absent; null is hidden / heads."""
    given = c.optional_size("head_dim", default=default)
    return per_head(hidden, heads, c) if given.value is None else Read(given.value, given.keys, given.note)


def normed_after_rotation(c: Config) -> None:
    """Says that this family norms queries and keys after their rotation, where the language has it before."""
    c.remark(
        "queries and keys are normed after their rotation, before it in this file: the same kernels on the same sizes"
    )


def count_of_layers(c: Config, key: str = "num_hidden_layers", *, default: int | None = None) -> Read[int]:
    """How many layers there are, few enough to be named one by one; without a default the file must say it."""
    count = c.size(key, default=MISSING if default is None else default)
    if count.value > MAX_LAYERS:
        c.stop(key, f"at most {MAX_LAYERS:,} layers")
    return count


def whole_rope(
    c: Config, head_dim: Read[int], *, theta: float | None, layer_type: str | None = None, theta_key: str = "rope_theta"
) -> Doc:
    """The rotation of a class that rotates whole heads, whatever ``partial_rotary_factor`` says: another is refused."""
    inner = c.below("rope_parameters")
    found = [c, inner, c.below("rope_scaling")]
    if layer_type is not None and inner.has(layer_type):
        found.append(inner.below(layer_type))
    for one in found:
        one.must("partial_rotary_factor", None, 1, why="the class of this family rotates whole heads")
    return rope(c, head_dim, theta=theta, layer_type=layer_type, theta_key=theta_key)


def one_window(c: Config, context: Read[int], *, default: int | None) -> Read[int] | Read[Left]:
    """``sliding_window`` of a class whose layers all have it; one that no context exceeds is left out."""
    given = c.optional_size("sliding_window", "sliding_window_size", default=default)
    c.leave_out("attention_sink_size", "a runtime may keep so many first tokens beside the window; the model does not")
    if given.value is None:
        return Read(LEFT_OUT, given.keys, given.note)
    if given.value >= context.value:
        c.remark(
            f"sliding_window = {given.value} is left out: a context of at most {context.value} tokens never exceeds it"
        )
        return Read(LEFT_OUT, given.keys)
    return Read(given.value, given.keys, given.note)


def layer_kinds(c: Config, count: Read[int], *, default: Sequence[str], why: str) -> Read[tuple[str, ...]]:
    """``layer_types``, one word for each layer; where there are none, `default`, which `why` explains."""
    kinds = c.words("layer_types", of=(FULL, SLIDING), default=inferred(tuple(default), why))
    if len(kinds.value) != count.value:
        c.stop("layer_types", f"{count.value} words, one for each layer")
    return kinds


def interval(c: Config, *keys: str, default: int, listed: str = "layer_types") -> int:
    """Every how many layers one is unlike the others; not read where `listed` says it of each layer."""
    if c.has(listed):
        c.ignore(*keys)
        return default
    return c.size(*keys, default=default).value


def every(count: Read[int], step: int, *, others: str = SLIDING, last: str = FULL) -> list[str]:
    """`last` at each `step`-th layer, counted from 1, and `others` between them."""
    return [others if (i + 1) % step else last for i in range(count.value)]


def by_window(
    c: Config,
    count: Read[int],
    kinds: Read[tuple[str, ...]],
    window: Read[int] | Read[None],
    common: Doc,
    *,
    local: Doc | None = None,
    everywhere: Doc | None = None,
) -> Doc:
    """A stack of `common` layers, of which those of `SLIDING` have the window.

    `local` and `everywhere` are what the layers with a window and those without have besides.
    """
    if SLIDING in kinds.value and window.value is None:
        c.stop("sliding_window", f"a window, for the layers of {SLIDING}")
    groups = {
        "local": {"attention": {"window": window}, **(local or {})},
        "global": everywhere or {},
    }
    return by_group(count, kinds, ["local" if kind == SLIDING else "global" for kind in kinds.value], groups, common)


def by_group(
    count: Read[int], kinds: Read[tuple[str, ...]], names: Sequence[str], groups: dict[str, Doc], common: Doc
) -> Doc:
    """A stack whose layer i is of the group `names[i]`, for which `kinds` is cited; attentions merge key by key."""
    if len(set(names)) == 1:  # written without a group, so what the group says goes into what is common
        group = groups[names[0]]
        attention = {**common["attention"], **group.get("attention", {})}
        return stack(count, names, {names[0]: {}}, {**common, **group, "attention": attention})
    made = stack(count, names, groups, common)
    if "pattern" in made:
        made["pattern"] = Read(made["pattern"], kinds.keys, kinds.note)
    return made


def clip(c: Config, key: str = "clip_qkv") -> Read[float] | Read[Left]:
    """At what queries, keys and values are cut, or nothing written where the field is null or absent."""
    return c.number(key) if c.has(key) else Read(LEFT_OUT, (key,))


def optional_scale(factor: Read[float]) -> Read[float] | Read[Left]:
    """A factor, or nothing written where it is 1."""
    return factor if factor.value != 1.0 else Read(LEFT_OUT, factor.keys)


def scaled_embedding(factor: Read[float]) -> Doc | Left:
    """Token embeddings that are multiplied by a factor, or nothing written where it is 1."""
    return {"scale": factor} if factor.value != 1.0 else LEFT_OUT


RUNTIME = frozenset(
    {
        "_attn_implementation_internal",
        "_experts_implementation",
        "_flash_attn_2_enabled",
        "cache_implementation",
        "context_window_size",
        "low_cpu_mem_usage",
        "max_batch_size",
        "model_max_length",
        "prefill_chunk_size",
        "pretraining_tp",
        "selective_checkpoint_enabled",
        "sequence_parallel_enabled",
        "tensor_parallel_shards",
        "transformers.js_config",
        "trust_remote_code",
        "use_flash_attn",
        "use_flash_attention",
        "use_flash_attention_2",
        "use_return_dict",
    }
)
"""Fields of configs that say how a library is to run a model (transformers, MLC, NxD), which no modeling file reads."""
