"""The graph that a backward goes back through: kernels, views and calls whose results depend on a parameter.

Autograd's nodes in the order in which the forward pass makes them (docs/reference-training.md). A view is a node of its
own: heads are seen as soon as there are rows to see as heads (`view`), and all others are made right before the first
kernel that takes them. Axis legend: see `tensor.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from llmprof.predict.backward import WITHOUT_DERIVATIVE
from llmprof.predict.calls import Call
from llmprof.predict.op import Op
from llmprof.predict.tensor import Home, Storage, Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """A kernel, the view that a tensor is, or a call; `takes` are the inputs of a kernel that take a gradient.

    `number` is that of a kernel or call in its run, `path` the leaf that a view is made in.
    """

    item: Op | Call | Tensor
    takes: tuple[Tensor, ...] = ()
    number: int = -1
    path: str = ""

    def needs(self, tensor: Tensor) -> bool:
        """Whether `tensor` takes a gradient here."""
        return any(tensor is each for each in self.takes)


@dataclass(slots=True)
class Graph:
    """The nodes of a run of kernels and calls, by steps: a kernel and its result seen as heads, then other views.

    `early` says of each view that has a node whether it stands with the kernel that made what it views.
    """

    steps: list[tuple[list[Node], list[Node]]] = field(default_factory=lambda: [([], [])])
    learned: set[Storage] = field(default_factory=set)
    early: dict[int, bool] = field(default_factory=dict)
    made_at: dict[Storage, int] = field(default_factory=dict)
    made_in: dict[Storage, str] = field(default_factory=dict)

    @property
    def nodes(self) -> list[Node]:
        """All of them, first to last."""
        return [node for step in self.steps for part in step for node in part]

    def leads_back(self, tensor: Tensor) -> bool:
        """Whether `tensor` depends on a parameter, or on what a segment was called on."""
        return tensor.home in (Home.WEIGHT, Home.INPUT) or tensor.storage in self.learned

    def add(self, number: int, item: Op | Call) -> None:
        """The next kernel or call."""
        if isinstance(item, Call):
            self._see(item.takes, item.path)
            self._append(Node(item, number=number), {tensor.storage for tensor in (item.gives, *item.lends)})
            return
        written = {tensor.storage for tensor in item.writes}
        takes = tuple(tensor for tensor in item.reads if self.leads_back(tensor))
        if item.kind in WITHOUT_DERIVATIVE or not takes:
            if item.kind in WITHOUT_DERIVATIVE:
                self.learned -= written
            return
        self._see(takes, item.path)
        self._append(Node(item, takes, number), written)
        self.made_in.update((storage, item.path) for storage in written)

    def _append(self, node: Node, written: set[Storage]) -> None:
        self.learned |= written
        self.made_at.update((storage, len(self.steps)) for storage in written)
        self.steps.append(([node], []))

    def _see(self, tensors: Sequence[Tensor], path: str) -> None:
        """The views that these tensors are, each once; `path` is the leaf that takes them."""
        for tensor in tensors:
            chain: list[Tensor] = []
            while tensor.of is not None and tensor.via is not None and id(tensor) not in self.early:
                if tensor.via != "gather":
                    chain.append(tensor)
                tensor = tensor.of
            early = self.early.get(id(tensor), True)
            for view in reversed(chain):
                early = self.early[id(view)] = early and view.via in ("view", "rename")
                made, late = self.steps[self.made_at.get(view.storage, 0) if early else -1]
                where = self.made_in.get(view.storage, path) if early else path
                (made if early else late).append(Node(view, path=where))


def graph(items: Iterable[Op | Call]) -> Graph:
    """The graph of `items` in their order."""
    made = Graph()
    for number, item in enumerate(items):
        made.add(number, item)
    return made
