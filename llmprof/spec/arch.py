"""The architecture types: WHAT a model is. Frozen, slotted, keyword-only, torch-free.

A spec file (see `docs/spec-language.md`) compiles to one `ArchSpec` per variant. Patterns and
named groups are already expanded here: a stack holds one explicit `LayerSpec` per layer, and
equal layers are equal values, so either half may group them.

Axis legend used across the project: b batch, t new tokens, s context (keys), k KV heads,
g queries per KV head, h head_dim, d d_model, f d_ff, v vocabulary, r rotary_dim.

Constraints that one field can state alone (positive sizes, finite floats) are annotations and
are enforced by the loader; those that join fields live in `spec/rules.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge

from llmprof.spec.attention import (
    Attention,
    Clustered,
    Compressed,
    Differential,
    Gqa,
    Indexer,
    Linear,
    Linformer,
    Mla,
    NoAttention,
    Nystrom,
    Performer,
    Sparse,
    TalkingHeads,
)
from llmprof.spec.feed_forward import ChannelMix, Expert, Ffn, Glu, Mlp, Moe, NoFfn
from llmprof.spec.head import Head, LmHead, MlmHead, NoHead
from llmprof.spec.mixers import GatedDeltaNet, Mamba1, Mamba2, Mixer, RgLru, Rwkv4, ShortConv
from llmprof.spec.parts import (
    Alibi,
    AudioFront,
    EmbeddedPosition,
    Gaussian,
    LayerNorm,
    LayerPosition,
    Learned,
    Mask,
    NoPosition,
    Norm,
    PositiveFloat,
    PositiveInt,
    RmsNorm,
    Rope,
    Sinusoidal,
    T5Bias,
)
from llmprof.spec.patterns import BigBird, Dilated, Fixed, GlobalWindow, Pattern, Sliding, Strided
from llmprof.spec.release import Release

__all__ = [
    "Alibi",
    "ArchSpec",
    "Attention",
    "AudioFront",
    "BigBird",
    "ChannelMix",
    "Clustered",
    "Compressed",
    "Differential",
    "Dilated",
    "EmbeddedPosition",
    "Expert",
    "Ffn",
    "Fixed",
    "GatedDeltaNet",
    "Gaussian",
    "GlobalWindow",
    "Glu",
    "Gqa",
    "Head",
    "Indexer",
    "LayerNorm",
    "LayerPosition",
    "LayerSpec",
    "Learned",
    "Linear",
    "Linformer",
    "LmHead",
    "Mamba1",
    "Mamba2",
    "Mask",
    "Mixer",
    "Mla",
    "MlmHead",
    "Mlp",
    "Moe",
    "Mtp",
    "NoAttention",
    "NoFfn",
    "NoHead",
    "NoPosition",
    "Norm",
    "Nystrom",
    "Pattern",
    "Performer",
    "Placement",
    "PositiveFloat",
    "PositiveInt",
    "Published",
    "Residual",
    "RgLru",
    "RmsNorm",
    "Rope",
    "Rwkv4",
    "ShortConv",
    "Sinusoidal",
    "Sliding",
    "Source",
    "Sparse",
    "Stack",
    "Strided",
    "Structure",
    "T5Bias",
    "TalkingHeads",
]

Structure = Literal["causal-decoder", "prefix-decoder", "encoder-decoder", "encoder"]
Placement = Literal["pre", "post", "sandwich", "reordered"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a figure or a shape was read.

    `read` is the ISO day on which the page was read, or the word ``recalled`` when the figure
    comes from memory; a recalled figure counts as unconfirmed.
    """

    url: str
    where: str | None = None
    read: str = "recalled"

    @property
    def confirmed(self) -> bool:
        """Whether somebody read the page on a stated day."""
        return self.read != "recalled"


# --- layers and stacks ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Residual:
    """How a block's output joins its input: alpha * x + scale * f(x), of which at most one factor is not 1.

    Both factors 1 is the plain residual. DeepNorm (https://arxiv.org/abs/2203.00555) sets alpha > 1 and
    scales the initialisation of the value, output and feed-forward matrices by `beta`. Granite sets `scale` < 1.
    """

    alpha: PositiveFloat = 1.0
    beta: PositiveFloat = 1.0
    scale: PositiveFloat = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerSpec:
    """One layer. `group` is the name of its group in the spec file, for messages and tables.

    `block` is ``serial`` (attention, then cross-attention where there is one, then feed-forward,
    each with its own residual) or ``parallel`` (both read the same input and are added at once,
    PaLM). `parallel_norms` is 1 where both halves of a parallel block share a norm, 2 where each
    has its own; it is 1 and means nothing in a serial block.

    `mixer` is a second sequence mixer that reads what the attention reads; their outputs are added (Falcon-H1).
    Where attention or feed-forward is ``none``, its norms and its residual are not there either. `first_norm`: whether
    the norm before the attention exists (ModernBERT's first layer has none). `lends_kv` says that a later
    layer with `shared_kv` reads this one's keys and values.
    """

    group: str
    attention: Attention
    ffn: Ffn
    norm: Norm
    placement: Placement
    position: LayerPosition
    block: Literal["serial", "parallel"] = "serial"
    parallel_norms: Literal[1, 2] = 1
    residual: Residual = Residual()
    cross_attention: Gqa | None = None
    mixer: Mixer | None = None
    first_norm: bool = True
    lends_kv: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """A run of layers with what stands before and after it.

    `prefix` is what stands before its module paths: empty, ``encoder.`` or ``decoder.``; ``mtp.`` for the layers that
    predict further tokens. `front` takes the place of the token embedding.
    """

    prefix: str
    mask: Mask
    layers: tuple[LayerSpec, ...]
    embedded_position: EmbeddedPosition | None
    embedding_norm: Norm | None
    final_norm: Norm | None
    front: AudioFront | None = None

    @property
    def relative_bias(self) -> T5Bias | None:
        """The one T5 table that serves this stack, if any layer uses one (`spec/rules.py` allows one)."""
        for layer in self.layers:
            if isinstance(layer.position, T5Bias) and not layer.position.per_layer:
                return layer.position
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mtp:
    """Layers that predict further tokens, one after another (https://arxiv.org/abs/2412.19437, section 2.2).

    Each of `count` layers joins the normalised hidden state and the normalised embedding of the next token by a 2 d x
    d matrix, is a `layer` of its own, and ends with a norm before the model's own output matrix. `norm` is the kind
    of these three norms. Counted apart: `params_total` and a plain pass do not have them.
    """

    count: PositiveInt
    layer: LayerSpec
    norm: Norm


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A figure that others print for this model, to be held against ours.

    `rounded` says that the source prints a rounded figure ("6.7B"), written out in full here.
    """

    params_total: PositiveInt | None = None
    rounded: bool = False
    source: Source
    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchSpec:
    """One architecture: a spec file's base or one of its variants, fully expanded.

    `stacks` has one member, or an encoder and then a decoder that attends to it. `embedding_scale` multiplies the
    token embeddings of every stack that has some. `embedding_width` is that of the token table where it is not d_model
    and projected to it (OPT-350m). `mtp` is an optional head. `type_vocab_size` is the number of rows of BERT's segment
    table. `pooler` is BERT's biased d x d matrix and tanh on the first token. `release` is how published files hold
    the weights. `aliases` are the other names of the spec, repositories of published weights among them; a variant has
    none, and they are no part of what makes two architectures equal.
    """

    name: str
    variant: str | None
    structure: Structure
    sources: tuple[Source, ...]
    d_model: PositiveInt
    vocab_size: PositiveInt
    max_context: PositiveInt | None
    tied_embeddings: bool
    stacks: tuple[Stack, ...]
    head: Head
    pooler: bool = False
    embedding_scale: PositiveFloat | None = None
    embedding_width: PositiveInt | None = None
    type_vocab_size: Annotated[int, Ge(0)] = 0
    mtp: Mtp | None = None
    published: Published | None = None
    release: Release | None = None
    aliases: tuple[str, ...] = field(default=(), compare=False)

    @property
    def label(self) -> str:
        """The name as a person types it: ``name`` or ``name:variant``."""
        return self.name if self.variant is None else f"{self.name}:{self.variant}"

    @property
    def n_layers(self) -> int:
        """Layers of all stacks together."""
        return sum(len(stack.layers) for stack in self.stacks)

    @property
    def encoder(self) -> Stack | None:
        """The bidirectional stack that reads the source, if this is an encoder-decoder."""
        return self.stacks[0] if self.structure == "encoder-decoder" else None

    @property
    def main(self) -> Stack:
        """The stack that the new tokens go through: the only one, or the decoder."""
        return self.stacks[-1]
