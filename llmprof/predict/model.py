"""The model: one function that calls its leaves and layers in order (reference-execution.md, section 5, `model`).

Equal layers are lowered once and called as often as they stand. Axis legend: see `tensor.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import assert_never

from llmprof.paths import folded
from llmprof.predict import embedding, head, mtp, objective
from llmprof.predict.calls import Call, Segment
from llmprof.predict.dropout import drop_leaf
from llmprof.predict.gqa import GqaLowering
from llmprof.predict.layer import Caches, layer_caches, lower_layer
from llmprof.predict.leaf import Leaves
from llmprof.predict.leaf import norm as norm_parameters
from llmprof.predict.leaves import closing_leaves, embedding_leaves, grouped, layer_leaves, opening_leaves
from llmprof.predict.lowering import is_cache, mixers
from llmprof.predict.norms import normalise
from llmprof.predict.op import Op
from llmprof.predict.setting import Setting, Side, sides
from llmprof.predict.shared_kv import KeysAndValues, lenders
from llmprof.predict.tape import Tape
from llmprof.predict.tensor import Home, Tensor, new
from llmprof.spec.arch import LayerSpec, LmHead, MlmHead, NoHead


@dataclass(frozen=True, slots=True, eq=False)
class LayerGroup:
    """Equal layers of one stack. `segment` is None where the stack does not run; `caches` are those of one layer.

    `prefix` stands before ``layers.`` in their paths: that of the stack, or ``mtp.``.
    """

    side: Side
    prefix: str
    layer: LayerSpec
    indices: Sequence[int]
    leaves: Leaves
    caches: Caches
    segment: Segment | None

    @property
    def count(self) -> int:
        """How many layers it stands for."""
        return len(self.indices)

    @property
    def ops(self) -> tuple[Op, ...]:
        """The kernels of one layer."""
        return () if self.segment is None else self.segment.ops

    @property
    def folded_path(self) -> str:
        """The path of all its layers: ``layers.{0-79}``."""
        return f"{self.prefix}layers.{folded(self.indices)}"

    def factor_name(self, program: Program) -> str:
        """What a formula calls the number of these layers: ``layers``, or their path where there are other kinds."""
        return "layers" if len(program.groups) == 1 else self.folded_path

    @property
    def kernels(self) -> tuple[str, ...]:
        """The reference names of the attention cores that one layer launches; none where the stack does not run."""
        if self.segment is None:
            return ()
        made = (each.kernels(self.side, self.layer.position) for each in mixers(self.layer).values())
        kernels = tuple(name for names in made for name in names)
        cross = self.layer.cross_attention
        return kernels if cross is None else (*kernels, *GqaLowering(cross).source_kernels(self.side))

    @property
    def kept(self) -> Mapping[str, Tensor]:
        """All that one layer keeps, by its path below the layer."""
        return {f"{path}.{name}": tensor for path, held in self.caches.items() for name, tensor in held.items()}

    def cache(self, path: str) -> Mapping[str, Tensor]:
        """What one layer keeps below `path` (``attn`` or ``cross_attn``) with rows for tokens: keys and values."""
        return {name: held for name, held in self.kept.items() if name.startswith(f"{path}.") and is_cache(name)}

    @property
    def state(self) -> Mapping[str, Tensor]:
        """What one layer keeps of a fixed size, whatever the context."""
        return {name: held for name, held in self.kept.items() if not is_cache(name)}

    @property
    def growth(self) -> Mapping[str, tuple[Tensor, int]]:
        """What one further token adds to, while no window is full: a row of one sequence, and per how many tokens.

        The keys are paths below the layer. Cross-attention's cache does not grow.
        """
        return {
            f"{path}.{name}": (_row(tensor), made.tokens_per_row[name])
            for path, made in mixers(self.layer).items()
            for name, tensor in self.caches.get(path, {}).items()
            if name in made.tokens_per_row
        }


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """A lowered forward pass.

    `items` are the kernels outside layers and the calls of layers, `returned` what they come to; `ops` are those
    kernels alone. `outer` are the leaves outside layers, by full path; those of the layers of `groups` have paths
    relative to their layer. `live` are the tensors that make up `peak_bytes`, constants too.
    """

    setting: Setting
    items: tuple[Op | Call, ...]
    returned: tuple[Tensor, ...]
    ops: tuple[Op, ...]
    outer: Leaves
    groups: tuple[LayerGroup, ...]
    peak_bytes: int
    live: tuple[Tensor, ...]


def lower(setting: Setting) -> Program:
    """Lower the pass of `setting`, kernel by kernel."""
    arch = setting.arch
    outer = embedding_leaves(arch)
    for stack in arch.stacks:
        outer.update(opening_leaves(arch, stack, dropout=setting.drops))
        if stack.final_norm is not None:
            outer[f"{stack.prefix}final_norm"] = norm_parameters(stack.final_norm, "d", arch.d_model)
    outer.update(closing_leaves(arch))
    outer = objective.with_loss(outer, setting.workload)
    if setting.workload.mtp:
        outer.update(mtp.outer_leaves(arch))

    tape = _tape(setting, outer)
    groups: list[LayerGroup] = []
    memory: Tensor | None = None
    *encoders, main = sides(setting)
    for encoder in encoders:
        memory = _stack(tape, encoder, groups, None)
    x = _stack(tape, main, groups, memory)
    assert x is not None
    returned = _close(tape, setting, x)
    if setting.workload.mtp:
        returned = (*returned, *_further(tape, main, groups, x))

    peak, live = tape.peak(returned)
    constants = tuple(setting.constants.values())
    return Program(
        setting=setting,
        items=tuple(tape.items),
        returned=returned,
        ops=tuple(item for item in tape.items if isinstance(item, Op)),
        outer=outer,
        groups=tuple(groups),
        peak_bytes=peak + sum(constant.nbytes for constant in constants),
        live=(*constants, *live),
    )


def _tape(setting: Setting, leaves: Leaves) -> Tape:
    """An empty tape for the pass of `setting`, which in training keeps what a backward may want."""
    return Tape(setting.activations, _source(setting, leaves), keeps=setting.workload.phase == "train")


def _source(setting: Setting, leaves: Leaves) -> Callable[[str], Sequence[Tensor]]:
    """Where a tape finds the parameters of a leaf."""
    return lambda path: [new(p.name, p.axes, setting.stored_format(p), Home.WEIGHT) for p in leaves[path]]


def _stack(tape: Tape, side: Side, groups: list[LayerGroup], memory: Tensor | None) -> Tensor | None:
    """Embedding, layers and final norm of one stack; None where it does not run."""
    setting, stack = side.setting, side.stack
    if not side.runs:
        groups.extend(_group(side, layer, indices, None) for layer, indices in grouped(stack).items())
        return None
    x = embedding.open_stack(tape, side, embedding.enter(tape, side))
    x = drop_leaf(tape, setting, f"{stack.prefix}embed_dropout", x)
    relative = embedding.relative_bias(tape, side)
    x = _layers(tape, side, groups, x, memory, relative)
    if stack.final_norm is not None:
        x = normalise(tape, setting, f"{stack.prefix}final_norm", stack.final_norm, x)
    return x


def _layers(
    tape: Tape, side: Side, groups: list[LayerGroup], x: Tensor, memory: Tensor | None, relative: Tensor | None
) -> Tensor:
    """The layers of one stack. What a core took that later layers borrow lives until the last of them has returned."""
    lender_of = lenders(side.stack)
    lending = set(lender_of.values())
    segments: dict[int, Segment] = {}
    for layer, indices in grouped(side.stack).items():
        lender = lender_of.get(indices[0])
        borrowed = None if lender is None else KeysAndValues(*segments[lender].lent).stand_in(Home.INPUT)
        inputs = (x, memory, relative, borrowed)
        group = _group(side, layer, indices, inputs, lends=indices[0] in lending)
        groups.append(group)
        assert group.segment is not None
        alike = {indices[0] in lending: group.segment}
        for index in indices:
            lends = index in lending
            if lends not in alike:
                alike[lends] = _segment(side, layer, group.leaves, group.caches, inputs, lends=lends)
            segments[index] = alike[lends]
    held = [tensor for tensor in (memory, relative) if tensor is not None]
    lent: dict[int, KeysAndValues] = {}
    for index in range(len(side.stack.layers)):
        segment = segments[index]
        if index in lending:
            lent[index] = KeysAndValues(*segment.lent).stand_in(Home.ACTIVATION)
        takes = (x, *held, *(lent[lender_of[index]] if index in lender_of else ()))
        x = tape.call(f"{side.stack.prefix}layers.{index}", segment, *takes, lends=lent.get(index, ()))
    return x


def _further(tape: Tape, side: Side, groups: list[LayerGroup], x: Tensor) -> Sequence[Tensor]:
    """The logits of the layers that predict further tokens, from x, what the main stack came to."""
    arch = side.setting.arch
    assert arch.mtp is not None
    assert isinstance(arch.head, LmHead), arch.head
    inputs = (x, None, None, None)
    group = _group(side, arch.mtp.layer, range(arch.mtp.count), inputs, lends=False, prefix=mtp.PREFIX)
    groups.append(group)
    assert group.segment is not None
    return mtp.further_logits(tape, side, arch.mtp, arch.head, group.segment, x)


Inputs = tuple[Tensor, Tensor | None, Tensor | None, KeysAndValues | None]
"""What layers are called on: their rows, the encoder's, the stack's T5 bias, borrowed keys and values."""


def _group(
    side: Side,
    layer: LayerSpec,
    indices: Sequence[int],
    inputs: Inputs | None,
    *,
    lends: bool = False,
    prefix: str | None = None,
) -> LayerGroup:
    """Equal layers; not lowered at all without `inputs`."""
    setting = side.setting
    leaves = layer_leaves(layer, setting.arch.d_model, cached=side.decodes, dropout=setting.drops)
    caches = layer_caches(side, layer)
    segment = None if inputs is None else _segment(side, layer, leaves, caches, inputs, lends=lends)
    return LayerGroup(side, side.stack.prefix if prefix is None else prefix, layer, indices, leaves, caches, segment)


def _segment(side: Side, layer: LayerSpec, leaves: Leaves, caches: Caches, inputs: Inputs, *, lends: bool) -> Segment:
    """A layer, lowered on stand-ins for its inputs; what it `lends` outlives it."""
    x, memory, relative, borrowed = inputs
    tape = _tape(side.setting, leaves)
    seen = (_stand_in(x), memory and _stand_in(memory), relative and _stand_in(relative), borrowed)
    result, taken = lower_layer(tape, side, layer, caches, *seen)
    given = [tensor for tensor in seen[:3] if tensor is not None]
    return tape.segment(result, (taken or ()) if lends else (), (*given, *(borrowed or ())))


def _row(held: Tensor) -> Tensor:
    """One row of one sequence of what is kept."""
    axes = {name: size for name, size in held.axes.items() if name not in ("b", "c")}
    return Tensor(held.name, axes, held.format, held.storage, None)


def _stand_in(x: Tensor) -> Tensor:
    """An input of a layer as the layer sees it: alive throughout, accounted for by the caller."""
    return new(x.name, x.axes, x.format, Home.INPUT)


def _close(tape: Tape, setting: Setting, x: Tensor) -> tuple[Tensor, ...]:
    """Pooler and head, or head and loss in training; returns what the model returns."""
    arch, workload = setting.arch, setting.workload
    if workload.phase == "train":
        assert not isinstance(arch.head, NoHead), arch.head
        x = objective.loss_rows(tape, setting, x)
        return (objective.loss(tape, setting, _logits(tape, setting, arch.head, x)),)
    pooled = (head.pool(tape, x),) if arch.pooler else ()
    if workload.logits == "none" or isinstance(arch.head, NoHead):
        return (x, *pooled)
    return (_logits(tape, setting, arch.head, x), *pooled)


def _logits(tape: Tape, setting: Setting, spec: LmHead | MlmHead, x: Tensor) -> Tensor:
    """The head on the rows of x."""
    match spec:
        case MlmHead():
            x = head.masked_head(tape, setting, spec, x)
        case LmHead():
            pass
        case other:
            assert_never(other)
    return head.logits(tape, setting, spec, x)
