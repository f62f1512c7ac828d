"""What stands behind the layers: logits, what makes rows ready for them, and BERT's pooler.

Axis legend: B batch, T tokens, D d_model, W width of the token table (D, unless the spec says otherwise), V vocabulary.
"""

from __future__ import annotations

from typing import assert_never

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llmprof.spec import arch
from llmprof.twin.ffn import Act
from llmprof.twin.in_place import divided, multiplied, squashed
from llmprof.twin.leaf import Material
from llmprof.twin.linear import Linear, PackedMatrix
from llmprof.twin.norms import norm_module
from llmprof.workload import Logits


def _rows_of(x: Tensor, logits: Logits) -> Tensor:
    """The rows of x that logits are made of: all, or the last position of each sequence as `[B, 1, ..]`."""
    return x[:, -1:].contiguous() if logits == "last" else x


class LanguageHead(Linear):
    """Logits `[B, T, V]` of all positions, or `[B, 1, V]` of the last ones; of single rows `[n, W]` they are `[n, V]`.

    `table` is the token table `[V, W]` where the head is tied to it: the same parameter, not a copy.
    """

    def __init__(
        self,
        width: int,
        vocab_size: int,
        *,
        bias: bool,
        input_scale: float | None,
        output_scale: float | None,
        softcap: float | None,
        table: nn.Parameter | None,
        material: Material,
    ) -> None:
        super().__init__(width, vocab_size, bias=bias, material=material, shared=table)
        self.input_scale = input_scale
        self.output_scale = output_scale
        self.softcap = softcap

    def forward(self, x: Tensor, logits: Logits = "all") -> Tensor:
        weight = self.weight.to(x.dtype)
        bias = None if self.bias is None else self.bias.to(x.dtype)
        rows = _rows_of(x, logits)
        if self.input_scale is not None:
            rows = rows * self.input_scale
        out = F.linear(rows, weight, bias)
        del rows, weight, bias
        if self.output_scale is not None:
            out = multiplied(out, self.output_scale)
        if self.softcap is not None:
            out = divided(out, self.softcap)
            out = squashed(out)
            out = multiplied(out, self.softcap)
        return out


class MlmTransform(nn.Module):
    """The three modules between BERT's last layer and its logits. The model calls each of them itself."""

    def __init__(self, spec: arch.MlmHead, d_model: int, material: Material) -> None:
        super().__init__()
        self.dense = Linear(d_model, d_model, bias=spec.dense_bias, material=material)
        self.act = Act(F.gelu)
        self.norm = norm_module(spec.norm, d_model, material)


class HeadProjection(Linear):
    """Rows of d_model as rows of the token table's width: `[B, T, D] -> [B, T, W]`, or `[B, 1, W]` of the last ones."""

    def forward(self, x: Tensor, logits: Logits = "all") -> Tensor:
        weight = self.weight.to(x.dtype)
        return F.linear(_rows_of(x, logits), weight)


class PackedHeadProjection(PackedMatrix, HeadProjection):
    """The same with a matrix that is stored packed."""


def _head_projection(d_model: int, width: int, material: Material) -> HeadProjection:
    if material.packing is None:
        return HeadProjection(d_model, width, bias=False, material=material)
    return PackedHeadProjection(d_model, width, bias=False, material=material, packing=material.packing)


class Narrowing(nn.Module):
    """The one module between the last layer and the logits of a token table of its own width. The model calls it."""

    def __init__(self, d_model: int, width: int, material: Material) -> None:
        super().__init__()
        self.proj = _head_projection(d_model, width, material)


class Pooler(Linear):
    """tanh(W x_0 + b) of the first token: `[B, T, D] -> [B, D]`."""

    def __init__(self, d_model: int, material: Material) -> None:
        super().__init__(d_model, d_model, bias=True, material=material)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(super().forward(x[:, 0]))


def before_logits(spec: arch.ArchSpec, material: Material) -> MlmTransform | Narrowing | None:
    """The module `head`: what stands between the layers and the logits, if anything does."""
    match spec.head:
        case arch.NoHead():
            return None
        case arch.LmHead():
            width = spec.embedding_width
            return None if width is None else Narrowing(spec.d_model, width, material)
        case arch.MlmHead() as head:
            return MlmTransform(head, spec.d_model, material)
        case never:
            assert_never(never)


def language_head(spec: arch.ArchSpec, table: nn.Parameter, material: Material) -> LanguageHead | None:
    """The module that makes logits, if the model has one. `table` is the token table."""
    match spec.head:
        case arch.NoHead():
            return None
        case arch.LmHead() as head:
            bias, input_scale, output_scale, softcap = head.bias, head.input_scale, head.output_scale, head.softcap
        case arch.MlmHead():
            bias, input_scale, output_scale, softcap = True, None, None, None
        case never:
            assert_never(never)
    return LanguageHead(
        spec.embedding_width or spec.d_model,
        spec.vocab_size,
        bias=bias,
        input_scale=input_scale,
        output_scale=output_scale,
        softcap=softcap,
        table=table if spec.tied_embeddings else None,
        material=material,
    )
