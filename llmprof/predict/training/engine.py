"""The backward of a run of kernels: autograd's walk from the last node to the first.

Every node runs after all that were made after it (docs/reference-training.md, section 3), so the walk is the forward
pass in reverse. Each node launches what the rule of its kind says, lets go of what it had saved, and hands on
gradients, which are added where one stands already. Equal segments are walked once. Axis legend: see `tensor.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from llmprof.predict.calls import Call, Segment
from llmprof.predict.op import Op
from llmprof.predict.tensor import Home, Storage, Tensor, new
from llmprof.predict.training.graph import Node, graph
from llmprof.predict.training.pull import Pull
from llmprof.predict.training.recompute import Again, Region, regions
from llmprof.predict.training.recorder import Recorder
from llmprof.predict.training.rules import RULES
from llmprof.workload import Recompute

Key = tuple[str, str]
"""A parameter: the leaf that owns it, and its name there."""


class NoRule(Exception):
    """The forward pass has kernels that no rule says the backward of; `kinds` are their names."""

    def __init__(self, kinds: Sequence[str]) -> None:
        super().__init__(", ".join(kinds))
        self.kinds = tuple(kinds)


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """A tensor that a kernel saves for its backward, and that kernel's leaf and kind."""

    path: str
    kind: str
    tensor: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Walked:
    """The backward of a run of kernels.

    `ops` are its own kernels and `frames` the backwards of the segments that it calls, which stand between them;
    `count` is the number of all kernels. `born` and `last` number those at whose end a storage is held: one of the
    forward pass has a `last` alone. `made` own the storages born here; `kept` is what the forward pass saves, and the
    calls that do, in its order; `gradients` what inputs get, by their identity, and `learned` what parameters get.
    """

    ops: tuple[Op, ...]
    frames: tuple[Frame, ...]
    count: int
    born: Mapping[Storage, int]
    last: Mapping[Storage, int]
    made: tuple[Tensor, ...]
    kept: tuple[Kept | Call, ...]
    gradients: Mapping[int, Tensor]
    learned: Mapping[Key, Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """The backward of one call, whose first kernel is number `start` of its caller's.

    `same` maps storages of `walked` to those of the caller that they are.
    """

    call: Call
    walked: Walked
    start: int
    same: Mapping[Storage, Storage]


class Engine:
    """Walks back; `owners` maps a parameter that a leaf borrows to the one that it is (ties)."""

    def __init__(self, owners: Mapping[Key, Key], recompute: Recompute = "none") -> None:
        self.owners = owners
        self.recompute = recompute
        self._segments: dict[tuple[object, ...], tuple[Walked, tuple[Tensor | None, ...]]] = {}

    def from_loss(self, items: Sequence[Op | Call], loss: Tensor) -> Walked:
        """The backward of a whole pass, from the gradient 1 of its loss. NoRule where a kernel has no rule."""
        one = new("one", loss.axes, loss.format, Home.ACTIVATION)
        return self.walk(items, [(loss, one)], (), (), start=one)

    def walk(
        self,
        items: Sequence[Op | Call],
        given: Iterable[tuple[Tensor, Tensor]],
        inputs: Sequence[Tensor],
        again: Sequence[Region],
        start: Tensor | None = None,
    ) -> Walked:
        """The backward of `items` from the gradients `given`: of their results, and of `inputs` that have some already.

        `again` is computed again. `start` is the first of all gradients, made by a kernel of its own and held to the
        end.
        """
        nodes = graph(items).nodes
        kinds = dict.fromkeys(node.item.kind for node in nodes if isinstance(node.item, Op))
        missing = [kind for kind in kinds if kind not in RULES]
        if missing:
            raise NoRule(missing)
        walk = _Walk(self, given, again)
        tape = walk.tape
        if start is not None:
            tape.launch("", "ones_like", (), (start,))
        for node in reversed(nodes):
            walk.back_through(node)
        if start is not None:
            tape.hold((start,))
        return Walked(
            ops=tuple(tape.ops),
            frames=tuple(reversed(walk.frames)),
            count=tape.position,
            born=tape.born,
            last=tape.last,
            made=tuple(tape.made),
            kept=tuple(_kept(nodes, walk.regions)),
            gradients={id(x): walk.slots[id(x)] for x in inputs if id(x) in walk.slots},
            learned=walk.learned,
        )

    def of_segment(
        self, segment: Segment, gradients: Sequence[Tensor | None]
    ) -> tuple[Walked, Sequence[Tensor | None]]:
        """The backward of a segment whose results, and then whose inputs, have these gradients; and its names for them.

        Of two calls whose gradients lie alike in memory it is the same.
        """
        key = (segment, *(None if x is None else (tuple(x.axes), x.memory) for x in gradients))
        if key not in self._segments:
            stand_ins = tuple(None if x is None else _stand_in(x) for x in gradients)
            tensors = (segment.result, *segment.lent, *segment.inputs)
            given = [(t, x) for t, x in zip(tensors, stand_ins, strict=True) if x is not None]
            again = regions(self.recompute, segment.ops, segment.inputs)
            self._segments[key] = (self.walk(segment.ops, given, segment.inputs, again), stand_ins)
        return self._segments[key]


class _Walk:
    """One walk: the gradients that tensors have so far (`slots`, by identity), and the kernels."""

    def __init__(self, engine: Engine, given: Iterable[tuple[Tensor, Tensor]], again: Sequence[Region]) -> None:
        self.engine = engine
        self.tape = Recorder()
        self.slots = {id(tensor): gradient for tensor, gradient in given}
        self.learned: dict[Key, Tensor] = {}
        self.frames: list[Frame] = []
        self.regions: dict[int, Again] = {}
        for region in again:
            made = Again(region)
            self.regions.update((region.first + index, made) for index in range(len(region.ops)))

    def back_through(self, node: Node) -> None:
        """Run one node, if its result has a gradient."""
        item = node.item
        if isinstance(item, Call):
            self._call(item)
            return
        result = item.writes[0] if isinstance(item, Op) else item
        gradient = self.slots.pop(id(result), None)
        if gradient is None:
            return
        if isinstance(item, Tensor):
            self._view(item, node.path, gradient)
            return
        kept, rule, again = _saved(node), RULES[item.kind], self.regions.get(node.number)
        if rule.inner is not None:
            gradient = self.tape.merged(item.path, gradient, rule.inner)
        if again is not None and kept and not again.done:
            again.launch(self.tape)
        stands = _itself if again is None else again.of
        pull = Pull(self.tape, node, gradient, kept, stands)
        rule.back(pull)
        held: Sequence[Tensor] = kept
        if again is not None and kept:
            # What was computed again is handed out once, and nobody else has it: it dies before the sums.
            self.tape.hold(map(stands, kept))
            held = again.region.inputs
        summed = [(tensor, self._summed(item.path, tensor, x)) for tensor, x in pull.given]
        self.tape.hold((gradient, *held))
        for tensor, x in summed:
            self._hand_on(item.path, tensor, x)
        for tensor, x in pull.expanded:
            self._hand_on(item.path, tensor, self._summed(item.path, tensor, x))

    def _view(self, view: Tensor, path: str, gradient: Tensor) -> None:
        """The backward of a view: a view, but for a slice, an expansion, and where memory admits none."""
        base = view.of
        assert base is not None
        match view.via:
            case "rename":
                names = dict(zip(view.axes, base.axes, strict=True))
                for old, name in names.items():
                    gradient = gradient if old == name else gradient.renamed(old, name)
            case "transpose":
                gradient = gradient.ordered(*base.axes)
            case "view":
                gradient = self.tape.reshaped(path, gradient, base.axes)
            case "expand":
                gradient = self.tape.contracted(path, gradient, base.axes)
            case "slice":
                gradient = self._unsliced(path, gradient, base)
        self._hand_on(path, base, gradient)

    def _unsliced(self, path: str, part: Tensor, whole: Tensor) -> Tensor:
        """`slice_backward` and `select_backward`: zeros in the whole, and the part copied into it."""
        made = new("slice", whole.axes, part.format, Home.ACTIVATION)
        self.tape.launch(
            path, "slice_backward", (part,), (made, Tensor("part", part.axes, part.format, made.storage, None))
        )
        return made

    def _summed(self, path: str, tensor: Tensor, gradient: Tensor) -> Tensor:
        """A gradient with the axes of what it is of: summed over those along which that was repeated."""
        fits = gradient.axes == tensor.axes or tensor.via == "gather"
        return gradient if fits else self.tape.total(path, gradient, tensor.axes)

    def _hand_on(self, path: str, tensor: Tensor, gradient: Tensor) -> None:
        """Give `tensor` a gradient beside what it has."""
        if tensor.via == "gather":
            assert tensor.of is not None
            tensor = tensor.of
        if tensor.home is Home.WEIGHT:
            key = (path, tensor.name)
            key = self.engine.owners.get(key, key)
            old = self.learned.get(key)
            self.learned[key] = gradient if old is None else self.tape.elementwise(path, "add", old, gradient)
            return
        old = self.slots.get(id(tensor))
        self.slots[id(tensor)] = gradient if old is None else self.tape.elementwise(path, "add", old, gradient)

    def _call(self, call: Call) -> None:
        """The backward of a called segment, in the place of one node."""
        tensors = (call.gives, *call.lends, *call.takes)
        gradients = [self.slots.pop(id(tensor), None) for tensor in tensors]
        walked, stand_ins = self.engine.of_segment(call.segment, gradients)
        tape, start = self.tape, self.tape.position
        tape.position += walked.count
        same: dict[Storage, Storage] = {}
        forward = (call.segment.result, *call.segment.lent, *call.segment.inputs)
        for inner, outer in (*zip(forward, tensors, strict=True), *zip(stand_ins, gradients, strict=True)):
            if inner is not None and outer is not None:
                same[inner.storage] = outer.storage
                if inner.storage in walked.last:
                    tape.extend(outer.storage, start + walked.last[inner.storage])
        for inside, taken in zip(call.segment.inputs, call.takes, strict=True):
            found = walked.gradients.get(id(inside))
            if found is None:
                continue
            if found.storage not in same:
                gradient = new(found.name, found.axes, found.format, Home.ACTIVATION, found.memory)
                same[found.storage] = gradient.storage
                tape.made.append(gradient)
                tape.born[gradient.storage] = start + walked.born[found.storage]
                tape.extend(gradient.storage, start + walked.last[found.storage])
            else:
                gradient = Tensor(found.name, found.axes, found.format, same[found.storage], found.memory)
            self.slots[id(taken)] = gradient
        for (path, name), gradient in walked.learned.items():
            self.learned[f"{call.path}.{path}", name] = gradient
        self.frames.append(Frame(call, walked, start, same))


def _saved(node: Node) -> tuple[Tensor, ...]:
    """What a node saves: nothing, if it is a view or a call."""
    return RULES[node.item.kind].saves(node.item, node.needs) if isinstance(node.item, Op) else ()


def _kept(nodes: Iterable[Node], regions: Mapping[int, Again]) -> Iterator[Kept | Call]:
    """What is saved at each node: by its kernel, or by the region that it begins; and the calls."""
    begun: set[Again] = set()
    for node in nodes:
        item = node.item
        if isinstance(item, Call):
            yield item
        elif isinstance(item, Op):
            again = regions.get(node.number)
            if again is None:
                yield from (Kept(item.path, item.kind, tensor) for tensor in _saved(node))
            elif again not in begun:
                begun.add(again)
                yield from (Kept(again.region.path, "checkpoint", tensor) for tensor in again.region.inputs)


def _itself(x: Tensor) -> Tensor:
    return x


def _stand_in(x: Tensor) -> Tensor:
    """A gradient as a segment sees it: held by whoever calls it."""
    assert x.memory is not None, x
    return new(x.name, x.axes, x.format, Home.INPUT, x.memory)
