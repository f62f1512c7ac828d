"""The architecture as tensor-parallel ranks hold it, with heads repeated and the vocabulary padded, and its weights.

docs/reference-sharding.md, section 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from llmprof.spec import arch
from llmprof.twin.attention import SelfAttention
from llmprof.twin.model import Twin


def widened(spec: arch.ArchSpec, ranks: int) -> arch.ArchSpec:
    """`spec` with at least as many KV heads as `ranks`, and a vocabulary that they can share."""
    stacks = tuple(
        replace(stack, layers=tuple(_with_heads(layer, ranks) for layer in stack.layers)) for stack in spec.stacks
    )
    return replace(spec, stacks=stacks, vocab_size=-(-spec.vocab_size // ranks) * ranks)


def _with_heads(layer: arch.LayerSpec, ranks: int) -> arch.LayerSpec:
    gqa = layer.attention
    if not isinstance(gqa, arch.Gqa):
        return layer
    return replace(layer, attention=replace(gqa, n_kv_heads=max(gqa.n_kv_heads, ranks)))


def fill(wide: Twin, twin: Twin) -> None:
    """Give `wide`, the twin of a widened architecture, the weights of `twin`, packed ones as they are stored.

    A KV head that n ranks share is there n times; rows of the vocabulary that pad it are zero.
    """
    heads = {module.path: module.keys.number for _, module in twin.named_modules() if isinstance(module, SelfAttention)}
    of = dict(_stored(twin))
    with torch.no_grad():
        for name, target in _stored(wide):
            target.copy_(_enlarged(of[name], target, heads.get(name.rpartition(".")[0].rpartition(".")[0])))


def _stored(twin: Twin) -> Iterator[tuple[str, Tensor]]:
    yield from twin.named_parameters()
    yield from twin.named_buffers()


def _enlarged(source: Tensor, target: Tensor, n_kv_heads: int | None) -> Tensor:
    """`source` with as many rows as `target`: repeated head by head in an attention, padded elsewhere."""
    if source.shape == target.shape:
        return source
    if n_kv_heads is None:
        return torch.cat([source, source.new_zeros(target.shape[0] - source.shape[0], *source.shape[1:])])
    by_head = source.view(n_kv_heads, -1, *source.shape[1:])
    return by_head.repeat_interleave(target.shape[0] // source.shape[0], dim=0).flatten(0, 1)
