"""The leaves of the call tree and the parameters that stand in each (reference-execution.md, section 5).

Counts of parameters, weight bytes and the contractions of the lowerings all come from here; the leaves below an
attention come from its lowering. Axis legend: see `tensor.py`; a matrix is [outputs, inputs].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import assert_never

from llmprof.predict.audio import front_leaves
from llmprof.predict.ffn import expert_leaves
from llmprof.predict.leaf import Leaves, Parameter, matrix, norm
from llmprof.predict.lowering import lowering, mixers
from llmprof.predict.tensor import Axes
from llmprof.spec.arch import (
    ArchSpec,
    ChannelMix,
    Ffn,
    Glu,
    Gqa,
    LayerSpec,
    Learned,
    LmHead,
    MlmHead,
    Mlp,
    Moe,
    NoAttention,
    NoFfn,
    NoHead,
    NoPosition,
    Sinusoidal,
    Stack,
)


def ffn_leaves(spec: Ffn, d: int) -> Leaves:
    """The leaves below `ffn`."""
    match spec:
        case Mlp() | Glu():
            return expert_leaves(spec, d)
        case Moe():
            from llmprof.predict.experts import moe_leaves

            return moe_leaves(spec, d)
        case NoFfn():
            return {}
        case ChannelMix():
            from llmprof.predict.channel_mix import channel_mix_leaves

            return channel_mix_leaves(spec, d)
    assert_never(spec)


def layer_leaves(layer: LayerSpec, d: int, *, cached: bool, dropout: bool = False) -> Leaves:
    """Every leaf of one layer, by its path below the layer, in the order of the call tree.

    `dropout`: those too that drop values in training.
    """

    def below(prefix: str, leaves: Leaves) -> Leaves:
        return {f"{prefix}.{path}": parameters for path, parameters in leaves.items()}

    a_norm = norm(layer.norm, "d", d)
    attn, ffn = Leaves(), below("ffn", ffn_leaves(layer.ffn, d))
    for path, made in mixers(layer).items():
        attn.update(below(path, made.leaves(d, layer.position, cached=cached)))
    if layer.block == "parallel":
        norms: Leaves = (
            {"attn_norm": a_norm, "ffn_norm": a_norm} if layer.parallel_norms == 2 else {"attn_norm": a_norm}
        )
        dropped: tuple[Leaves, Leaves] = ({"attn_dropout": ()}, {"ffn_dropout": ()}) if dropout else ({}, {})
        return {**norms, **attn, **dropped[0], **ffn, **dropped[1], "residual": ()}

    leaves: Leaves = {}
    blocks = [] if isinstance(layer.attention, NoAttention) else [("attn", attn)]
    if layer.cross_attention is not None:
        cross = lowering(layer.cross_attention).leaves(d, NoPosition(), cached=True)
        blocks.append(("cross", below("cross_attn", cross)))
    if not isinstance(layer.ffn, NoFfn):
        blocks.append(("ffn", ffn))
    for name, inside in blocks:
        if norm_before(layer, name) or layer.placement == "post":
            leaves[f"{name}_norm"] = a_norm
        leaves.update(inside)
        if norm_on_output(layer):
            leaves[f"{name}_post_norm"] = a_norm
        if dropout:
            leaves[f"{name}_dropout"] = ()
        leaves[f"{name}_residual"] = ()
    return leaves


def norm_before(layer: LayerSpec, name: str) -> bool:
    """Whether a norm stands between the layer's input and the serial block `name`: ``attn``, ``cross`` or ``ffn``."""
    return layer.placement in ("pre", "sandwich") and (name != "attn" or layer.first_norm)


def norm_on_output(layer: LayerSpec) -> bool:
    """Whether a norm stands between a serial block and its residual."""
    return layer.placement in ("sandwich", "reordered")


def opening_leaves(arch: ArchSpec, stack: Stack, *, dropout: bool = False) -> Leaves:
    """What stands between the token embedding and the first layer of `stack`, by full path."""
    d, prefix = arch.d_model, stack.prefix
    leaves: Leaves = {}
    if stack.front is not None:
        leaves.update(front_leaves(stack, stack.front, d))
    elif arch.embedding_scale is not None:
        leaves[f"{prefix}embed_scale"] = ()
    if arch.type_vocab_size and stack.front is None:
        leaves[f"{prefix}type_embed"] = (Parameter("weight", {"types": arch.type_vocab_size, "d": d}, embedding=True),)
    match stack.embedded_position:
        case Learned(rows=rows) | Sinusoidal(stored_rows=int(rows)):
            leaves[f"{prefix}pos_embed"] = (Parameter("weight", {"positions": rows, "d": d}, embedding=True),)
        case Sinusoidal():
            leaves[f"{prefix}pos_embed"] = ()
        case None:
            pass
        case other:
            assert_never(other)
    if stack.embedding_norm is not None:
        leaves[f"{prefix}embed_norm"] = norm(stack.embedding_norm, "d", d)
    if dropout:
        leaves[f"{prefix}embed_dropout"] = ()
    if stack.relative_bias is not None:
        buckets = {"buckets": stack.relative_bias.n_buckets, "n": biased_attention(stack).n_heads}
        leaves[f"{prefix}rel_bias"] = (Parameter("weight", buckets),)
    return leaves


def biased_attention(stack: Stack) -> Gqa:
    """The attention that a stack's T5 table serves: that of the first layer that uses it."""
    attention = next(layer.attention for layer in stack.layers if layer.position is stack.relative_bias)
    assert isinstance(attention, Gqa), attention
    return attention


def closing_leaves(arch: ArchSpec) -> Leaves:
    """What stands after the last stack: pooler and head."""
    d, v = arch.d_model, arch.vocab_size
    leaves: Leaves = {}

    def square(*, bias: bool) -> tuple[Parameter, ...]:
        return matrix("d_out", d, "d", d, bias=bias, packable=False)

    if arch.pooler:
        leaves["pooler"] = square(bias=True)
    match arch.head:
        case MlmHead():
            leaves["head.dense"] = square(bias=arch.head.dense_bias)
            leaves["head.act"] = ()
            leaves["head.norm"] = norm(arch.head.norm, "d", d)
            bias = True
        case LmHead():
            bias = arch.head.bias
        case NoHead():
            return leaves
        case other:
            assert_never(other)
    owned = not arch.tied_embeddings
    if arch.embedding_width is not None:
        leaves["head.proj"] = matrix("embedded", arch.embedding_width, "d", d, bias=False)
    output = Parameter("weight", {"v": v, **_table_row(arch)}, embedding=True, owned=owned)
    leaves["lm_head"] = (output, Parameter("bias", {"v": v})) if bias else (output,)
    return leaves


def embedding_leaves(arch: ArchSpec) -> Leaves:
    """The token table, which the two sides of an encoder-decoder share, and what takes a width of its own to d."""
    leaves: Leaves = {"embed": (Parameter("weight", {"v": arch.vocab_size, **_table_row(arch)}, embedding=True),)}
    if arch.embedding_width is not None:
        leaves["embed_proj"] = matrix("d", arch.d_model, "embedded", arch.embedding_width, bias=False)
    return leaves


def _table_row(arch: ArchSpec) -> Axes:
    """A row of the token table, and of the output matrix beside it: of d_model, or of a width of its own."""
    return {"d": arch.d_model} if arch.embedding_width is None else {"embedded": arch.embedding_width}


def grouped(stack: Stack) -> Mapping[LayerSpec, Sequence[int]]:
    """The distinct layers of a stack and the indices at which each stands, in the order of first appearance."""
    groups: dict[LayerSpec, list[int]] = {}
    known: dict[int, list[int]] = {}  # by identity, because hashing a layer costs more than lowering an op
    for index, layer in enumerate(stack.layers):
        indices = known.get(id(layer))
        if indices is None:
            indices = known[id(layer)] = groups.setdefault(layer, [])
        indices.append(index)
    return groups


def model_leaves(arch: ArchSpec, *, dropout: bool = False) -> Leaves:
    """Every leaf of the model at full depth, by full path, in the order of the call tree."""
    leaves = embedding_leaves(arch)
    for stack in arch.stacks:
        leaves.update(opening_leaves(arch, stack, dropout=dropout))
        cached = stack.mask != "bidirectional"
        inside = {layer: layer_leaves(layer, arch.d_model, cached=cached, dropout=dropout) for layer in grouped(stack)}
        for index, layer in enumerate(stack.layers):
            for path, parameters in inside[layer].items():
                leaves[f"{stack.prefix}layers.{index}.{path}"] = parameters
        if stack.final_norm is not None:
            leaves[f"{stack.prefix}final_norm"] = norm(stack.final_norm, "d", arch.d_model)
    leaves.update(closing_leaves(arch))
    return leaves
