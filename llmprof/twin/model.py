"""The twin: an architecture as torch modules, at the paths of docs/reference-execution.md, section 5.

Axis legend: B batch, T tokens, M source tokens, D d_model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, assert_never, cast

from torch import Tensor, nn

from llmprof.errors import InputError
from llmprof.spec import arch
from llmprof.twin.audio import Conv1, Conv2
from llmprof.twin.block import Layer, layer_module
from llmprof.twin.dropout import Dropout
from llmprof.twin.embeddings import AddedEmbedding, AddedSinusoid, Scale, TokenEmbedding
from llmprof.twin.heads import LanguageHead, MlmTransform, Narrowing, Pooler, before_logits, language_head
from llmprof.twin.leaf import Leaf, Material, TensorLeaf
from llmprof.twin.linear import layer_matrix
from llmprof.twin.loss import Loss, LossRows
from llmprof.twin.mtp import FurtherTokens
from llmprof.twin.norms import norm_module
from llmprof.twin.passes import Output, Pass
from llmprof.twin.positions import RelativeBias
from llmprof.workload import Dtypes


@dataclass(frozen=True, slots=True, kw_only=True)
class StackModules:
    """The modules of one stack by role. A stack is no module: the model calls these one after another.

    `home` is the module that they are registered at.
    """

    spec: arch.Stack
    home: nn.Module
    front: tuple[Conv1, Conv2] | None
    """In place of the token embedding, its scale and the segments."""
    embed_scale: TensorLeaf | None
    type_embed: TensorLeaf | None
    pos_embed: TensorLeaf | None
    embed_norm: TensorLeaf | None
    rel_bias: TensorLeaf | None
    layers: tuple[Layer, ...]
    final_norm: TensorLeaf | None

    @property
    def embed_dropout(self) -> TensorLeaf | None:
        """What comes and goes with a training pass that drops something."""
        return cast("TensorLeaf | None", self.home.embed_dropout)


class Twin(nn.Module):
    """An architecture built in torch. Made by `llmprof.twin.build.build`, run by `llmprof.twin.session.Session`.

    `mtp`: whether the layers that predict further tokens exist.
    """

    def __init__(self, spec: arch.ArchSpec, dtypes: Dtypes, material: Material, *, mtp: bool = False) -> None:
        super().__init__()
        self.arch = spec
        self.dtypes = dtypes
        self.material = material
        d, width = spec.d_model, spec.embedding_width
        self.embed = TokenEmbedding(spec.vocab_size, d if width is None else width, material)
        self.embed_proj = None if width is None else layer_matrix(width, d, bias=False, material=material)
        self.stacks = tuple(self._furnish(stack) for stack in spec.stacks)
        self.pooler = Pooler(d, material) if spec.pooler else None
        self.head: MlmTransform | Narrowing | None = before_logits(spec, material)
        self.lm_head: LanguageHead | None = language_head(spec, self.embed.weight, material)
        self.mtp: FurtherTokens | None = None
        if mtp:
            if spec.mtp is None:
                raise InputError(f"{spec.label} has no layers that predict further tokens (mtp)")
            self.mtp = FurtherTokens(spec.mtp, d, material)
        self.place: tuple[range, ...] | None = None
        """The positions of its tokens, where they are those of one rank among several (llmprof.twin.sharded_ring)."""
        # Leaves of a training pass: they come and go with it (llmprof.twin.training).
        self.loss_rows: LossRows | None = None
        self.loss: Loss | None = None

    if TYPE_CHECKING:

        def __call__(self, *args: Any) -> Output: ...

    @property
    def leaves(self) -> Iterator[tuple[str, Leaf]]:
        """(path, module) of every leaf, the token table first."""
        return ((path, module) for path, module in self.named_modules() if isinstance(module, Leaf))

    def drop(self, probability: float | None) -> None:
        """Drop with `probability` behind the embeddings and every block from now on; None: nothing, without leaves."""
        for stack in self.stacks:
            stack.home.add_module("embed_dropout", None if probability is None else Dropout(probability))
            for layer in stack.layers:
                layer.drop(probability)

    def _furnish(self, stack: arch.Stack) -> StackModules:
        """Build the modules of `stack` and register them below its prefix."""
        home: nn.Module = self
        if stack.prefix:
            home = nn.Module()
            self.add_module(stack.prefix.removesuffix("."), home)
        spec, material = self.arch, self.material
        d, front, norm, final = spec.d_model, stack.front, stack.embedding_norm, stack.final_norm
        segmented = spec.type_vocab_size and len(spec.stacks) == 1
        layers = tuple(
            layer_module(
                layer,
                d,
                mask=stack.mask,
                path=f"{stack.prefix}layers.{i}",
                material=material,
            )
            for i, layer in enumerate(stack.layers)
        )
        modules = StackModules(
            spec=stack,
            home=home,
            front=None if front is None else (Conv1(front, d, material), Conv2(front, d, material)),
            embed_scale=None if spec.embedding_scale is None or front is not None else Scale(spec.embedding_scale),
            type_embed=AddedEmbedding(spec.type_vocab_size, d, material) if segmented else None,
            pos_embed=_position_module(stack.embedded_position, d, material),
            embed_norm=None if norm is None else norm_module(norm, d, material),
            rel_bias=_relative_bias(stack, material),
            layers=layers,
            final_norm=None if final is None else norm_module(final, d, material),
        )
        if modules.front is not None:
            home.conv1, home.conv2 = modules.front
        for name in ("embed_scale", "type_embed", "pos_embed", "embed_norm", "rel_bias"):
            home.add_module(name, getattr(modules, name))
        home.add_module("layers", nn.ModuleList(layers))
        home.add_module("final_norm", modules.final_norm)
        home.add_module("embed_dropout", None)
        return modules

    def forward(self, run: Pass) -> Output:
        """One pass. This is one function on purpose: a name that holds a tensor here keeps it alive."""
        memory: Tensor | None = None
        for stack, now in zip(self.stacks, run.stacks, strict=True):
            if now is None:
                continue
            if stack.front is None:
                x = self.embed(now.tokens)
                if self.embed_proj is not None:
                    x = self.embed_proj(x)
            else:
                conv1, conv2 = stack.front
                x = conv1(now.features)
                x = conv2(x)
            if stack.embed_scale is not None:
                x = stack.embed_scale(x)
            if stack.type_embed is not None:
                x = stack.type_embed(x, now.segments)
            if stack.pos_embed is not None:
                x = stack.pos_embed(x, now.positions)
            if stack.embed_norm is not None:
                x = stack.embed_norm(x)
            if stack.embed_dropout is not None:
                x = stack.embed_dropout(x)
            bias = None if stack.rel_bias is None else stack.rel_bias(now.buckets, now.buckets_mask)
            for layer in stack.layers:
                x = layer(x, memory, now, bias)
                if layer.attn is not None:
                    now.loans.returned(layer.attn.path)
            del bias
            memory = None
            if stack.final_norm is not None:
                x = stack.final_norm(x)
            if stack is not self.stacks[-1]:
                memory = x
        pooled = None if self.pooler is None or run.loss is not None else self.pooler(x)
        if self.lm_head is None or run.logits == "none":
            return Output(logits=None, hidden=x, pooled=pooled)
        if self.loss_rows is not None:
            assert run.loss is not None
            x = self.loss_rows(x, run.loss.positions)
        logits = run.logits
        match self.head:
            case MlmTransform() as head:
                # One statement each: in a single expression the name x would keep the hidden state alive.
                x = head.dense(x)
                x = head.act(x)
                x = head.norm(x)
            case Narrowing() as head:
                x = head.proj(x, logits)
                logits = "all"  # of the rows that are left
        hidden = [x] if run.next_tokens else []
        x = self.lm_head(x, logits)
        further = self._further(hidden, run) if hidden else ()
        loss = None if self.loss is None or run.loss is None else self.loss(x, run.loss.targets)
        return Output(logits=x, hidden=None, pooled=pooled, further=further, loss=loss)

    def _further(self, hidden: list[Tensor], run: Pass) -> tuple[Tensor, ...]:
        """Further logits, of the layers that predict further tokens one after another.

        Takes the hidden state `[B, T, D]` out of its list: it is to die with its last use.
        """
        main, now, h = self.stacks[-1], run.stacks[-1], hidden.pop()
        assert self.mtp is not None
        assert self.lm_head is not None
        further: tuple[Tensor, ...] = ()
        for i, (tokens, (join, layer, norm)) in enumerate(zip(run.next_tokens, self.mtp.steps, strict=True)):
            e = self.embed(tokens)
            if main.embed_scale is not None:
                e = main.embed_scale(e)
            y = join(e, h)
            del e
            h = layer(y, None, now, None)
            del y
            y = norm(h)
            if i == len(run.next_tokens) - 1:
                del h
            further = (*further, self.lm_head(y, run.logits))
            del y
        return further


def _position_module(spec: arch.EmbeddedPosition | None, d_model: int, material: Material) -> TensorLeaf | None:
    match spec:
        case None:
            return None
        case arch.Learned(rows=rows):
            return AddedEmbedding(rows, d_model, material)
        case arch.Sinusoidal(stored_rows=None):
            return AddedSinusoid()
        case arch.Sinusoidal(stored_rows=rows):
            assert rows is not None
            return AddedEmbedding(rows, d_model, material)
        case never:
            assert_never(never)


def _relative_bias(stack: arch.Stack, material: Material) -> RelativeBias | None:
    for layer in stack.layers:
        if isinstance(layer.position, arch.T5Bias) and not layer.position.per_layer:
            assert isinstance(layer.attention, arch.Gqa), "a bias on the scores goes with gqa alone"
            return RelativeBias(layer.position, layer.attention.n_heads, material)
    return None
