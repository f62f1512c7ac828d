"""One layer: attention, cross-attention and feed-forward, joined by residuals and norms.

Axis legend: B batch, T tokens, M source tokens, D d_model. Every forward takes and returns `[B, T, D]`.

The bodies read as section 5 of docs/reference-execution.md and section 2 of docs/reference-options.md write them:
which names hold a tensor, and for how long, is part of what is measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, assert_never

from torch import Tensor

from llmprof.spec import arch
from llmprof.twin.attention import CrossAttention
from llmprof.twin.desk import Prepares
from llmprof.twin.dropout import Dropout
from llmprof.twin.families import family
from llmprof.twin.ffn import ffn_module
from llmprof.twin.leaf import Branch, Material, TensorLeaf
from llmprof.twin.norms import norm_module
from llmprof.twin.passes import StackPass
from llmprof.twin.projections import Site
from llmprof.twin.recompute import computed_again
from llmprof.twin.residuals import ParallelResidual, Residual


class Layer(Branch):
    """What all layers have: self-attention, a feed-forward network and the norms before or behind them.

    A part that the spec calls ``none`` is not there, nor are its norms and its residual.
    """

    def __init__(self, spec: arch.LayerSpec, d_model: int, *, mask: arch.Mask, path: str, material: Material) -> None:
        super().__init__()
        self.spec = spec
        self.attn_norm: TensorLeaf | None = None
        self.attn: Prepares[Any] | None = None
        # They come and go with a training pass (llmprof.twin.training).
        self.attn_dropout: Dropout | None = None
        self.ffn_dropout: Dropout | None = None
        site = Site(
            d_model=d_model,
            gain=spec.residual.beta,
            position=spec.position,
            mask=mask,
            path=f"{path}.attn",
            material=material,
        )
        if not isinstance(spec.attention, arch.NoAttention):
            if spec.first_norm and spec.placement != "reordered":
                self.attn_norm = norm_module(spec.norm, d_model, material)
            self.attn = family(spec.attention).build(site)
        self.ffn: Branch | None = None
        if not isinstance(spec.ffn, arch.NoFfn):
            self.ffn = ffn_module(spec.ffn, replace(site, path=f"{path}.ffn"))

    def drop(self, probability: float | None) -> None:
        """Drop what the blocks put out with `probability` from now on; None: nothing, and the leaves are gone."""
        self.attn_dropout = None if probability is None or self.attn is None else Dropout(probability)
        self.ffn_dropout = None if probability is None or self.ffn is None else Dropout(probability)

    def forward(self, x: Tensor, memory: Tensor | None, run: StackPass, relative_bias: Tensor | None) -> Tensor:
        if run.layers_again:
            return computed_again(self.through, x, memory, run, relative_bias, draws=run.dropout > 0)
        return self.through(x, memory, run, relative_bias)

    def through(self, x: Tensor, memory: Tensor | None, run: StackPass, relative_bias: Tensor | None) -> Tensor:
        """What the layer makes of x."""
        raise NotImplementedError

    @property
    def preparing(self) -> Iterator[Prepares[Any]]:
        """The modules of this layer that prepare something for a pass, in the order in which they run."""
        if self.attn is not None:
            yield self.attn
        if isinstance(self.ffn, Prepares):
            yield self.ffn


class SerialLayer(Layer):
    """Attention, then cross-attention where there is one, then feed-forward, each with a residual of its own."""

    def __init__(self, spec: arch.LayerSpec, d_model: int, *, mask: arch.Mask, path: str, material: Material) -> None:
        super().__init__(spec, d_model, mask=mask, path=path, material=material)
        inner = spec.placement != "reordered"
        self.mixer: Prepares[Any] | None = None
        if spec.mixer is not None:
            beside = Site(
                d_model=d_model,
                gain=spec.residual.beta,
                position=arch.NoPosition(),
                mask=mask,
                path=f"{path}.mixer",
                material=material,
            )
            self.mixer = family(spec.mixer).build(beside)
        if self.attn is not None:
            self.attn_residual: TensorLeaf = (Residual if self.mixer is None else ParallelResidual)(spec.residual)
        self.cross_attn: CrossAttention | None = None
        self.cross_norm: TensorLeaf | None = None
        self.cross_dropout: Dropout | None = None
        if spec.cross_attention is not None:
            if inner:
                self.cross_norm = norm_module(spec.norm, d_model, material)
            site = Site(
                d_model=d_model,
                gain=spec.residual.beta,
                position=arch.NoPosition(),
                mask=mask,
                path=f"{path}.cross_attn",
                material=material,
            )
            self.cross_attn = CrossAttention(spec.cross_attention, site)
            self.cross_residual = Residual(spec.residual)
        self.ffn_norm: TensorLeaf | None = None
        if self.ffn is not None:
            if inner:
                self.ffn_norm = norm_module(spec.norm, d_model, material)
            self.ffn_residual = Residual(spec.residual)

    def drop(self, probability: float | None) -> None:
        super().drop(probability)
        self.cross_dropout = None if probability is None or self.cross_attn is None else Dropout(probability)

    @property
    def preparing(self) -> Iterator[Prepares[Any]]:
        if self.attn is not None:
            yield self.attn
        if self.mixer is not None:
            yield self.mixer
        if self.cross_attn is not None:
            yield self.cross_attn
        if isinstance(self.ffn, Prepares):
            yield self.ffn


class PreNormLayer(SerialLayer):
    """x + f(norm(x)). The first norm can be missing. A mixer reads what the attention reads."""

    def through(self, x: Tensor, memory: Tensor | None, run: StackPass, relative_bias: Tensor | None) -> Tensor:
        if self.attn is not None and self.mixer is not None:
            y = _behind(self.attn_norm, x)
            a = self.attn(y, run, relative_bias)
            m = self.mixer(y, run, relative_bias)
            del y
            x = self.attn_residual(x, a, m)
            del a, m
        elif self.attn is not None:
            x = self.attn_residual(
                x, _behind(self.attn_dropout, self.attn(_behind(self.attn_norm, x), run, relative_bias))
            )
        if self.cross_attn is not None:
            x = self.cross_residual(
                x, _behind(self.cross_dropout, self.cross_attn(_behind(self.cross_norm, x), memory, run))
            )
        if self.ffn is not None:
            x = self.ffn_residual(x, _behind(self.ffn_dropout, self.ffn(_behind(self.ffn_norm, x), run)))
        return x


class PostNormLayer(SerialLayer):
    """norm(x + f(x))."""

    def through(self, x: Tensor, memory: Tensor | None, run: StackPass, relative_bias: Tensor | None) -> Tensor:
        # What a residual takes is dead before the norm behind it runs (reference-execution.md, section 3, rule 3);
        # in one expression the name x would keep it alive.
        if self.attn is not None:
            joined = self.attn_residual(x, _behind(self.attn_dropout, self.attn(x, run, relative_bias)))
            del x
            x = _behind(self.attn_norm, joined)
            del joined
        if self.cross_attn is not None:
            joined = self.cross_residual(x, _behind(self.cross_dropout, self.cross_attn(x, memory, run)))
            del x
            x = _behind(self.cross_norm, joined)
            del joined
        if self.ffn is not None:
            joined = self.ffn_residual(x, _behind(self.ffn_dropout, self.ffn(x, run)))
            del x
            x = _behind(self.ffn_norm, joined)
        return x


class OutputNormLayer(SerialLayer):
    """x + norm(f(x)), the reordered placement (https://arxiv.org/abs/2501.00656); what f reads has no norm."""

    def __init__(self, spec: arch.LayerSpec, d_model: int, *, mask: arch.Mask, path: str, material: Material) -> None:
        super().__init__(spec, d_model, mask=mask, path=path, material=material)
        self.attn_post_norm: TensorLeaf | None = None
        self.cross_post_norm: TensorLeaf | None = None
        self.ffn_post_norm: TensorLeaf | None = None
        if self.attn is not None:
            self.attn_post_norm = norm_module(spec.norm, d_model, material)
        if self.cross_attn is not None:
            self.cross_post_norm = norm_module(spec.norm, d_model, material)
        if self.ffn is not None:
            self.ffn_post_norm = norm_module(spec.norm, d_model, material)

    def through(self, x: Tensor, memory: Tensor | None, run: StackPass, relative_bias: Tensor | None) -> Tensor:
        if self.attn is not None:
            f = self.attn(_behind(self.attn_norm, x), run, relative_bias)
            f = _behind(self.attn_post_norm, f)
            f = _behind(self.attn_dropout, f)
            x = self.attn_residual(x, f)
            del f
        if self.cross_attn is not None:
            f = self.cross_attn(_behind(self.cross_norm, x), memory, run)
            f = _behind(self.cross_post_norm, f)
            f = _behind(self.cross_dropout, f)
            x = self.cross_residual(x, f)
            del f
        if self.ffn is not None:
            f = self.ffn(_behind(self.ffn_norm, x), run)
            f = _behind(self.ffn_post_norm, f)
            f = _behind(self.ffn_dropout, f)
            x = self.ffn_residual(x, f)
        return x


class SandwichNormLayer(OutputNormLayer):
    """x + norm(f(norm(x))). The first norm can be missing."""


class ParallelLayer(Layer):
    """x + attn(norm(x)) + ffn(norm(x)), with one norm for both halves or one for each."""

    def __init__(self, spec: arch.LayerSpec, d_model: int, *, mask: arch.Mask, path: str, material: Material) -> None:
        super().__init__(spec, d_model, mask=mask, path=path, material=material)
        self.ffn_norm = norm_module(spec.norm, d_model, material) if spec.parallel_norms == 2 else None
        self.residual = ParallelResidual(spec.residual)

    def through(self, x: Tensor, memory: Tensor | None, run: StackPass, relative_bias: Tensor | None) -> Tensor:
        assert self.attn is not None, "parallel blocks have both halves"
        assert self.ffn is not None, "parallel blocks have both halves"
        if self.ffn_norm is None:
            y = _behind(self.attn_norm, x)
            a = _behind(self.attn_dropout, self.attn(y, run, relative_bias))
            f = _behind(self.ffn_dropout, self.ffn(y, run))
            del y
        else:
            a = _behind(self.attn_dropout, self.attn(_behind(self.attn_norm, x), run, relative_bias))
            f = _behind(self.ffn_dropout, self.ffn(self.ffn_norm(x), run))
        return self.residual(x, a, f)


def _behind(leaf: TensorLeaf | None, x: Tensor) -> Tensor:
    """x behind a norm or a dropout, or x itself where that does not exist."""
    return x if leaf is None else leaf(x)


def layer_module(spec: arch.LayerSpec, d_model: int, *, mask: arch.Mask, path: str, material: Material) -> Layer:
    """The module of one layer in a stack with `mask`."""
    make: type[Layer]
    match spec.block, spec.placement:
        case "parallel", "pre":
            assert spec.cross_attention is None, "parallel blocks have no cross-attention"
            make = ParallelLayer
        case "parallel", _:
            raise AssertionError("parallel blocks are pre-norm")
        case "serial", "pre":
            make = PreNormLayer
        case "serial", "post":
            make = PostNormLayer
        case "serial", "sandwich":
            make = SandwichNormLayer
        case "serial", "reordered":
            make = OutputNormLayer
        case never:
            assert_never(never)
    return make(spec, d_model, mask=mask, path=path, material=material)
