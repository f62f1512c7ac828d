"""The grouping `compiled`: which leaves around the core share a kernel (docs/reference-unfused.md, section 4).

The pass is lowered op by op and then seen as one list of leaf calls, layer after layer, in which every tensor has one
name. A leaf that is grouped becomes one kernel; it is charged what it reads that no earlier leaf of its group read or
made, its parameters, and its result if a leaf outside the group, or the caller of the model, takes it. Everything else
stays as it is. Two layers that were equal may be so no longer: the first has nothing before it to be grouped with.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from llmprof.errors import InputError
from llmprof.predict.calls import Call, Segment
from llmprof.predict.model import LayerGroup, Program
from llmprof.predict.op import Op
from llmprof.predict.tensor import Home, Tensor
from llmprof.spec.arch import Glu, Gqa, LayerNorm, LayerSpec, Mlp, Rope
from llmprof.workload import Execution, Workload

KIND = "compiled"
"""What a kernel of several grouped ops is called."""

LAYER_ROWS = frozenset(
    f"{block}_{name}" for block in ("attn", "cross", "ffn") for name in ("norm", "post_norm", "residual")
) | {"residual"}
"""Norms of width D and residuals, by their paths below a layer."""

HEAD_ROWS = frozenset({"head.act", "head.norm"})
STACK_NORMS = ("embed_norm", "final_norm")
"""The same around the layers; those of a stack stand behind its prefix."""

Name = tuple[int, int]
"""A storage: the call in whose segment it lives (-1 outside layers), and its identity."""


def check_grouping(workload: Workload, execution: Execution) -> None:
    """Raise InputError where the grouping is not defined."""
    if execution.grouping == "eager":
        return
    if workload.phase == "train" or workload.mtp:
        found = "a training pass" if workload.phase == "train" else "a pass with mtp layers"
        raise InputError(f"grouping compiled is of prefill and decode without mtp layers; found {found}; use eager")
    if execution.kernels != "cuda":
        raise InputError(f"grouping compiled is of CUDA kernels; found those of {execution.kernels}; use eager")


def grouped(program: Program) -> Program:
    """`program` with the leaves around its cores grouped. Its peak is that of the program before, and not defined."""
    calls = list(_leaf_calls(program))
    groups = _groups(calls)
    takers = _takers(calls)
    outside = {_base(-1, tensor) for tensor in program.returned}
    for group in groups:
        _charge(group, takers, outside)
    return _rebuilt(program, calls)


# --- leaf calls -------------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class _LeafCall:
    """One call of a leaf: consecutive ops of one path of the item number `item`, or one half of a `rope`.

    `role`: ``row``, ``queries``, ``keys``, ``both`` or ``alone`` where it is grouped, else None. `names` tells what a
    storage of its layer is called outside it. `kernel` is what the ops become.
    """

    item: int
    ops: tuple[Op, ...]
    role: str | None
    names: Mapping[int, Name]
    kernel: Op | None = None

    @property
    def launched(self) -> tuple[Op, ...]:
        return self.ops if self.kernel is None else (self.kernel,)

    def name(self, tensor: Tensor) -> Name:
        found = self.names.get(id(tensor.storage))
        return (self.item if self.names else -1, id(tensor.storage)) if found is None else found

    @property
    def reads(self) -> Iterator[tuple[Name, Tensor]]:
        return ((self.name(tensor), tensor) for op in self.ops for tensor in op.reads)

    @property
    def writes(self) -> Iterator[tuple[Name, Tensor]]:
        return ((self.name(tensor), tensor) for op in self.ops for tensor in op.writes)

    @property
    def result(self) -> Name:
        return self.name(self.ops[-1].writes[0])


def _leaf_calls(program: Program) -> Iterator[_LeafCall]:
    """Every leaf call of the pass in its order."""
    layers = {f"{group.prefix}layers.{index}": group.layer for group in program.groups for index in group.indices}
    outer: list[Op] = []
    start = 0
    for index, item in enumerate(program.items):
        if isinstance(item, Op):
            start = index if not outer else start
            outer.append(item)
            continue
        yield from _split(start, outer, None, {})
        outer = []
        yield from _split(index, item.segment.ops, layers[item.path], _names(item))
    yield from _split(start, outer, None, {})


def _names(call: Call) -> Mapping[int, Name]:
    """What goes into a layer and comes out of it, by the storages of its segment: the caller's names."""
    segment = call.segment
    outside = [(segment.result, call.gives), *zip(segment.lent, call.lends, strict=True)]
    outside += zip(segment.inputs, call.takes, strict=True)
    return {id(inner.storage): _base(-1, outer) for inner, outer in outside}


def _split(item: int, ops: Sequence[Op], layer: LayerSpec | None, names: Mapping[int, Name]) -> Iterator[_LeafCall]:
    """Runs of ops of one path; a `rope` of fewer keys than queries as that of the queries and that of the keys."""
    at = 0
    while at < len(ops):
        end = at
        while end < len(ops) and ops[end].path == ops[at].path:
            end += 1
        run = tuple(ops[at:end])
        role = _outer_role(run[0].path) if layer is None else _layer_role(layer, run[0].path)
        if role in ("halves", "halves alone"):
            roles = ("queries", "keys") if role == "halves" else ("alone", "alone")
            for half, of in zip(_halves(run), roles, strict=False):
                yield _LeafCall(item, half, of, names)
        else:
            yield _LeafCall(item, run, role, names)
        at = end


def _outer_role(path: str) -> str | None:
    return "row" if path in HEAD_ROWS or path.rpartition(".")[2] in STACK_NORMS else None


def _layer_role(layer: LayerSpec, path: str) -> str | None:
    """What becomes of a leaf of a layer, by its path below the layer."""
    if path in LAYER_ROWS:
        return "row"
    if path == "ffn.act":
        return "alone" if isinstance(layer.ffn, Mlp | Glu) and layer.ffn.kind != "xielu" else None
    module, _, leaf = path.partition(".")
    attention = {"attn": layer.attention, "cross_attn": layer.cross_attention}.get(module)
    if not isinstance(attention, Gqa):
        return None
    if leaf not in ("rope", "q_norm", "k_norm"):
        return None
    joined = module == "attn" and _turned_with_norms(layer, attention)
    one_kernel = attention.n_heads == attention.n_kv_heads
    if leaf == "rope" and not one_kernel:
        return "halves" if joined else "halves alone"
    if not joined:
        return "alone"
    return "both" if one_kernel else "queries" if leaf == "q_norm" else "keys"


def _turned_with_norms(layer: LayerSpec, attention: Gqa) -> bool:
    """Norms of heads share the kernel of a rotation of all of a head, unless they have a bias."""
    position, norm = layer.position, attention.qk_norm
    biased = isinstance(norm, LayerNorm) and norm.bias
    return isinstance(position, Rope) and position.rotary_dim in (None, attention.head_dim) and not biased


def _halves(ops: tuple[Op, ...]) -> list[tuple[Op, ...]]:
    """The ops on queries and those on keys: each begins with an op that takes nothing of what came before."""
    halves: list[list[Op]] = []
    made: set[int] = set()
    takes: set[int] = set()
    for op in ops:
        read = {id(tensor.storage) for tensor in op.reads if tensor.home is not Home.CONSTANT}
        if not halves or not read & (made | takes):
            halves.append([])
            made, takes = set(), read
        halves[-1].append(op)
        made |= {id(tensor.storage) for tensor in op.writes}
    return [tuple(half) for half in halves]


# --- groups and what they are charged -----------------------------------------------------------------


@dataclass(slots=True, eq=False)
class _Group:
    """Leaf calls that are one kernel."""

    calls: list[_LeafCall] = field(default_factory=list)


def _groups(calls: Sequence[_LeafCall]) -> list[_Group]:
    groups: list[_Group] = []
    heads: dict[tuple[int, str, str], _Group] = {}
    before: _LeafCall | None = None
    for call in calls:
        if call.role in ("queries", "keys", "both"):
            # q_norm and what of rope turns queries, of one attention: k_norm stands between them.
            at = (call.item, call.ops[0].path.partition(".")[0], call.role)
            if at not in heads:
                heads[at] = _Group()
                groups.append(heads[at])
            heads[at].calls.append(call)
        elif call.role == "row" and before is not None and before.role == "row" and _takes(call, before.result):
            groups[-1].calls.append(call)
        elif call.role is not None:
            groups.append(_Group([call]))
        before = call
    return groups


def _takes(call: _LeafCall, name: Name) -> bool:
    return any(read == name for read, _ in call.reads)


def _takers(calls: Sequence[_LeafCall]) -> dict[Name, set[int]]:
    """Which leaf calls read a storage."""
    takers: dict[Name, set[int]] = {}
    for call in calls:
        for name, _ in call.reads:
            takers.setdefault(name, set()).add(id(call))
    return takers


def _charge(group: _Group, takers: Mapping[Name, set[int]], outside: set[Name]) -> None:
    """Make each leaf call of the group one op, with what it is charged."""
    inside = {id(call) for call in group.calls}
    made: set[Name] = set()
    known: set[Name] = set()
    for call in group.calls:
        made |= {name for name, _ in call.writes}
        reads: dict[Name, Tensor] = {}
        for name, tensor in call.reads:
            if name not in made and name not in known and tensor.home is not Home.ON_CHIP:
                reads.setdefault(name, _whole(tensor))
        known |= set(reads)
        writes = {name: tensor for name, tensor in call.writes if name in outside or takers.get(name, set()) - inside}
        first = call.ops[0]
        parts = tuple(part for op in call.ops for part in op.leaves)
        call.kernel = Op(first.path, KIND, tuple(reads.values()), tuple(writes.values()), parts=parts)


def _whole(tensor: Tensor) -> Tensor:
    """The tensor that this is a view of: halves of a row are read as the row."""
    while tensor.of is not None and tensor.of.storage is tensor.storage:
        tensor = tensor.of
    return tensor


def _base(item: int, tensor: Tensor) -> Name:
    return item, id(tensor.storage)


# --- the program again --------------------------------------------------------------------------------


def _rebuilt(program: Program, calls: Sequence[_LeafCall]) -> Program:
    """The program with the new ops; layers that are no longer equal are groups of their own."""
    ops: dict[int, list[Op]] = {}
    for call in calls:
        ops.setdefault(call.item, []).extend(call.launched)
    items: list[Op | Call] = []
    made: dict[str, Call] = {}
    shared: dict[tuple[object, ...], Segment] = {}
    for index, item in enumerate(program.items):
        if isinstance(item, Op):
            items += ops.get(index, [])
            continue
        new = tuple(ops.get(index, []))
        # Equal layers share a segment: their kernels are charged alike.
        key = (id(item.segment), *((op.path, op.read_bytes, op.write_bytes) for op in new))
        segment = shared.setdefault(key, replace(item.segment, ops=new))
        made[item.path] = replace(item, segment=segment)
        items.append(made[item.path])
    return replace(
        program,
        items=tuple(items),
        ops=tuple(item for item in items if isinstance(item, Op)),
        groups=tuple(part for group in program.groups for part in _parts(group, made)),
    )


def _parts(group: LayerGroup, made: Mapping[str, Call]) -> Iterator[LayerGroup]:
    if group.segment is None:
        yield group
        return
    alike: dict[tuple[object, ...], list[int]] = {}
    for index in group.indices:
        segment = made[f"{group.prefix}layers.{index}"].segment
        key = tuple((op.path, op.read_bytes, op.write_bytes) for op in segment.ops)
        alike.setdefault(key, []).append(index)
    for indices in alike.values():
        segment = made[f"{group.prefix}layers.{indices[0]}"].segment
        yield replace(group, indices=indices, segment=segment)
