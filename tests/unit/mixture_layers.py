"""Layers with experts for the tests of the twin and of the counters, and sessions over them."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from twin_archs import decoder, layer
from twin_attending import UNFUSED, workload

from llmprof.routing import Routing
from llmprof.spec.arch import ArchSpec, Expert, Glu, Mlp, Moe
from llmprof.twin.model import Twin
from llmprof.twin.session import Session

SWIGLU = Glu(kind="swiglu", d_ff=10)
CLAMPED = Glu(kind="swiglu-clamped", d_ff=10, beta=1.7, limit=0.4, bias=True)
MOE = Moe(n_experts=6, top_k=2, expert=SWIGLU)
ROUTINGS = [Routing("balanced"), Routing("concentrated"), Routing("random", 4)]
EXPERTS: list[Expert] = [
    *(Mlp(kind=kind, d_ff=7) for kind in ("relu", "gelu", "gelu-tanh", "relu2")),  # type: ignore[arg-type]
    Mlp(kind="swish", d_ff=7, beta=1.3, bias=True),
    *(Glu(kind=kind, d_ff=7) for kind in ("glu", "reglu", "geglu", "geglu-tanh", "swiglu")),  # type: ignore[arg-type]
    Glu(kind="swiglu", d_ff=7, beta=0.7, bias=True),
    CLAMPED,
]
LAYERS: dict[str, Moe] = {
    "plain": MOE,
    "normalised and scaled": replace(MOE, normalise=True, scale=2.5),
    "sigmoid": replace(MOE, scores="sigmoid", normalise=True),
    "softmax of the chosen": replace(MOE, scores="softmax-chosen", router_bias=True),
    "input": replace(MOE, weigh="input", top_k=1, scores="sigmoid", shared=SWIGLU),
    "input, two choices": replace(MOE, weigh="input", expert=CLAMPED),
    "shared": replace(MOE, shared=Mlp(kind="relu2", d_ff=9, bias=True)),
    "gated": replace(MOE, shared=SWIGLU, shared_gate=True),
    "groups": replace(MOE, n_groups=3, groups_per_token=2, correction_bias=True, scores="sigmoid", scale=1.5),
    "groups of one": replace(MOE, n_groups=6, groups_per_token=4),
    "one expert": replace(MOE, n_experts=1, top_k=1),
    "all experts": replace(MOE, top_k=6),
    "latent": replace(MOE, latent=9),
    "latent, biases, shared": replace(MOE, latent=7, expert=CLAMPED, shared=SWIGLU, shared_gate=True, normalise=True),
    "latent, wider than the model": replace(MOE, latent=30, weigh="input"),
}


def arch_of(moe: Moe) -> ArchSpec:
    return decoder(layer(ffn=moe))


def session_of(twin: Twin, routing: Routing, *, batch: int = 2, new: int = 5, context: int | None = None) -> Session:
    return Session(twin, replace(workload(context or new, new=new, batch=batch), routing=routing), UNFUSED)


def weights_of(twin: Twin) -> dict[str, Tensor]:
    """The parameters below layers.0.ffn, in float64."""
    found = ((name.partition("layers.0.ffn."), parameter.double()) for name, parameter in twin.named_parameters())
    return {below: parameter for (_, inside, below), parameter in found if inside}


def with_correction(twin: Twin) -> Tensor | None:
    """A correction that changes what the router would choose, put into the twin."""
    correction = twin.layers[0].ffn.router.correction  # type: ignore[index, union-attr]
    if correction is None:
        return None
    correction.copy_(torch.linspace(-0.4, 0.4, len(correction)).flip(0))
    return correction.double()
