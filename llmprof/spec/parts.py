"""The parts that layers are made of: norms, positions, feed-forward. One class per `kind` of the language.

Attention has a file of its own, `attention.py`.

Axis legend and conventions: see `arch.py`, which is where other code imports these from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt

PositiveInt = Annotated[int, Gt(0)]
PositiveFloat = Annotated[float, Gt(0)]
WholeInt = Annotated[int, Ge(0)]
AtLeastTwo = Annotated[int, Gt(1)]
Mask = Literal["causal", "prefix", "bidirectional"]
"""Whom the queries of a stack see: the keys before them, those and a prefix, or all."""

# --- norms ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerNorm:
    """Layer normalisation over the last axis (Ba et al. 2016, https://arxiv.org/abs/1607.06450).

    Parameters: a weight of the normalised width, and a bias of the same width unless
    `bias` is false (PaLM); neither where `weight` is false (OLMo), with which `bias` must be false too.
    """

    kind: Literal["layernorm"] = "layernorm"
    weight: bool = True
    bias: bool = True
    eps: PositiveFloat = 1e-5


@dataclass(frozen=True, slots=True, kw_only=True)
class RmsNorm:
    """Root-mean-square normalisation (Zhang and Sennrich 2019, https://arxiv.org/abs/1910.07467).

    Parameters: one weight of the normalised width, none where `weight` is false. `unit_offset`: rows are multiplied by
    1 + weight, in fp32 (Gemma).
    """

    kind: Literal["rmsnorm"] = "rmsnorm"
    weight: bool = True
    unit_offset: bool = False
    eps: PositiveFloat = 1e-6


Norm = LayerNorm | RmsNorm


# --- positions --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Rope:
    """Rotary position embedding of queries and keys (Su et al. 2021, https://arxiv.org/abs/2104.09864).

    `rotary_dim` is how many leading values of each head are rotated; None rotates all of head_dim.
    `axes` > 1 splits them into equal parts, each rotated by a position index of its own
    (ChatGLM-6B's two-dimensional encoding). `rotary_dim` must be a multiple of 2 * axes.
    """

    kind: Literal["rope"] = "rope"
    theta: PositiveFloat
    rotary_dim: PositiveInt | None = None
    axes: PositiveInt = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Alibi:
    """A constant linear bias on the scores, one slope per head (Press et al. 2021, https://arxiv.org/abs/2108.12409)."""

    kind: Literal["alibi"] = "alibi"


@dataclass(frozen=True, slots=True, kw_only=True)
class T5Bias:
    """A learned bias per head and bucketed distance (Raffel et al. 2019, https://arxiv.org/abs/1910.10683).

    One table of n_buckets x n_heads serves every layer of a stack; with `per_layer` each has one of its own (UMT5,
    https://arxiv.org/abs/2304.09151). Buckets are two-sided in a bidirectional stack and one-sided in a causal one.
    """

    kind: Literal["t5-bias"] = "t5-bias"
    n_buckets: PositiveInt
    max_distance: PositiveInt
    per_layer: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NoPosition:
    """This layer adds no position information of its own."""

    kind: Literal["none"] = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gaussian:
    """A learned locality prior on the scores: -|w d^2 + b| for a distance of d, w and b learned by each layer.

    Reference: Guo et al. 2019, Gaussian Transformer, https://doi.org/10.1609/aaai.v33i01.33016489, equation of the
    bias inside the softmax.
    """

    kind: Literal["gaussian"] = "gaussian"


LayerPosition = Rope | Alibi | T5Bias | Gaussian | NoPosition


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """A learned table of `rows` position vectors, added to the token embeddings.

    `rows` is the number of rows that the table really has: BART keeps two more than its
    longest input.
    """

    kind: Literal["learned"] = "learned"
    rows: PositiveInt


@dataclass(frozen=True, slots=True, kw_only=True)
class Sinusoidal:
    """A fixed table of sines and cosines, added to the token embeddings (https://arxiv.org/abs/1706.03762).

    No parameters, unless `stored_rows` says that a release keeps a table of so many rows among its weights (Pegasus,
    Whisper): then they count, and are read, like a learned table's.
    """

    kind: Literal["sinusoidal"] = "sinusoidal"
    stored_rows: PositiveInt | None = None


EmbeddedPosition = Learned | Sinusoidal


# --- what may stand in place of token embeddings -------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioFront:
    """What an encoder of sound has in place of token embeddings (Whisper, https://arxiv.org/abs/2212.04356).

    Two convolutions over time with biases, `kernel` wide and padded by kernel // 2 on both sides, each followed by
    exact GELU: `channels` to d_model at stride 1, then d_model to d_model at stride 2. A source of M positions is
    made of 2 M frames.
    """

    kind: Literal["audio"] = "audio"
    channels: PositiveInt
    kernel: PositiveInt
