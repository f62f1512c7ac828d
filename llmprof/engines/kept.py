"""What each layer keeps between tokens, as the engines see it: rows that tokens add, and states of constant size.

Sizes only. What the architecture itself keeps of them is docs/reference-execution.md, section 9, and the pages beside
it; how many tokens an engine makes room for is the engine's module.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from llmprof.errors import InputError
from llmprof.predict.formats import Format, cache_format, float_format
from llmprof.spec.arch import (
    ArchSpec,
    Attention,
    ChannelMix,
    GatedDeltaNet,
    Gqa,
    LayerSpec,
    Mamba1,
    Mamba2,
    Mixer,
    Mla,
    NoAttention,
    RgLru,
    Rwkv4,
    ShortConv,
    Stack,
)
from llmprof.workload import Workload

FP32_BYTES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """What a layer keeps for a token: in each of `heads`, a row of every one of `widths`.

    `what` is ``heads`` (keys and values, which tensor parallelism shards), ``latent`` or ``index`` (one of each for all
    heads). `window` and `chunk` bound how far back a query sees. `of_source`: a row per token of the source instead.
    """

    what: Literal["heads", "latent", "index"]
    heads: int
    widths: tuple[int, ...]
    n_query_heads: int
    window: int | None = None
    chunk: int | None = None
    of_source: bool = False

    def tokens(self, workload: Workload) -> int:
        """How many tokens of a sequence the architecture itself keeps rows of."""
        if self.of_source:
            return workload.source_tokens
        return workload.context if self.reach is None else min(workload.context, self.reach)

    @property
    def reach(self) -> int | None:
        """The length of the window or chunk; None where all tokens are kept."""
        return self.window if self.window is not None else self.chunk

    def row_bytes(self, format: Format) -> int:
        """Bytes of the rows of one token, in every head."""
        return self.heads * sum(format.row_bytes(width) for width in self.widths)


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What a recurrent mixer keeps for a sequence, however long it is.

    `core` values in fp32; of a convolution its last `d_conv` - 1 inputs of `conv_channels` each; `shift` further values
    of the last token. The last two in the activations' dtype.
    """

    mixer: Mixer | ChannelMix
    core: int
    conv_channels: int
    d_conv: int
    shift: int

    def nbytes(self, dtype_bytes: int) -> int:
        """Bytes for one sequence, as the architecture keeps it: docs/reference-mixers.md, section 1."""
        return FP32_BYTES * self.core + dtype_bytes * (self.conv_channels * (self.d_conv - 1) + self.shift)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerKept:
    """All that one layer keeps. `path` names it in messages."""

    path: str
    rows: tuple[Rows, ...]
    states: tuple[State, ...]


def cached_layers(arch: ArchSpec, workload: Workload) -> tuple[LayerKept, ...]:
    """What every layer keeps, in order; nothing for an encoder.

    InputError where a layer keeps something that no engine does, or where layers that predict further tokens run.
    """
    if workload.mtp:
        raise InputError("--kv-engine does not cover layers that predict further tokens; leave --mtp out")
    return tuple(_layers(arch))


def _layers(arch: ArchSpec) -> Iterator[LayerKept]:
    for stack in arch.stacks:
        if stack.mask != "bidirectional":
            for index, layer in enumerate(stack.layers):
                yield _layer(arch, stack, index, layer)


def _layer(arch: ArchSpec, stack: Stack, index: int, layer: LayerSpec) -> LayerKept:
    path = f"{arch.label}, {stack.prefix}layers.{index}"
    rows = list(_rows(path, layer.attention))
    if layer.cross_attention is not None:
        rows.append(_keys_and_values(layer.cross_attention, of_source=True))
    mixers = (layer.attention, layer.mixer, layer.ffn)
    states = tuple(state for mixer in mixers if (state := _state(mixer, arch.d_model)) is not None)
    return LayerKept(path=path, rows=tuple(rows), states=states)


def _rows(path: str, attention: Attention) -> Iterator[Rows]:
    match attention:
        case Gqa(shared_kv=False):
            yield _keys_and_values(attention)
        case Mla(n_heads=heads, kv_rank=rank, rope_dim=rope, indexer=indexer):
            yield Rows(what="latent", heads=1, widths=(rank, rope), n_query_heads=heads)
            if indexer is not None:
                yield Rows(what="index", heads=1, widths=(indexer.head_dim,), n_query_heads=heads)
        case Gqa() | NoAttention() | Mamba1() | Mamba2() | GatedDeltaNet() | RgLru() | ShortConv() | Rwkv4():
            return
        case other:
            raise InputError(f"{path}: no engine that llmprof knows keeps what {other.kind} attention does")


def _keys_and_values(attention: Gqa, *, of_source: bool = False) -> Rows:
    return Rows(
        what="heads",
        heads=attention.n_kv_heads,
        widths=(attention.head_dim, attention.head_dim),
        n_query_heads=attention.n_heads,
        window=attention.window,
        chunk=attention.chunk,
        of_source=of_source,
    )


def _state(mixer: object, d_model: int) -> State | None:
    """The state of a mixer; None for what keeps none."""
    core = channels = shift = 0
    match mixer:
        case Mamba1(d_inner=inner, d_state=width):
            core, channels = inner * width, inner
        case Mamba2(d_inner=inner, d_state=width, n_groups=groups):
            core, channels = inner * width, inner + 2 * groups * width
        case GatedDeltaNet(n_heads=heads, n_key_heads=key_heads, key_dim=key, value_dim=value):
            core, channels = heads * key * value, 2 * key_heads * key + heads * value
        case RgLru(width=width):
            core, channels = width, width
        case ShortConv():
            channels = d_model
        case Rwkv4(width=width):
            core, shift = 3 * width, d_model
        case ChannelMix():
            shift = d_model
        case _:
            return None
    d_conv = 1 if isinstance(mixer, Rwkv4 | ChannelMix) else mixer.d_conv
    return State(mixer=mixer, core=core, conv_channels=channels, d_conv=d_conv, shift=shift)


def kv_format(workload: Workload) -> Format:
    """The format in which the architecture keeps rows."""
    return cache_format(workload.dtypes.kv_cache)


def dtype_bytes(workload: Workload) -> int:
    """Bytes of a value of the activations' dtype."""
    return float_format(workload.dtypes.activations).bits // 8


def own_kv_bytes(layers: tuple[LayerKept, ...], workload: Workload) -> int:
    """Bytes of the rows that the architecture keeps, for the whole batch."""
    format = kv_format(workload)
    each = (rows.tokens(workload) * rows.row_bytes(format) for layer in layers for rows in layer.rows)
    return workload.batch * sum(each)


def own_state_bytes(layers: tuple[LayerKept, ...], workload: Workload) -> int:
    """Bytes of the states that the architecture keeps, for the whole batch."""
    size = dtype_bytes(workload)
    return workload.batch * sum(state.nbytes(size) for layer in layers for state in layer.states)
