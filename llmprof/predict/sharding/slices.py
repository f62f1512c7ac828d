"""The architecture of one tensor-parallel rank: its heads, its columns, its rows of the vocabulary.

docs/reference-sharding.md, section 3. A rank's matrices and caches are those of a smaller model, so that one mechanism
gives its parameters, its bytes and its pass. What every rank has whole (norms, positions, biases behind a row-parallel
matrix) does not depend on these sizes.
"""

from __future__ import annotations

from dataclasses import replace

from llmprof.predict.formats import EXPERTS
from llmprof.predict.leaf import Leaves, Parameter
from llmprof.sharding import Sharding
from llmprof.spec.arch import (
    ArchSpec,
    Attention,
    Ffn,
    GatedDeltaNet,
    Glu,
    Gqa,
    LayerSpec,
    Mamba2,
    Mla,
    Mlp,
    Moe,
    NoAttention,
    NoFfn,
)


def arch_of_rank(arch: ArchSpec, sharding: Sharding) -> ArchSpec:
    """What a rank has of `arch`, one that `check_sharding` has accepted. Equal layers stay the same object.

    The number of experts stays that of the model, because the router does: `leaves_of_rank` has those of a rank.
    """
    ranks = sharding.tensor_parallel
    if ranks == 1:
        return arch
    made: dict[LayerSpec, LayerSpec] = {}
    known: dict[int, LayerSpec] = {}  # by identity, because hashing a layer costs more than finding it
    for layer in arch.main.layers:
        if id(layer) not in known:
            if layer not in made:
                made[layer] = _layer_of_rank(layer, sharding)
            known[id(layer)] = made[layer]
    layers = tuple(known[id(layer)] for layer in arch.main.layers)
    vocabulary = -(-arch.vocab_size // ranks)
    return replace(arch, vocab_size=vocabulary, stacks=(replace(arch.main, layers=layers),))


def leaves_of_rank(leaves: Leaves, sharding: Sharding) -> Leaves:
    """The leaves of a layer with the experts that a rank has of them."""
    blocks = sharding.expert_parallel
    if blocks == 1:
        return leaves
    return {path: tuple(_of_block(each, blocks) for each in inside) for path, inside in leaves.items()}


def kv_heads_of_rank(n_kv_heads: int, ranks: int) -> int:
    """Kn: the key/value heads on each of `ranks`, of which one number divides the other; few ones are replicated."""
    assert n_kv_heads % ranks == 0 or ranks % n_kv_heads == 0, (n_kv_heads, ranks)
    return max(n_kv_heads, ranks) // ranks


def _layer_of_rank(layer: LayerSpec, sharding: Sharding) -> LayerSpec:
    attention = _attention(layer.attention, sharding.tensor_parallel)
    return replace(layer, attention=attention, ffn=_ffn(layer.ffn, sharding))


def _attention(spec: Attention, ranks: int) -> Attention:
    match spec:
        case Gqa():
            kept = kv_heads_of_rank(spec.n_kv_heads, ranks)
            return replace(spec, n_heads=_part(spec.n_heads, ranks), n_kv_heads=kept)
        case Mla():
            return replace(spec, n_heads=_part(spec.n_heads, ranks))
        case GatedDeltaNet():
            return replace(spec, n_heads=_part(spec.n_heads, ranks), n_key_heads=_part(spec.n_key_heads, ranks))
        case Mamba2():
            return replace(
                spec,
                n_heads=_part(spec.n_heads, ranks),
                n_groups=_part(spec.n_groups, ranks),
                norm_groups=_part(spec.norm_groups, ranks),
            )
        case NoAttention():
            return spec
        case other:
            raise AssertionError(f"attention of kind {other.kind} is not divided")


def _ffn(spec: Ffn, sharding: Sharding) -> Ffn:
    ranks = sharding.tensor_parallel
    match spec:
        case Mlp() | Glu():
            return replace(spec, d_ff=_part(spec.d_ff, ranks))
        case Moe() if sharding.sends_tokens:
            return spec
        case Moe():
            expert = replace(spec.expert, d_ff=_part(spec.expert.d_ff, ranks // sharding.expert_parallel))
            shared = None if spec.shared is None else replace(spec.shared, d_ff=_part(spec.shared.d_ff, ranks))
            return replace(spec, expert=expert, shared=shared)
        case NoFfn():
            return spec
        case other:
            raise AssertionError(f"a feed-forward of kind {other.kind} is not divided")


def _of_block(parameter: Parameter, blocks: int) -> Parameter:
    """A parameter of all experts as one of so many blocks has it; any other as it is."""
    if parameter.chosen is None:
        return parameter
    return replace(parameter, axes={**parameter.axes, EXPERTS: _part(parameter.axes[EXPERTS], blocks)})


def _part(size: int, ranks: int) -> int:
    assert size % ranks == 0, (size, ranks)
    return size // ranks
