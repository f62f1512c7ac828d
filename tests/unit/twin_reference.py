"""A second, naive implementation of the architectures: whole sequences, float64, loops and einsum, no cache.

It takes weights by the twin's parameter names and shares nothing else with it. Axis letters: b batch, q query
position, k key position, n head, h head_dim, d d_model, f d_ff.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from twin_reference_attention import KeysAndValues, Weights, cross_attention, linear, norm, self_attention

from llmprof.spec.arch import ArchSpec, LayerSpec, Learned, LmHead, MlmHead, Sinusoidal, Stack


def forward(
    arch: ArchSpec,
    weights: Weights,
    tokens: Tensor,
    *,
    source: Tensor | None = None,
    segments: Tensor | None = None,
    prefix: int = 0,
) -> dict[str, Tensor]:
    """`hidden` [b, q, d], `logits` [b, q, v] and `pooled` [b, d] of whole sequences, where the model has them."""
    weights = {name: weight.double() for name, weight in weights.items()}
    memory = None
    if arch.encoder is not None:
        assert source is not None
        memory = _stack(arch, arch.encoder, weights, source, None, None, prefix)
    x = _stack(arch, arch.main, weights, tokens, segments, memory, prefix)
    out = {"hidden": x}
    if arch.pooler:
        out["pooled"] = torch.tanh(linear(weights, "pooler", x[:, 0]))
    match arch.head:
        case MlmHead(norm=behind):
            x = norm(behind, weights, "head.norm", _gelu(linear(weights, "head.dense", x)))
            out["logits"] = _logits(arch, weights, x)
        case LmHead() as head:
            y = x if head.input_scale is None else x * head.input_scale
            logits = _logits(arch, weights, y)
            if head.output_scale is not None:
                logits = logits * head.output_scale
            out["logits"] = logits if head.softcap is None else head.softcap * torch.tanh(logits / head.softcap)
    return out


def _logits(arch: ArchSpec, weights: Weights, x: Tensor) -> Tensor:
    if arch.embedding_width is not None:
        x = linear(weights, "head.proj", x)
    table = weights["embed.weight"] if arch.tied_embeddings else weights["lm_head.weight"]
    logits = torch.einsum("bqd,vd->bqv", x, table)
    return logits + weights["lm_head.bias"] if "lm_head.bias" in weights else logits


def _stack(
    arch: ArchSpec,
    stack: Stack,
    weights: Weights,
    tokens: Tensor,
    segments: Tensor | None,
    memory: Tensor | None,
    prefix: int,
) -> Tensor:
    p = stack.prefix
    x = weights["embed.weight"][tokens]
    if arch.embedding_width is not None:
        x = linear(weights, "embed_proj", x)
    if arch.embedding_scale is not None:
        x = x * arch.embedding_scale
    if segments is not None:
        x = x + weights[f"{p}type_embed.weight"][segments]
    return stack_of(arch, stack, weights, x, memory, prefix)


def stack_of(arch: ArchSpec, stack: Stack, weights: Weights, x: Tensor, memory: Tensor | None, prefix: int) -> Tensor:
    """What a stack makes of embeddings x [b, q, d]: positions, norms and layers."""
    p = stack.prefix
    match stack.embedded_position:
        case Learned():
            x = x + weights[f"{p}pos_embed.weight"][: x.shape[1]]
        case Sinusoidal(stored_rows=rows) if rows is not None:
            x = x + weights[f"{p}pos_embed.weight"][: x.shape[1]]
        case Sinusoidal():
            x = x + torch.tensor([_wave(position, arch.d_model) for position in range(x.shape[1])]).double()
    if stack.embedding_norm is not None:
        x = norm(stack.embedding_norm, weights, f"{p}embed_norm", x)
    before: dict[int, KeysAndValues] = {}
    for i, layer in enumerate(stack.layers):
        x = _layer(layer, stack, weights, f"{p}layers.{i}", x, memory, prefix, before)
    return x if stack.final_norm is None else norm(stack.final_norm, weights, f"{p}final_norm", x)


def _wave(position: int, width: int) -> list[float]:
    return [
        math.sin(position / 10000 ** (2 * (i // 2) / width))
        if i % 2 == 0
        else math.cos(position / 10000 ** (2 * (i // 2) / width))
        for i in range(width)
    ]


def _layer(
    layer: LayerSpec,
    stack: Stack,
    weights: Weights,
    path: str,
    x: Tensor,
    memory: Tensor | None,
    prefix: int,
    before: dict[int, KeysAndValues],
) -> Tensor:
    def normed(name: str, y: Tensor) -> Tensor:
        return norm(layer.norm, weights, f"{path}.{name}", y)

    def attend(y: Tensor) -> Tensor:
        return self_attention(layer, stack, weights, f"{path}.attn", y, prefix, before)

    def cross(y: Tensor) -> Tensor:
        assert layer.cross_attention is not None
        assert memory is not None
        return cross_attention(layer.cross_attention, weights, f"{path}.cross_attn", y, memory)

    def feed(y: Tensor) -> Tensor:
        return _ffn(layer, weights, f"{path}.ffn", y)

    alpha, scale = layer.residual.alpha, layer.residual.scale
    if layer.block == "parallel":
        second = "ffn_norm" if layer.parallel_norms == 2 else "attn_norm"
        return alpha * x + scale * (attend(normed("attn_norm", x)) + feed(normed(second, x)))
    parts = [("attn", attend), ("cross", cross), ("ffn", feed)]
    absent = {
        "attn": layer.attention.kind == "none",
        "cross": layer.cross_attention is None,
        "ffn": layer.ffn.kind == "none",
    }
    for name, part in parts:
        if absent[name]:
            continue
        inner = x
        if layer.placement in ("pre", "sandwich") and (layer.first_norm or name != "attn"):
            inner = normed(f"{name}_norm", x)
        f = part(inner)
        if layer.placement in ("sandwich", "reordered"):
            f = normed(f"{name}_post_norm", f)
        x = alpha * x + scale * f
        if layer.placement == "post":
            x = normed(f"{name}_norm", x)
    return x


def _ffn(layer: LayerSpec, weights: Weights, path: str, x: Tensor) -> Tensor:
    ffn = layer.ffn
    up = linear(weights, f"{path}.up", x)
    if f"{path}.gate.weight" in weights:
        hidden = _activation(ffn.kind, ffn.beta, linear(weights, f"{path}.gate", x)) * up
    else:
        hidden = _activation(ffn.kind, ffn.beta, up)
    return linear(weights, f"{path}.down", hidden)


def _gelu(x: Tensor) -> Tensor:
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def _activation(kind: str, beta: float, x: Tensor) -> Tensor:
    match kind:
        case "relu" | "reglu":
            return x * (x > 0)
        case "gelu" | "geglu":
            return _gelu(x)
        case "gelu-tanh" | "geglu-tanh":
            return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
        case "swish" | "swiglu":
            return x / (1 + torch.exp(-beta * x))
        case "glu":
            return 1 / (1 + torch.exp(-x))
    raise AssertionError(kind)
