"""Tensors as named axes: what every count of bytes and FLOPs is derived from. No data, no framework.

Axis legend of the prediction: b batch, t new tokens, m source tokens, s keys that self-attention reads,
c rows of a cache, k KV heads, g queries per KV head, n query heads, h head_dim, r rotary_dim,
d d_model, q = k g h (all queries' values), kv = k h, f d_ff, v vocabulary; s8 is s rounded up to 8.
Of a part of an axis: padded, with rows of zeros at its end; past, before the new tokens; kept, of those that a window
keeps; last, one at its end; one, any of it.
Of single kinds of attention: pairs of one of nq query blocks of bq rows and a key block of bk; projected rows of a
sequence of at most length; rows made of factor rows each (fkv = factor kv become kv_out), u rows that can wait for the
rest and waiting that do, taken ones that do not; features of a mapped head, chunks of i rows (j as keys); clusters,
bits of a hash; l landmarks of queries (lk of keys); maps of a head and its values, h2 = 2 h. Of a loss: p positions.
Of recurrent mixers: inner channels (projected: all that a projection makes), a state of so many values for each, which
a convolution of so many taps goes before (before: the inputs that it keeps; reach: those and the new ones); heads of
width channels, groups of heads (share: heads of one), parts of a norm; kheads of a key for heads of a value; blocks of
into x out; earlier tokens than the last; between the first and the last round of a loop.
Of experts: top_k of them for each of so many tokens make the routed rows, of which load17 go to an expert that has 17;
egroups of members, the best of each group, picks of groups; shared, the width of what runs for every token; elatent,
the width that experts see where it is not d. Of a token table that is not d wide: embedded, its width.
Of latent attention: latent values and a rotated key make a row of lr; qr is the queries' bottleneck, a what of a head
is not rotated, hv its value (av both, up of all heads, o the values of all); an indexer has iq = in ih values of
queries, and keys picked.
Of sound: frames with a value in each of so many bands, under a kernel. 2d is two rows of d side by side.
A square matrix has two names for its two sides (d and d_out), and no name has two sizes in one layer: it is what
`--explain` prints.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from math import prod
from typing import Literal

from llmprof.predict.formats import Format

Axes = Mapping[str, int]
Via = Literal["view", "transpose", "slice", "expand", "rename", "gather"]
"""How a tensor is seen as another; `rename` is another word for an axis, `gather` what a kernel fetches of a table."""


class Home(Enum):
    """Where a storage belongs; only ACTIVATION comes and goes during a pass."""

    WEIGHT = "weight"
    KV_CACHE = "kv_cache"
    CONSTANT = "constant"
    ACTIVATION = "activation"
    BUFFER = "buffer"
    """Stored beside the weights and learned by nothing."""
    INPUT = "input"
    """Allocated by the caller, who accounts for it."""
    ON_CHIP = "on_chip"
    """Never in memory: a mask that a fused kernel makes by itself."""


class Storage:
    """A run of memory that tensors view; compared by identity.

    `born` and `last` are the first and the last kernel of a tape at whose end it is live.
    """

    __slots__ = ("born", "home", "last")

    def __init__(self, home: Home) -> None:
        self.home = home
        self.born = -1
        self.last = -1


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """A view of a storage.

    `axes` are in the order in which they are used; `memory` names them in the order in which they lie
    in memory, outermost first (None where a slice has torn the rows apart). `expanded` axes have
    stride 0: their elements count once. `begins` is the tensor that this is the beginning of, if it was cut as one.
    `of` is the tensor that this is a view of and `via` how, where it was made as one; a gradient goes back through it,
    unless it has no `via`: then this is all that is ever used of a larger allocation.
    """

    name: str
    axes: Axes
    format: Format
    storage: Storage
    memory: tuple[str, ...] | None
    expanded: frozenset[str] = frozenset()
    begins: Tensor | None = None
    of: Tensor | None = None
    via: Via | None = None

    @property
    def home(self) -> Home:
        """Where its storage belongs."""
        return self.storage.home

    @property
    def unique_axes(self) -> Axes:
        """The axes whose elements are distinct in memory."""
        if not self.expanded:
            return self.axes
        return {name: size for name, size in self.axes.items() if name not in self.expanded}

    def without(self, name: str) -> Axes:
        """The axes but one: what a reduction along it leaves."""
        return {axis: size for axis, size in self.axes.items() if axis != name}

    @property
    def elements(self) -> int:
        """How many values the tensor shows, stride 0 or not."""
        return prod(self.axes.values())

    @property
    def nbytes(self) -> int:
        """Bytes of its unique elements: what a kernel reads or writes of it."""
        return 0 if self.storage.home is Home.ON_CHIP else self.format.nbytes(self.unique_axes)

    # --- views: the same storage, seen otherwise ------------------------------------------------

    def seen_as(self, **axes: int) -> Tensor:
        """The same contiguous values under other axes (a `view`)."""
        assert prod(axes.values()) == self.elements, (self, axes)
        return Tensor(self.name, axes, self.format, self.storage, tuple(axes), of=self, via="view")

    def renamed(self, old: str, new: str) -> Tensor:
        """The same axes with one of them called otherwise."""
        axes = {new if name == old else name: size for name, size in self.axes.items()}
        memory = None if self.memory is None else tuple(new if name == old else name for name in self.memory)
        return Tensor(self.name, axes, self.format, self.storage, memory, self.expanded, of=self, via="rename")

    def ordered(self, *names: str) -> Tensor:
        """The axes in another order of use; memory stays as it is (a `transpose`)."""
        axes = {name: self.axes[name] for name in names}
        assert len(axes) == len(self.axes), (self, names)
        return Tensor(self.name, axes, self.format, self.storage, self.memory, self.expanded, of=self, via="transpose")

    def sliced(self, name: str, size: int, called: str) -> Tensor:
        """`size` of the elements along one axis, which is `called` otherwise: one name has one size in a formula."""
        axes = {called if axis == name else axis: size if axis == name else old for axis, old in self.axes.items()}
        return Tensor(self.name, axes, self.format, self.storage, None, self.expanded, of=self, via="slice")

    def leading(self, name: str, size: int, called: str) -> Tensor:
        """The first `size` elements along one axis: a slice that a kernel reads for free beside this tensor itself."""
        cut = self.sliced(name, size, called)
        return Tensor(cut.name, cut.axes, cut.format, cut.storage, None, cut.expanded, self, of=self, via="slice")

    def expand(self, name: str, size: int, *, after: str) -> Tensor:
        """A new axis of stride 0 behind `after` (an `expand`)."""
        axes: dict[str, int] = {}
        for old, old_size in self.axes.items():
            axes[old] = old_size
            if old == after:
                axes[name] = size
        more = self.expanded | {name}
        return Tensor(self.name, axes, self.format, self.storage, self.memory, more, of=self, via="expand")

    # --- layout -----------------------------------------------------------------------------------

    def stride(self, name: str) -> int:
        """How many elements apart neighbours along `name` lie."""
        if name in self.expanded:
            return 0
        assert self.memory is not None, self
        position = self.memory.index(name)
        return prod(self.axes[inner] for inner in self.memory[position + 1 :])

    def merges(self, *names: str) -> bool:
        """Whether a view can show these neighbouring axes as one.

        The rule of torch's `view`: of the axes with more than one element, each must step exactly
        over the whole of the next (https://docs.pytorch.org/docs/stable/generated/torch.Tensor.view.html).
        """
        real = [name for name in names if self.axes[name] > 1]
        return all(self.stride(outer) == self.axes[inner] * self.stride(inner) for outer, inner in pairwise(real))


def owner(tensor: Tensor) -> Tensor:
    """The tensor that `tensor` is a view of in the end: what its storage is as large as."""
    while tensor.of is not None:
        tensor = tensor.of
    return tensor


def new(name: str, axes: Axes, fmt: Format, home: Home, memory: tuple[str, ...] | None = None) -> Tensor:
    """A tensor with a storage of its own, contiguous unless `memory` gives another order."""
    return Tensor(name, axes, fmt, Storage(home), memory or tuple(axes))
