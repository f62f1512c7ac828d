"""What known errors amount to, worked out from a spec and a pass. known.py says where each was read.

Symbols: B batch, T new tokens, S context, C convolved channels, D d_model, V vocabulary, E experts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from llmprof.engines.hf import hf_cache
from llmprof.errors import InputError
from llmprof.predict.api import predict
from llmprof.spec.arch import (
    ArchSpec,
    GatedDeltaNet,
    Glu,
    Gqa,
    LayerSpec,
    Mamba1,
    Mamba2,
    Mixer,
    Mla,
    Moe,
    RgLru,
    Rwkv4,
    ShortConv,
)
from llmprof.workload import Execution, Workload

_BF16_BYTES = 2
_UNFUSED = Execution(attention="unfused")


def output_matrix(arch: ArchSpec) -> int:
    """Parameters of an output matrix of its own: V D, or 0 where there is none."""
    return 0 if arch.tied_embeddings or arch.head.kind == "none" else arch.vocab_size * arch.d_model


def expanded_beyond_absorbed(arch: ArchSpec, workload: Workload) -> int:
    """FLOPs by which reading latents expanded costs more; 0 in a fresh prompt, where there are none to read."""
    if not any(isinstance(layer.attention, Mla) for stack in arch.stacks for layer in stack.layers):
        return 0
    absorbed = predict(arch, replace(workload, latent="absorbed"), _UNFUSED)
    expanded = predict(_unchosen(arch, workload.context), replace(workload, latent="expanded"), _UNFUSED)
    return expanded.cost.matmul_flops - absorbed.cost.matmul_flops


def _unchosen(arch: ArchSpec, context: int) -> ArchSpec:
    """`arch` with indexers that choose all of `context`: so much is computed where choosing is done by a mask."""

    def of(layer: LayerSpec) -> LayerSpec:
        if not isinstance(layer.attention, Mla) or layer.attention.indexer is None:
            return layer
        indexer = replace(layer.attention.indexer, top_k=max(context, layer.attention.indexer.top_k))
        return replace(layer, attention=replace(layer.attention, indexer=indexer))

    stacks = (replace(stack, layers=tuple(of(layer) for layer in stack.layers)) for stack in arch.stacks)
    return replace(arch, stacks=tuple(stacks))


def broadcast_cache(arch: ArchSpec, workload: Workload) -> int:
    """Bytes of the copies of keys and values for the query heads that share them."""
    values = sum(2 * (heads.n_heads - heads.n_kv_heads) * heads.head_dim for heads in _attentions(arch))
    return _BF16_BYTES * workload.batch * workload.context * values


def idle_experts(arch: ArchSpec, workload: Workload) -> int:
    """FLOPs of the experts that a token is not sent to."""
    tokens = workload.batch * workload.new_tokens
    total = 0
    for layer in arch.main.layers:
        if isinstance(layer.ffn, Moe):
            expert, width = layer.ffn.expert, layer.ffn.latent or arch.d_model
            matrices = 3 if isinstance(expert, Glu) else 2
            total += 2 * tokens * (layer.ffn.n_experts - layer.ffn.top_k) * matrices * width * expert.d_ff
    return total


def rows_behind_windows(arch: ArchSpec, workload: Workload) -> int:
    """Bytes of keys and values of tokens that no later query sees."""
    return sum(
        2 * _BF16_BYTES * workload.batch * max(0, workload.context - window) * heads.n_kv_heads * heads.head_dim
        for heads in _attentions(arch)
        if (window := heads.window) is not None
    )


def pairs_behind_windows(arch: ArchSpec, workload: Workload) -> int:
    """FLOPs of scores and values of the tokens behind the window of a step; a prompt is a full square anyway."""
    if workload.phase != "decode":
        return 0
    return sum(
        4 * workload.batch * max(0, workload.context - window) * heads.n_heads * heads.head_dim
        for heads in _attentions(arch)
        if (window := heads.window) is not None
    )


def pairs_of_earlier_chunks(arch: ArchSpec, workload: Workload) -> int:
    """FLOPs of scores and values of tokens of the chunk before, as many as a window of the chunk's length reaches."""
    if workload.phase != "decode":
        return 0
    return sum(
        4
        * workload.batch
        * (min(workload.context, chunk) - ((workload.context - 1) % chunk + 1))
        * heads.n_heads
        * heads.head_dim
        for heads in _attentions(arch)
        if (chunk := heads.chunk) is not None
    )


def _attentions(arch: ArchSpec) -> Iterator[Gqa]:
    """The attention over its own tokens of every layer of the main stack that has one."""
    return (layer.attention for layer in arch.main.layers if isinstance(layer.attention, Gqa))


def engine_kv(arch: ArchSpec, workload: Workload) -> int:
    """Bytes that transformers' cache keeps beyond the rows needed (llmprof/engines/hf.py); 0 where it keeps none."""
    try:
        return sum(each.nbytes for each in hf_cache(arch, workload).kv_differences)
    except InputError:  # a kind that no class of transformers has
        return 0


def engine_states(arch: ArchSpec, workload: Workload) -> int:
    """The same of states of constant size."""
    try:
        return sum(each.nbytes for each in hf_cache(arch, workload).state_differences)
    except InputError:
        return 0


def padded_convolution(arch: ArchSpec, workload: Workload) -> int:
    """FLOPs of convolved positions whose results are dropped: d_conv - 1 of a prompt, one of a step."""
    total = 0
    for mixer in _mixers(arch):
        channels = _convolved(mixer, arch.d_model)
        if channels and not isinstance(mixer, Rwkv4):
            positions = 1 if workload.phase == "decode" else mixer.d_conv - 1
            total += 2 * workload.batch * channels * mixer.d_conv * positions
    return total


def _convolved(mixer: Mixer, d_model: int) -> int:
    """Channels of a mixer's convolution."""
    match mixer:
        case Mamba1():
            return mixer.d_inner
        case Mamba2():
            return mixer.d_inner + 2 * mixer.n_groups * mixer.d_state
        case GatedDeltaNet():
            return 2 * mixer.n_key_heads * mixer.key_dim + mixer.n_heads * mixer.value_dim
        case ShortConv():
            return d_model
        case RgLru():
            return mixer.width
        case Rwkv4():
            return 0


def step_convolution(arch: ArchSpec, workload: Workload) -> int:
    """FLOPs of the convolutions of a step; 0 in a prompt."""
    if workload.phase != "decode":
        return 0
    pairs = ((mixer, _convolved(mixer, arch.d_model)) for mixer in _mixers(arch))
    return sum(
        2 * workload.batch * channels * mixer.d_conv for mixer, channels in pairs if not isinstance(mixer, Rwkv4)
    )


def uncounted_steps(arch: ArchSpec, workload: Workload) -> int:
    """FLOPs of a delta rule's step: the state read by the key, its correction, the state read by the query."""
    if workload.phase != "decode":
        return 0
    return sum(
        3 * 2 * workload.batch * mixer.n_heads * mixer.key_dim * mixer.value_dim
        for mixer in _mixers(arch)
        if isinstance(mixer, GatedDeltaNet)
    )


def batch_by_batch(arch: ArchSpec, workload: Workload) -> int:
    """FLOPs of a step over B x B rows, less those of B rows."""
    if workload.phase != "decode":
        return 0
    return (workload.batch - 1) * predict(arch, workload, _UNFUSED).cost.matmul_flops


def chunk_scan(arch: ArchSpec, workload: Workload) -> int:
    """FLOPs of a prompt's products per head in place of per group, and of the product that hands states on."""
    if workload.phase == "decode":
        return 0
    total = 0
    for mixer in _mixers(arch):
        if isinstance(mixer, Mamba2):
            chunks = -(-workload.new_tokens // mixer.chunk)
            repeated = chunks * mixer.chunk**2 * mixer.d_state * (mixer.n_heads - mixer.n_groups)
            handed_on = mixer.n_heads * (chunks + 1) ** 2 * mixer.head_dim * mixer.d_state
            total += 2 * workload.batch * (repeated + handed_on)
    return total


def _mixers(arch: ArchSpec) -> Iterator[Mixer]:
    """The recurrent mixers of all layers, those beside an attention too."""
    for layer in arch.main.layers:
        for mixer in (layer.attention, layer.mixer):
            if isinstance(mixer, Mixer):
                yield mixer
