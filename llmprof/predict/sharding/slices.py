"""The architecture of one tensor-parallel rank: its heads, its columns, its rows of the vocabulary.

docs/reference-sharding.md, section 3. A rank's matrices and caches are those of a smaller model, so that one mechanism
gives its parameters, its bytes and its pass. What every rank has whole (norms, positions, biases behind a row-parallel
matrix) does not depend on these sizes.
"""

from __future__ import annotations

from dataclasses import replace

from llmprof.spec.arch import ArchSpec, Attention, Ffn, Glu, Gqa, LayerSpec, Mlp, NoAttention, NoFfn


def arch_of_rank(arch: ArchSpec, ranks: int) -> ArchSpec:
    """What one of `ranks` has of `arch`, one that `check_sharding` has accepted. Equal layers stay the same object."""
    if ranks == 1:
        return arch
    made: dict[LayerSpec, LayerSpec] = {}
    known: dict[int, LayerSpec] = {}  # by identity, because hashing a layer costs more than finding it
    for layer in arch.main.layers:
        if id(layer) not in known:
            if layer not in made:
                made[layer] = _layer_of_rank(layer, ranks)
            known[id(layer)] = made[layer]
    layers = tuple(known[id(layer)] for layer in arch.main.layers)
    vocabulary = -(-arch.vocab_size // ranks)
    return replace(arch, vocab_size=vocabulary, stacks=(replace(arch.main, layers=layers),))


def kv_heads_of_rank(n_kv_heads: int, ranks: int) -> int:
    """Kn: the key/value heads on each of `ranks`, of which one number divides the other; few ones are replicated."""
    assert n_kv_heads % ranks == 0 or ranks % n_kv_heads == 0, (n_kv_heads, ranks)
    return max(n_kv_heads, ranks) // ranks


def _layer_of_rank(layer: LayerSpec, ranks: int) -> LayerSpec:
    return replace(layer, attention=_attention(layer.attention, ranks), ffn=_ffn(layer.ffn, ranks))


def _attention(spec: Attention, ranks: int) -> Attention:
    match spec:
        case Gqa():
            assert spec.n_heads % ranks == 0, (spec.n_heads, ranks)
            kept = kv_heads_of_rank(spec.n_kv_heads, ranks)
            return replace(spec, n_heads=spec.n_heads // ranks, n_kv_heads=kept)
        case NoAttention():
            return spec
        case other:
            raise AssertionError(f"attention of kind {other.kind} is not divided")


def _ffn(spec: Ffn, ranks: int) -> Ffn:
    match spec:
        case Mlp() | Glu():
            assert spec.d_ff % ranks == 0, (spec.d_ff, ranks)
            return replace(spec, d_ff=spec.d_ff // ranks)
        case NoFfn():
            return spec
        case other:
            raise AssertionError(f"a feed-forward of kind {other.kind} is not divided")
