"""The attention of the naive implementation in `twin_reference`: loops over heads and positions, float64.

Axis letters: b batch, q query position, k key position, n head, h head_dim, d d_model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from llmprof.spec.arch import Alibi, Gqa, LayerSpec, Norm, Rope, Stack, T5Bias

Weights = Mapping[str, Tensor]
KeysAndValues = tuple[Tensor, Tensor]


def self_attention(
    layer: LayerSpec,
    stack: Stack,
    weights: Weights,
    path: str,
    x: Tensor,
    prefix: int,
    before: dict[int, KeysAndValues],
) -> Tensor:
    """`before` has the keys and values of the layers so far, turned, by their number; this layer adds its own."""
    spec, n = layer.attention, x.shape[1]
    assert isinstance(spec, Gqa)
    number = int(path.split(".")[-2])
    q = _heads(weights, f"{path}.q_proj", x, spec.n_heads)
    q = _row_norm(spec, weights, f"{path}.q_norm", q)
    if spec.shared_kv:
        lender = next(
            each
            for each in range(number - 1, -1, -1)
            if each in before and _kv_shape(stack.layers[each]) == _kv_shape(layer)
        )
        k, v = before[lender]
    else:
        k = _heads(weights, f"{path}.k_proj", x, spec.n_kv_heads)
        v = _heads(weights, f"{path}.v_proj", x, spec.n_kv_heads)
        if spec.qkv_clip is not None:
            q, k, v = (x.clamp(-spec.qkv_clip, spec.qkv_clip) for x in (q, k, v))
        k = _row_norm(spec, weights, f"{path}.k_norm", k)
        if isinstance(layer.position, Rope):
            k = rotate(layer.position, k, prefix)
        before[number] = k, v
    bias = torch.zeros(spec.n_heads, n, n, dtype=torch.float64)
    match layer.position:
        case Rope() as rope:
            q = rotate(rope, q, prefix)
        case Alibi():
            for head, slope in enumerate(_slopes(spec.n_heads)):
                for i in range(n):
                    for j in range(n):
                        bias[head, i, j] = -slope * abs(i - j)
        case T5Bias() as t5:
            table = weights[f"{stack.prefix}rel_bias.weight"]
            for i in range(n):
                for j in range(n):
                    bias[:, i, j] = table[_bucket(t5, j - i, stack.mask == "bidirectional")]
    seen = torch.zeros(n, n, dtype=torch.bool)
    for i in range(n):
        for j in range(n):
            seen[i, j] = stack.mask == "bidirectional" or j <= i or (stack.mask == "prefix" and j < prefix)
            if spec.window is not None and stack.mask == "bidirectional":
                seen[i, j] = abs(i - j) <= spec.window // 2
            elif spec.window is not None and not i - spec.window < j:
                seen[i, j] = False
            if spec.chunk is not None and i // spec.chunk != j // spec.chunk:
                seen[i, j] = False
    o = _attend(spec, weights, path, q, k, v, bias, seen)
    if spec.output_gate is not None:
        gate = 1 / (1 + torch.exp(-linear(weights, f"{path}.gate_proj", x)))
        o = o * (gate if spec.output_gate == "value" else gate.repeat_interleave(spec.head_dim, -1))
    return linear(weights, f"{path}.o_proj", o)


def _kv_shape(layer: LayerSpec) -> tuple[int | None, ...]:
    spec = layer.attention
    assert isinstance(spec, Gqa)
    return spec.n_kv_heads, spec.head_dim, spec.window, spec.chunk


def _row_norm(spec: Gqa, weights: Weights, path: str, x: Tensor) -> Tensor:
    """Over each head, with one weight for all or one for each, or over all heads as one row."""
    if spec.qk_norm is None:
        return x
    if spec.qk_norm_over == "all-heads":
        return norm(spec.qk_norm, weights, path, x.flatten(2)).view(x.shape)
    return norm(spec.qk_norm, weights, path, x)


def cross_attention(spec: Gqa, weights: Weights, path: str, x: Tensor, memory: Tensor) -> Tensor:
    q = _heads(weights, f"{path}.q_proj", x, spec.n_heads)
    k = _heads(weights, f"{path}.k_proj", memory, spec.n_kv_heads)
    v = _heads(weights, f"{path}.v_proj", memory, spec.n_kv_heads)
    q, k = _row_norm(spec, weights, f"{path}.q_norm", q), _row_norm(spec, weights, f"{path}.k_norm", k)
    bias = torch.zeros(spec.n_heads, x.shape[1], memory.shape[1], dtype=torch.float64)
    seen = torch.ones(x.shape[1], memory.shape[1], dtype=torch.bool)
    return linear(weights, f"{path}.o_proj", _attend(spec, weights, path, q, k, v, bias, seen))


def _attend(
    spec: Gqa, weights: Weights, path: str, q: Tensor, k: Tensor, v: Tensor, bias: Tensor, seen: Tensor
) -> Tensor:
    """One head at a time; q, k and v are [b, position, n, h]."""
    scale = 1 / math.sqrt(spec.head_dim) if spec.scale is None else spec.scale
    heads = []
    for head in range(spec.n_heads):
        shared = head // (spec.n_heads // spec.n_kv_heads)
        scores = torch.einsum("bqh,bkh->bqk", q[:, :, head], k[:, :, shared]) * scale
        if spec.softcap is not None:
            scores = spec.softcap * torch.tanh(scores / spec.softcap)
        scores = scores + bias[head]
        most = scores.amax(-1, keepdim=True)
        weight = torch.exp(scores - most) * seen
        total = weight.sum(-1, keepdim=True)
        if spec.sinks:
            total = total + torch.exp(weights[f"{path}.core.sinks"][head] - most)
        weight = weight / total
        heads.append(torch.einsum("bqk,bkh->bqh", weight, v[:, :, shared]))
    return torch.cat(heads, -1)


def _heads(weights: Weights, path: str, x: Tensor, heads: int) -> Tensor:
    y = linear(weights, path, x)
    return torch.stack(y.chunk(heads, -1), dim=2)


def rotate(rope: Rope, x: Tensor, prefix: int) -> Tensor:
    """Pair by pair. With two axes, the first counts the prefix and the second what follows."""
    r = x.shape[-1] if rope.rotary_dim is None else rope.rotary_dim
    width = r // rope.axes
    out = x.clone()
    for position in range(x.shape[1]):
        for axis in range(rope.axes):
            index = position
            if rope.axes > 1:
                index = min(position, max(prefix - 1, 0)) if axis == 0 else max(position - prefix + 1, 0)
            for pair in range(width // 2):
                angle = index * rope.theta ** (-2 * pair / width)
                left, right = axis * width + pair, axis * width + pair + width // 2
                a, b = x[:, position, :, left], x[:, position, :, right]
                out[:, position, :, left] = a * math.cos(angle) - b * math.sin(angle)
                out[:, position, :, right] = b * math.cos(angle) + a * math.sin(angle)
    return out


def _slopes(n: int) -> list[float]:
    power = 2 ** math.floor(math.log2(n))
    slopes = [2 ** (-8 * (i + 1) / power) for i in range(power)]
    return slopes if power == n else slopes + _slopes(2 * power)[0::2][: n - power]


def _bucket(spec: T5Bias, ahead: int, two_sided: bool) -> int:
    """Distances beyond the exact buckets fall into logarithmic ones."""
    buckets, first = spec.n_buckets, 0
    if two_sided:
        buckets //= 2
        first = buckets if ahead > 0 else 0
        distance = abs(ahead)
    else:
        distance = max(-ahead, 0)
    exact = buckets // 2
    if distance < exact:
        return first + distance
    step = math.log(distance / exact) / math.log(spec.max_distance / exact) * (buckets - exact)
    return first + min(exact + int(step + 1e-6), buckets - 1)


def linear(weights: Weights, path: str, x: Tensor) -> Tensor:
    """x times a matrix, plus its bias if it has one."""
    y = torch.einsum("...i,oi->...o", x, weights[f"{path}.weight"])
    return y + weights[f"{path}.bias"] if f"{path}.bias" in weights else y


def norm(spec: Norm, weights: Weights, path: str, x: Tensor) -> Tensor:
    """Over the last axis; weight and bias where there are some."""
    if spec.kind == "layernorm":
        x = x - x.mean(-1, keepdim=True)
    y = x / torch.sqrt((x * x).mean(-1, keepdim=True) + spec.eps)
    if f"{path}.weight" in weights:
        y = y * (weights[f"{path}.weight"] + (1 if getattr(spec, "unit_offset", False) else 0))
    return y + weights[f"{path}.bias"] if f"{path}.bias" in weights else y
