"""A mixture of experts by loops over tokens, in float64: what the tests of the twin hold it against.

It takes weights by the twin's names below `ffn` and shares nothing else with it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from llmprof.spec.arch import Expert, Moe

Weights = Mapping[str, Tensor]


def sigmoid(x: Tensor) -> Tensor:
    return 1 / (1 + torch.exp(-x))


def hidden(spec: Expert, gate: Tensor | None, up: Tensor) -> Tensor:
    """The activation of `spec`, of one row."""
    first = up if gate is None else gate
    match spec.kind:
        case "relu" | "reglu":
            first = first * (first > 0)
        case "relu2":
            first = (first * (first > 0)) ** 2
        case "gelu" | "geglu":
            first = first * 0.5 * (1 + torch.erf(first / math.sqrt(2)))
        case "gelu-tanh" | "geglu-tanh":
            first = 0.5 * first * (1 + torch.tanh(math.sqrt(2 / math.pi) * (first + 0.044715 * first**3)))
        case "swish" | "swiglu":
            first = first * sigmoid(spec.beta * first)
        case "glu":
            first = sigmoid(first)
        case "swiglu-clamped":
            assert gate is not None
            limit = spec.limit
            first = torch.minimum(gate, torch.tensor(limit, dtype=torch.float64))
            first = first * sigmoid(spec.beta * first)
            up = torch.tensor([min(max(value, -limit), limit) for value in up.tolist()], dtype=torch.float64) + 1
    return first if gate is None else first * up


def expert(spec: Expert, weights: Weights, index: int, x: Tensor) -> Tensor:
    """Expert `index` of one row `x` [d]."""

    def product(name: str, y: Tensor) -> Tensor:
        out = weights[f"experts.{name}"][index] @ y
        return out + weights[f"experts.{name}_bias"][index] if f"experts.{name}_bias" in weights else out

    gate = product("gate", x) if "experts.gate" in weights else None
    return product("down", hidden(spec, gate, product("up", x)))


def dense(spec: Expert, weights: Weights, path: str, x: Tensor) -> Tensor:
    """The feed-forward at `path` of one row `x` [d]."""

    def product(name: str, y: Tensor) -> Tensor:
        out = weights[f"{path}.{name}.weight"] @ y
        return out + weights[f"{path}.{name}.bias"] if f"{path}.{name}.bias" in weights else out

    gate = product("gate", x) if f"{path}.gate.weight" in weights else None
    return product("down", hidden(spec, gate, product("up", x)))


def scores(spec: Moe, weights: Weights, x: Tensor) -> Tensor:
    """The router's score of every expert for one row; logits where a softmax of the chosen ones follows."""
    logits = weights["router.weight"] @ x
    if "router.bias" in weights:
        logits = logits + weights["router.bias"]
    if spec.scores == "softmax":
        return torch.exp(logits) / torch.exp(logits).sum()
    return sigmoid(logits) if spec.scores == "sigmoid" else logits


def choice(spec: Moe, weights: Weights, x: Tensor, correction: Tensor | None) -> list[int]:
    """The experts that the router itself would choose for one row, the best first."""
    value = scores(spec, weights, x)
    if correction is not None:
        value = value + correction
    size = spec.n_experts // spec.n_groups
    groups = [value[group * size : (group + 1) * size] for group in range(spec.n_groups)]
    ranks = sorted(range(spec.n_groups), key=lambda g: -sum(sorted(groups[g].tolist(), reverse=True)[:2]))
    allowed = ranks[: spec.groups_per_token] if spec.n_groups > 1 else ranks
    inside = [e for e in range(spec.n_experts) if e // size in allowed]
    return sorted(inside, key=lambda e: -float(value[e]))[: spec.top_k]


def weights_of_chosen(spec: Moe, weights: Weights, x: Tensor, chosen: Sequence[int]) -> list[float]:
    """How much one row takes of each expert that was chosen for it."""
    taken = [float(scores(spec, weights, x)[e]) for e in chosen]
    if spec.scores == "softmax-chosen":
        total = sum(math.exp(value) for value in taken)
        taken = [math.exp(value) / total for value in taken]
    if spec.normalise:
        taken = [value / sum(taken) for value in taken]
    return [value * spec.scale for value in taken]


def mixture(spec: Moe, weights: Weights, x: Tensor, table: Sequence[Sequence[int]]) -> Tensor:
    """The whole layer for rows `x` [n, d], float64: `table` has the experts of each."""
    out = torch.zeros_like(x)
    for row, chosen in enumerate(table):
        seen = x[row] if spec.latent is None else weights["latent_down.weight"] @ x[row]
        for index, weight in zip(chosen, weights_of_chosen(spec, weights, x[row], chosen), strict=True):
            if spec.weigh == "input":
                made = expert(spec.expert, weights, index, seen * weight)
            else:
                made = weight * expert(spec.expert, weights, index, seen)
            # Back for each expert by itself: a product of a sum is the sum of the products.
            out[row] += made if spec.latent is None else weights["latent_up.weight"] @ made
        if spec.shared is not None:
            beside = dense(spec.shared, weights, "shared", x[row])
            out[row] += beside * sigmoid(weights["shared_gate.weight"] @ x[row]) if spec.shared_gate else beside
    return out
