"""Where a pass is prepared: what modules ask of it, and what they leave there for the session.

Before a pass, every attention is asked to `prepare` itself at the desk of its stack. It reads the sizes of the pass
there, has its constants made (equal ones once for the stack), puts down the tensors that it keeps from pass to pass and
the name of its core's kernel, and returns a record of its own, which it finds again during the pass.

Axis legend: B batch, T new tokens of this stack, s context, S keys that a core reads.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Generic, TypeVar, assert_never, cast

import torch
from torch import Tensor

from llmprof.errors import InputError
from llmprof.spec import arch
from llmprof.twin import masks
from llmprof.twin.leaf import Branch, Material, compute_dtype
from llmprof.twin.masks import PositionSight, Sight
from llmprof.twin.passes import StackPass
from llmprof.twin.reference import Reference
from llmprof.twin.shared_kv import Loans
from llmprof.twin.views import Span
from llmprof.workload import Execution, Workload

P = TypeVar("P")
R = TypeVar("R")

_FIXED_SEED = 0


class Prepares(Branch, ABC, Generic[P]):
    """A module that prepares something for each pass. `path` is its module path, by which it finds it again.

    `references` are the ways in which its core can run; where the ops of one contain those of another, it stands first.
    """

    references: ClassVar[tuple[Reference, ...]]
    core_leaf: ClassVar[str] = "core"
    """The name of the leaf below it whose kernels `references` are about."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    @abstractmethod
    def prepare(self, desk: Desk) -> P:
        """Everything that one pass needs and that is not counted."""

    def prepared(self, run: StackPass) -> P:
        """What `prepare` returned for this pass."""
        return cast(P, run.prepared[self.path])


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A tensor that outlives the pass: a cache or a state.

    `repeatable`: a second pass finds in it what the first one found, or overwrites it before it reads it.
    `unread_at` are the leaves whose kernels would read or write it, if it has a format that no kernel here computes in.
    """

    values: Tensor
    scales: Tensor | None = None
    repeatable: bool = True
    unread_at: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """The (query, key) pairs that the contractions of a core run over, of one sequence and head.

    `see` says which of them are visible; `computed` is how many the core takes, seen or not.
    """

    see: Sight
    computed: int

    @classmethod
    def all_of(cls, see: Sight) -> Pairs:
        """Every query with every key: T S pairs, whatever the mask."""
        return cls(see=see, computed=see.rows * see.keys)


@dataclass(slots=True, kw_only=True)
class Inventory:
    """What the modules of all stacks have left at their desks."""

    constants: list[Tensor] = field(default_factory=list)
    """Inputs and constants that some kernel takes, each once."""
    kernels: dict[str, str] = field(default_factory=dict)
    """The kernel of every core that runs, by the core's path."""
    pairs: dict[str, Pairs] = field(default_factory=dict)
    """The pairs that the cores which run over pairs take, by the core's path."""
    kept: dict[str, Kept] = field(default_factory=dict)
    """By path: "layers.0.attn.cache.k"."""
    shared: dict[Hashable, Any] = field(default_factory=dict)
    """What the stacks of a model have in common (`Desk.once_in_model`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedTable:
    """The T5 table of a stack and the sight of every layer that uses it."""

    bias: arch.T5Bias
    see: PositionSight


class Desk:
    """One stack in one pass: `rows` tokens are new, the last of `context` positions.

    `place`: their positions, where they are tokens of a longer sequence that ranks share.
    """

    def __init__(
        self,
        stack: arch.Stack,
        *,
        rows: int,
        context: int,
        workload: Workload,
        execution: Execution,
        material: Material,
        generator: torch.Generator | None,
        inventory: Inventory,
        place: tuple[range, ...] | None = None,
    ) -> None:
        self.stack = stack
        self.rows = rows
        self.context = context
        self.workload = workload
        self.execution = execution
        self.device = material.device
        self.dtype = material.activations
        self.table: SharedTable | None = None
        self.loans = Loans(stack)
        self._generator = generator
        self._inventory = inventory
        self._place = place
        self._made: dict[Hashable, Any] = {}

    @property
    def batch(self) -> int:
        """B."""
        return self.workload.batch

    @property
    def keeps(self) -> bool:
        """Whether the pass leaves something behind for later tokens; training does not (docs/objectives.md)."""
        return self.workload.phase != "train"

    @property
    def has_past(self) -> bool:
        """Whether there were tokens before the new ones."""
        return self.context > self.rows

    @property
    def kept_dtype(self) -> torch.dtype:
        """The dtype of keys and values that are kept. `check_workload` grants quantised ones to gqa alone."""
        match self.workload.dtypes.kv_cache:
            case "fp8" | "int8" | "int4" as form:
                raise AssertionError(f"nothing but keys and values of gqa is kept as {form}")
            case "fp32" | "tf32" | "bf16" | "fp16" as plain:
                return compute_dtype(plain)
            case never:
                assert_never(never)

    @property
    def positions(self) -> Tensor:
        """The positions of the new tokens, int64 `[T]`. No constant by itself."""
        if self._place is None:
            return torch.arange(self.context - self.rows, self.context, device=self.device)
        return torch.cat([torch.arange(part.start, part.stop, device=self.device) for part in self._place])

    @property
    def span(self) -> Span:
        """What a self-attention of this stack may see some of."""
        return Span(mask=self.stack.mask, rows=self.rows, context=self.context, prefix=self.workload.prefix_tokens)

    # --- constants ----------------------------------------------------------------------------

    def constant(self, key: Hashable, make: Callable[[], Tensor]) -> Tensor:
        """The constant called `key`, made when it is first asked for. Ask only for what some kernel takes."""
        return self.once(key, lambda: self.register(make()))

    def once(self, key: Hashable, make: Callable[[], R]) -> R:
        """What `make` returns the first time that anybody asks for `key`: for records that hold several constants."""
        if key not in self._made:
            self._made[key] = make()
        return cast(R, self._made[key])

    def once_in_model(self, key: Hashable, make: Callable[[], R]) -> R:
        """The same for what all stacks of a model share."""
        if key not in self._inventory.shared:
            self._inventory.shared[key] = make()
        return cast(R, self._inventory.shared[key])

    def register(self, tensor: Tensor) -> Tensor:
        """Note an input or a constant that nothing else shares."""
        self._inventory.constants.append(tensor)
        return tensor

    def mask(self, see: Sight) -> Tensor:
        """0 where a row sees a key and -inf elsewhere, `[T, S]`."""
        return self.constant(("mask", see), lambda: masks.mask(see, self.dtype, self.device))

    def share_table(self, path: str, bias: arch.T5Bias, see: PositionSight) -> None:
        """Note that the layer at `path` uses the stack's T5 table. InputError where another layer sees other keys."""
        wanted = SharedTable(bias=bias, see=see)
        if self.table is not None and self.table != wanted:
            raise InputError(f"{path}: the layers that share a T5 table must see the same keys")
        self.table = wanted

    # --- what is kept -------------------------------------------------------------------------

    def normal(self, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        """Seeded normal values, in the activation dtype unless one is given."""
        return torch.empty(shape, dtype=dtype or self.dtype, device=self.device).normal_(generator=self._generator)

    def fixed_normal(self, *shape: int) -> Tensor:
        """Normal values that are the same in every pass, as random projections must be from prefill to decode."""
        generator = None if self.device.type == "meta" else torch.Generator(self.device).manual_seed(_FIXED_SEED)
        return torch.empty(shape, dtype=self.dtype, device=self.device).normal_(generator=generator)

    def past(self, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        """What tokens before this pass may have left behind: seeded normal values, or zeros where there were none."""
        if self.has_past:
            return self.normal(*shape, dtype=dtype)
        return torch.zeros(shape, dtype=dtype or self.dtype, device=self.device)

    def keep(self, path: str, kept: Kept) -> None:
        """Put down a tensor that outlives the pass."""
        self._inventory.kept[path] = kept

    def read_too(self, cache: str, core: str) -> None:
        """Note that the core at path `core` reads what the cache at path `cache`, of another layer, keeps."""
        for path in (f"{cache}.k", f"{cache}.v"):
            kept = self._inventory.kept[path]
            if f"{cache.removesuffix('cache')}core" in kept.unread_at:
                self.keep(path, replace(kept, unread_at=(*kept.unread_at, core)))

    def runs_over(self, path: str, pairs: Pairs) -> None:
        """Note the pairs of the leaf at `path`, which is no core and whose contractions run over such pairs."""
        self._inventory.pairs[path] = pairs

    def launches(self, core: str, kernel: str, *, over: Pairs | None) -> None:
        """Note the kernel of the core at path `core`, as `kernels` is to report it, and the pairs that it takes.

        None: its contractions are no products of queries with keys that a mask could hide.
        """
        self._inventory.kernels[core] = kernel
        if over is not None:
            self._inventory.pairs[core] = over
