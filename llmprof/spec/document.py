"""The language as types: what each mapping of a spec file may say, before it is expanded.

Where a mapping of the file *is* an architecture type (`Gqa`, `Rope`, `LmHead`...), that type is used
as it stands; the classes here are what the language adds: norms with a placement, residual rules,
`none` as a norm, and the frames around stacks and groups. `shapes.py` makes validators of these plain
dataclasses; the JSON Schema for editors is generated from them (`schema.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from annotated_types import Ge, MinLen

from llmprof.spec.arch import (
    Alibi,
    Attention,
    AudioFront,
    Ffn,
    Gaussian,
    Gqa,
    LayerNorm,
    Learned,
    LmHead,
    Mixer,
    MlmHead,
    NoHead,
    NoPosition,
    Placement,
    PositiveFloat,
    PositiveInt,
    Published,
    RmsNorm,
    Rope,
    Sinusoidal,
    Source,
    Structure,
    T5Bias,
)
from llmprof.spec.kinds import ByKind, Matching, Shorthand
from llmprof.spec.release import Release

NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]*$"
Name = Annotated[str, Matching(NAME_PATTERN, 100)]
Text = Annotated[str, MinLen(1)]


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, dict) else value


def _spelled_none(value: Any) -> Any:
    return {"kind": "none"} if value == "none" else value


Sources = Annotated[tuple[Source, ...], MinLen(1), Shorthand(Source, _listed)]
Position = Annotated[Rope | Alibi | T5Bias | Gaussian | NoPosition | Learned | Sinusoidal, ByKind()]


# --- norms as a spec says them ----------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedLayerNorm(LayerNorm):
    """Layer normalisation and where a block has it: see `PlacedRmsNorm`."""

    placement: Placement
    first: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedRmsNorm(RmsNorm):
    """Root-mean-square normalisation and where a block has it.

    `pre` and `post` its residual, `sandwich` (before the block and on its output) or `reordered` (on its output alone,
    https://arxiv.org/abs/2501.00656). `first: false` leaves out the norm before the attention.
    """

    placement: Placement
    first: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class NoNorm:
    """No norm in this place."""

    kind: Literal["none"] = "none"


PlacedNorm = Annotated[PlacedLayerNorm | PlacedRmsNorm, ByKind()]
NormOrNone = Annotated[LayerNorm | RmsNorm | NoNorm, ByKind(), Shorthand(Literal["none"], _spelled_none)]


# --- residuals --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainResidual:
    """A block's output is added to its input, times `scale`."""

    kind: Literal["plain"] = "plain"
    scale: PositiveFloat = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DeepNorm:
    """DeepNorm (https://arxiv.org/abs/2203.00555): alpha and beta, or the rule that computes them from the depth."""

    kind: Literal["deepnorm"] = "deepnorm"
    alpha: PositiveFloat | None = None
    beta: PositiveFloat | None = None
    rule: Literal["deepnet", "glm"] | None = None


# --- layers, stacks, the file -----------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Equal layers: what a group says, together with what it takes over from its stack."""

    norm: PlacedNorm
    attention: Annotated[Attention, ByKind()]
    cross_attention: Annotated[Gqa, ByKind()] | None = None
    mixer: Annotated[Mixer, ByKind()] | None = None
    ffn: Annotated[Ffn, ByKind()]
    block: Literal["serial", "parallel", "parallel-two-norms"] = "serial"
    residual: Annotated[PlainResidual | DeepNorm, ByKind()] = PlainResidual()
    position: Position


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What a stack says about itself rather than about its layers."""

    count: PositiveInt | None = None
    pattern: Annotated[tuple[str, ...], MinLen(1)] | None = None
    position: Annotated[Learned | Sinusoidal, ByKind()] | None = None
    final_norm: NormOrNone | None = None
    embedding_norm: NormOrNone | None = None
    front: Annotated[AudioFront, ByKind()] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedding:
    """What happens to the embeddings before the first layer.

    `scale` multiplies the token embeddings, `norm` is applied after all embeddings are added, and
    `type_vocab_size` is the number of rows of a segment table. `width` is that of the token table where it is not
    d_model: a matrix without bias takes it to d_model, and another takes d_model back to it before the output matrix.
    """

    scale: PositiveFloat | None = None
    norm: NormOrNone | None = None
    type_vocab_size: Annotated[int, Ge(0)] = 0
    width: PositiveInt | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MtpLayers:
    """Layers that predict further tokens, each like those of the group `like` of the stack."""

    count: PositiveInt
    like: Name


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One architecture and its named variants."""

    name: Name
    aliases: tuple[Text, ...] = ()
    source: Sources
    notes: str | None = None
    structure: Structure
    vocab_size: PositiveInt
    d_model: PositiveInt
    max_context: PositiveInt | None
    tied_embeddings: bool
    position: Position | None = None
    embedding: Embedding = Embedding()
    layers: Any = None
    encoder: Any = None
    decoder: Any = None
    head: Annotated[LmHead | MlmHead | NoHead, ByKind()] | None = None
    pooler: bool = False
    mtp: MtpLayers | None = None
    variants: dict[Name, dict[str, Any]] = field(default_factory=dict)
    published: Published | None = None
    release: Release | None = None


STACK_KEYS = ("layers", "encoder", "decoder")
GROUP_KEYS = ("norm", "attention", "cross_attention", "mixer", "ffn", "block", "residual", "position")
FRAME_KEYS = ("count", "pattern", "final_norm", "embedding_norm", "front")
