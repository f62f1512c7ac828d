"""One node of the graph while a gradient is pulled through it: what a rule sees and what it may do."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from llmprof.predict.formats import Format
from llmprof.predict.op import Op
from llmprof.predict.tensor import Axes, Tensor
from llmprof.predict.training.graph import Node
from llmprof.predict.training.recorder import Recorder


class Pull:
    """A kernel `op` of the forward pass, and the gradient `grad` of its (first) result.

    A rule launches kernels through the methods and hands each input that takes one its gradient with `give`, in the
    order of the inputs. `kept` is what the kernel has saved: all that a rule may read of the forward pass, as `stands`
    says where it was computed again.
    """

    def __init__(
        self, tape: Recorder, node: Node, grad: Tensor, kept: Sequence[Tensor], stands: Callable[[Tensor], Tensor]
    ) -> None:
        assert isinstance(node.item, Op), node
        self.op = node.item
        self.grad = grad
        self.tape = tape
        self.given: list[tuple[Tensor, Tensor]] = []
        self.expanded: list[tuple[Tensor, Tensor]] = []
        self._node = node
        self._kept = kept
        self._stands = stands

    def needs(self, tensor: Tensor) -> bool:
        """Whether `tensor` takes a gradient here."""
        return self._node.needs(tensor)

    def saved(self, tensor: Tensor) -> Tensor:
        """A tensor of the forward pass, which the kernel must have saved."""
        assert any(tensor is each for each in self._kept), (self.op.kind, tensor)
        return self._stands(tensor)

    def give(self, tensor: Tensor, gradient: Tensor) -> None:
        """The gradient of one input; nothing where it takes none. It has the axes of the input, or more (`sum`)."""
        if self.needs(tensor):
            names = tuple(tensor.axes)
            if tuple(gradient.axes) != names and set(gradient.axes) == set(names):
                gradient = gradient.ordered(*names)
            self.given.append((tensor, gradient))

    def give_expanded(self, tensor: Tensor, gradient: Tensor) -> None:
        """The same for an input that the kernel took expanded: summed in the node of that view, after this one."""
        if self.needs(tensor):
            self.expanded.append((tensor, gradient))

    # --- kernels ------------------------------------------------------------------------------------

    def run(self, kind: str, *reads: Tensor, axes: Axes | None = None, fmt: Format | None = None) -> Tensor:
        """An elementwise kernel."""
        return self.tape.elementwise(self.op.path, kind, *reads, axes=axes, fmt=fmt)

    def dense(self, kind: str, *reads: Tensor, axes: Axes, fmt: Format | None = None) -> Tensor:
        """A kernel that writes contiguously."""
        return self.tape.dense(self.op.path, kind, reads, axes, fmt or reads[0].format)

    def made(self, kind: str, reads: Sequence[Tensor], writes: Sequence[Tensor]) -> None:
        """A kernel with several results."""
        self.tape.launch(self.op.path, kind, reads, writes)

    def product(self, kind: str, left: Tensor, right: Tensor, like: Tensor, *, turned: bool = False) -> Tensor:
        """A matrix product with the axes of `like`, contiguous; `turned`: its last two axes lie the other way round."""
        names = tuple(like.axes)
        memory = (*names[:-2], names[-1], names[-2]) if turned else names
        return self.tape.contract(self.op.path, kind, left, right, like.axes, memory)
