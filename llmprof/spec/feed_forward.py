"""The kinds of feed-forward. One class per `kind` of the language; what each launches: docs/reference-execution.md, for
experts docs/reference-experts.md.

Axis legend and conventions: see `arch.py`, which is where other code imports these from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from llmprof.spec.kinds import ByKind
from llmprof.spec.parts import PositiveFloat, PositiveInt


@dataclass(frozen=True, slots=True, kw_only=True)
class Mlp:
    """Two matrices around an activation: down(act(up(x))).

    `gelu` is the exact form with erf, `gelu-tanh` the tanh approximation
    (https://arxiv.org/abs/1606.08415); `swish` is x * sigmoid(beta * x)
    (https://arxiv.org/abs/1710.05941); `relu2` is the square of ReLU (https://arxiv.org/abs/2109.08668); `xielu` a
    parabola above 0 and an exponential below, with a learned number for each (https://arxiv.org/abs/2411.13010).
    """

    kind: Literal["relu", "gelu", "gelu-tanh", "swish", "relu2", "xielu"]
    d_ff: PositiveInt
    bias: bool = False
    beta: PositiveFloat = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Glu:
    """Three matrices: down(act(gate(x)) * up(x)) (Shazeer 2020, https://arxiv.org/abs/2002.05202).

    The activation of the gate is the sigmoid for `glu`, ReLU for `reglu`, exact or tanh GELU for `geglu` and
    `geglu-tanh`, Swish for `swiglu`. `swiglu-clamped` is GPT-OSS's: gate and up are cut at `limit` (the gate above
    alone), and the product is swish(gate) * (up + 1). `bias` is that of all matrices,
    `down_bias` that of the last alone (TeleChat).
    """

    kind: Literal["glu", "reglu", "geglu", "geglu-tanh", "swiglu", "swiglu-clamped"]
    d_ff: PositiveInt
    bias: bool = False
    down_bias: bool = False
    beta: PositiveFloat = 1.0
    limit: PositiveFloat | None = None

    @property
    def has_down_bias(self) -> bool:
        """Whether the last matrix has a bias."""
        return self.bias or self.down_bias


Expert = Mlp | Glu


@dataclass(frozen=True, slots=True, kw_only=True)
class Moe:
    """A mixture of `n_experts` feed-forward experts of which a router chooses `top_k` per token (https://arxiv.org/abs/1701.06538).

    `expert` is one of them. `shared` runs for every token beside them (several shared experts are one of their joint
    width); with `shared_gate` its output is weighted by the sigmoid of a d_model x 1 product (Qwen-MoE). `scores`
    turns the router's logits into weights: a softmax over all experts, a sigmoid of each, or a softmax over the
    chosen ones alone (`softmax-chosen`), or for each of two choices, one after the other, a softmax over those whose
    logits fall short of the best by at most 2 `margin` of their size (`sparsemixer`,
    https://arxiv.org/abs/2409.12136). `normalise` divides the chosen weights by their sum, `scale` multiplies them.
    `weigh` says whether a weight multiplies an expert's output or its input (Llama 4). `router_bias` is a bias
    of the router's matrix; `correction_bias` is a value per expert that is added to the scores for the choice alone
    and is kept as a buffer, no parameter (DeepSeek-V3). `latent` is the width that the experts see where it
    is not d_model: a matrix takes each token there and another takes the experts' sum back (Nemotron 3 Super); router
    and `shared` see d_model. With `n_groups` > 1 a token's experts come from
    `groups_per_token` of as many equal groups (https://arxiv.org/abs/2412.19437, section 2.1.2).
    """

    kind: Literal["moe"] = "moe"
    n_experts: PositiveInt
    top_k: PositiveInt
    expert: Annotated[Expert, ByKind()]
    shared: Annotated[Expert, ByKind()] | None = None
    shared_gate: bool = False
    scores: Literal["softmax", "sigmoid", "softmax-chosen", "sparsemixer"] = "softmax"
    margin: PositiveFloat | None = None
    normalise: bool = False
    scale: PositiveFloat = 1.0
    weigh: Literal["output", "input"] = "output"
    router_bias: bool = False
    correction_bias: bool = False
    latent: PositiveInt | None = None
    n_groups: PositiveInt = 1
    groups_per_token: PositiveInt = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelMix:
    """RWKV-4's feed-forward, sigmoid(receptance) * down(relu(up)^2), each of a mix of this token and the last."""

    kind: Literal["rwkv-channel-mix"] = "rwkv-channel-mix"
    d_ff: PositiveInt


@dataclass(frozen=True, slots=True, kw_only=True)
class NoFfn:
    """The layer has no feed-forward: its mixer stands alone (Mamba, and the mixer layers of Nemotron-H)."""

    kind: Literal["none"] = "none"


Ffn = Mlp | Glu | Moe | ChannelMix | NoFfn
