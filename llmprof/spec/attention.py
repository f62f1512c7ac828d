"""The kinds of attention. One class per `kind` of the language; what each launches is docs/reference-attention.md.

Axis legend and conventions: see `arch.py`, which is where other code imports these from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from llmprof.spec.kinds import ByKind
from llmprof.spec.mixers import GatedDeltaNet, Mamba1, Mamba2, RgLru, Rwkv4, ShortConv
from llmprof.spec.parts import AtLeastTwo, Mask, Norm, PositiveFloat, PositiveInt
from llmprof.spec.patterns import Pattern

ANY_STACK: tuple[Mask, ...] = ("causal", "prefix", "bidirectional")
NO_PREFIX: tuple[Mask, ...] = ("causal", "bidirectional")
WHOLE_SEQUENCE: tuple[Mask, ...] = ("bidirectional",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gqa:
    """Softmax attention in which groups of query heads share a key/value head.

    n_kv_heads = n_heads is multi-head attention (https://arxiv.org/abs/1706.03762), 1 is
    multi-query (https://arxiv.org/abs/1911.02150), between them grouped-query
    (https://arxiv.org/abs/2305.13245).

    `window`: a query sees itself and the `window - 1` tokens before it; in an encoder, the tokens at most window // 2
    away on either side. `chunk`: a query sees the tokens before it in its own chunk of so many positions (Llama 4).
    `softcap`: scores become softcap * tanh(scores / softcap). `scale`: what scores are multiplied by; None is
    head_dim ** -0.5. `qkv_bias` is the bias of the three projections in; `k_bias` says otherwise for the keys'
    (Whisper).

    `qk_norm` normalises queries and keys before any rotation, over each `head` with one weight of head_dim for all,
    over `each-head` with weights of its own, or over `all-heads` at once (OLMo 2).
    `sinks`: a learned logit per head takes part in the softmax and brings no value (GPT-OSS).
    `qkv_clip` cuts queries, keys and values at this number, above and below, as they come out of their projections
    (OLMo, DBRX).
    `output_gate` multiplies the core's output by the sigmoid of a further projection of the input, one value per
    `value` of the heads (Qwen3-Next) or one per `head`.
    `shared_kv`: the layer has no keys and values of its own and reads those of the nearest earlier layer of its stack
    that has, and agrees with it in n_kv_heads, head_dim, window and chunk (https://arxiv.org/abs/2405.12981).
    """

    kind: Literal["gqa"] = "gqa"
    n_heads: PositiveInt
    n_kv_heads: PositiveInt
    head_dim: PositiveInt
    qkv_bias: bool = False
    out_bias: bool = False
    k_bias: bool | None = None
    qk_norm: Annotated[Norm, ByKind()] | None = None
    qk_norm_over: Literal["head", "each-head", "all-heads"] = "head"
    window: PositiveInt | None = None
    chunk: PositiveInt | None = None
    sinks: bool = False
    qkv_clip: PositiveFloat | None = None
    output_gate: Literal["value", "head"] | None = None
    shared_kv: bool = False
    softcap: PositiveFloat | None = None
    scale: PositiveFloat | None = None

    @property
    def queries_per_kv_head(self) -> int:
        """g: how many query heads share one key/value head."""
        return self.n_heads // self.n_kv_heads

    @property
    def has_k_bias(self) -> bool:
        """Whether the projection of the keys has a bias."""
        return self.qkv_bias if self.k_bias is None else self.k_bias

    @property
    def masks(self) -> tuple[Mask, ...]:
        """The masks of the stacks that this kind is defined for."""
        return ANY_STACK


@dataclass(frozen=True, slots=True, kw_only=True)
class _MultiHead:
    """What the kinds below have in common: as many key/value heads as query heads, scores times head_dim ** -0.5."""

    n_heads: PositiveInt
    head_dim: PositiveInt
    qkv_bias: bool = False
    out_bias: bool = False

    @property
    def masks(self) -> tuple[Mask, ...]:
        """The masks of the stacks that this kind is defined for."""
        return NO_PREFIX


@dataclass(frozen=True, slots=True, kw_only=True)
class Sparse(_MultiHead):
    """Softmax over the keys of a pattern of blocks of `block` positions; `block: 1` is a pattern of single tokens."""

    kind: Literal["sparse"] = "sparse"
    block: PositiveInt
    pattern: Annotated[Pattern, ByKind()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear(_MultiHead):
    """Attention without softmax: phi(q) (phi(k)' v), phi = elu + 1 (Katharopoulos et al. 2020, https://arxiv.org/abs/2006.16236).

    A causal stack keeps a state of fixed size instead of keys and values; `chunk` is how many tokens of a
    prompt its blockwise form takes at once.
    """

    kind: Literal["linear"] = "linear"
    chunk: PositiveInt

    @property
    def n_features(self) -> int:
        """Width of a head's mapped queries and keys: head_dim."""
        return self.head_dim


@dataclass(frozen=True, slots=True, kw_only=True)
class Performer(_MultiHead):
    """Linear attention with `n_features` positive random features of the softmax (FAVOR+, https://arxiv.org/abs/2009.14794)."""

    kind: Literal["performer"] = "performer"
    chunk: PositiveInt
    n_features: PositiveInt


@dataclass(frozen=True, slots=True, kw_only=True)
class Compressed(_MultiHead):
    """Memory-compressed attention (Liu et al. 2018, https://arxiv.org/abs/1801.10198): `factor` keys become one.

    `method` is ``conv``, a convolution whose kernel and stride are `factor` over all channels, or ``mean``. In a causal
    stack compressed key j stands for the positions (j - 1) factor + 1 .. j factor and is seen from j factor on.
    """

    kind: Literal["compressed"] = "compressed"
    factor: AtLeastTwo
    method: Literal["conv", "mean"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Clustered(_MultiHead):
    """Queries are grouped into `n_clusters` by the signs of `n_bits` random projections; a group attends once.

    K-means in Hamming space, `iterations` rounds (Vyas et al. 2020, https://arxiv.org/abs/2007.04825).
    """

    kind: Literal["clustered"] = "clustered"
    n_clusters: PositiveInt
    n_bits: PositiveInt
    iterations: PositiveInt

    @property
    def masks(self) -> tuple[Mask, ...]:
        return WHOLE_SEQUENCE


@dataclass(frozen=True, slots=True, kw_only=True)
class Linformer(_MultiHead):
    """Keys and values are projected along the sequence to `n_projected` rows (Wang et al. 2020, https://arxiv.org/abs/2006.04768).

    `length` is the longest sequence that the projections are made for. `share` is ``heads`` (one matrix for the keys
    and one for the values, over all heads) or ``key-value`` (one for both).
    """

    kind: Literal["linformer"] = "linformer"
    n_projected: PositiveInt
    length: PositiveInt
    share: Literal["heads", "key-value"]

    @property
    def masks(self) -> tuple[Mask, ...]:
        return WHOLE_SEQUENCE


@dataclass(frozen=True, slots=True, kw_only=True)
class Nystrom(_MultiHead):
    """The softmax matrix from `n_landmarks` segment means (Xiong et al. 2021, https://arxiv.org/abs/2102.03902).

    `iterations` of a third-order Newton scheme approximate the pseudo-inverse. Sequences are a multiple of
    `n_landmarks` long. The paper's optional convolution of the values is not part of this kind.
    """

    kind: Literal["nystrom"] = "nystrom"
    n_landmarks: PositiveInt
    iterations: PositiveInt

    @property
    def masks(self) -> tuple[Mask, ...]:
        return WHOLE_SEQUENCE


@dataclass(frozen=True, slots=True, kw_only=True)
class TalkingHeads(_MultiHead):
    """A learned n_heads x n_heads mix of the scores before the softmax and another after it (https://arxiv.org/abs/2003.02436)."""

    kind: Literal["talking-heads"] = "talking-heads"

    @property
    def masks(self) -> tuple[Mask, ...]:
        return ANY_STACK


@dataclass(frozen=True, slots=True, kw_only=True)
class Differential(_MultiHead):
    """The difference of two softmax maps (Ye et al. 2024, https://arxiv.org/abs/2410.05258).

    A head has two queries and two keys of head_dim values and a value of 2 head_dim; the second map counts times
    exp(lambda_q1 . lambda_k1) - exp(lambda_q2 . lambda_k2) + lambda_init, and an RMSNorm over 2 head_dim follows.
    """

    kind: Literal["differential"] = "differential"
    lambda_init: PositiveFloat

    @property
    def masks(self) -> tuple[Mask, ...]:
        return ANY_STACK


@dataclass(frozen=True, slots=True, kw_only=True)
class Indexer:
    """Chooses the `top_k` keys that a query attends to (DeepSeek Sparse Attention, https://arxiv.org/abs/2512.02556).

    `n_heads` heads of `head_dim`, of which as many leading values are rotated as in the attention itself, and one key
    of `head_dim` per token, which has a cache of its own.
    """

    n_heads: PositiveInt
    head_dim: PositiveInt
    top_k: PositiveInt


@dataclass(frozen=True, slots=True, kw_only=True)
class Mla:
    """Multi-head latent attention: keys and values out of one latent per token (https://arxiv.org/abs/2405.04434).

    Of each token `kv_rank` latent values and one rotated key of `rope_dim`, shared by all heads, are kept. A head's
    query and key have `nope_dim` values without a rotation and `rope_dim` with one, its value `value_dim`. `q_rank`
    is the width of the queries' bottleneck; None projects them at once. `norm` is that of both bottlenecks. `bias` is
    that of the projections into the bottlenecks and out of the heads. `scale`: what scores are multiplied by; None is
    (nope_dim + rope_dim) ** -0.5.
    """

    kind: Literal["mla"] = "mla"
    n_heads: PositiveInt
    q_rank: PositiveInt | None = None
    kv_rank: PositiveInt
    nope_dim: PositiveInt
    rope_dim: PositiveInt
    value_dim: PositiveInt
    norm: Annotated[Norm, ByKind()]
    bias: bool = False
    scale: PositiveFloat | None = None
    indexer: Indexer | None = None

    @property
    def key_dim(self) -> int:
        """Width of a head's query and key."""
        return self.nope_dim + self.rope_dim

    @property
    def masks(self) -> tuple[Mask, ...]:
        """The masks of the stacks that this kind is defined for."""
        return ("causal",)


@dataclass(frozen=True, slots=True, kw_only=True)
class NoAttention:
    """The layer has no attention: its feed-forward stands alone (Nemotron-H)."""

    kind: Literal["none"] = "none"

    @property
    def masks(self) -> tuple[Mask, ...]:
        """The masks of the stacks that this kind is defined for."""
        return ANY_STACK


Attention = (
    Gqa
    | Mla
    | Sparse
    | Linear
    | Performer
    | Compressed
    | Clustered
    | Linformer
    | Nystrom
    | TalkingHeads
    | Differential
    | Mamba1
    | Mamba2
    | GatedDeltaNet
    | RgLru
    | ShortConv
    | Rwkv4
    | NoAttention
)  # fmt: skip
