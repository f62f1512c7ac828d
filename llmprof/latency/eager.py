"""How long a pass takes that is launched kernel by kernel, as the twin's is: constants of one device, one dtype.

A kernel takes ``t0 + products * per_product + (t_c^p + t_m^p)^(1/p)``: t_c is its contractions at the rate that the
device reaches, t_m its op-level bytes at the bandwidth that it reaches, from a cache where they fit into one. p is how
far the two overlap: without end the larger alone counts, at 1 they follow each other. A pass is the sum of its
kernels and of what a module costs around them; on a GPU the host starts kernels while earlier ones run, and the slower
of the two counts. Every constant is fitted by `llmprof calibrate`, and none has a default (docs/latency.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from llmprof.predict.api import Prediction
from llmprof.predict.op import Op
from llmprof.work import Work

FAMILY = ""
"""The constants of all kinds of a family together, for kinds that nobody timed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Constants:
    """Of one kind of kernel. Times in seconds, rates per second.

    Bytes move at `cached_bytes_per_s` up to about `cache_bytes`, and `slowdown` times as slowly beyond: where a cache
    ends, and where an allocator asks the system for every output anew.

    `low` and `high` are the factors that 90% of the held-out measurements lay between; `points` is how many there
    were, `error` the median of ``|predicted / measured - 1|`` over them.
    """

    t0: float
    per_product: float
    flops_per_s: float
    cached_bytes_per_s: float
    slowdown: float
    cache_bytes: float
    overlap: float
    low: float
    high: float
    points: int
    error: float

    def seconds(self, work: Work) -> float:
        """What `work` takes."""
        hit = 1 / (1 + (work.bytes / self.cache_bytes) ** 6)
        moving = work.bytes / self.cached_bytes_per_s * (hit + (1 - hit) * self.slowdown)
        computing = work.flops / self.flops_per_s
        longer, shorter = max(moving, computing), min(moving, computing)
        both = longer * (1 + (shorter / longer) ** self.overlap) ** (1 / self.overlap) if longer else 0.0
        return self.t0 + work.products * self.per_product + both


@dataclass(frozen=True, slots=True, kw_only=True)
class EagerModel:
    """The constants of one device in one dtype, by family and kind.

    `module_s` is what calling one module costs beside its kernels, `kernel_s` what each of these costs it beside its
    own time: views, and the way into the library; `fused_core_s` and `unfused_core_s` what a module with an attention
    core costs, which has more views than others. `host_s` is what the host takes to start a kernel where it runs ahead
    of the device; None on a CPU, which waits for each.
    """

    constants: Mapping[tuple[str, str], Constants]
    module_s: float
    kernel_s: float = 0.0
    fused_core_s: float = 0.0
    unfused_core_s: float = 0.0
    host_s: float | None = None

    def around(self, works: Sequence[Work], launches: int) -> float:
        """What a module with these kernels, launched so often, costs beside them."""
        families = {work.family for work in works}
        core = self.fused_core_s if "core" in families else self.unfused_core_s if "batched" in families else 0.0
        return (core or self.module_s) + launches * self.kernel_s

    def of(self, work: Work) -> tuple[Constants, bool]:
        """The constants of a kind, and whether they are its own. KeyError where its whole family was not timed."""
        own = self.constants.get((work.family, work.kind))
        return (own, True) if own is not None else (self.constants[work.family, FAMILY], False)


@dataclass(frozen=True, slots=True, kw_only=True)
class PathTime:
    """All launches of one leaf, folded over equal layers: those of `paths`.

    `known`: every kind among them was timed by itself.
    """

    path: str
    paths: tuple[str, ...]
    seconds: float
    low: float
    high: float
    known: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PassTime:
    """A pass: its leaves in the order of the call tree, and what they come to. `bound` says what limits it."""

    leaves: tuple[PathTime, ...]
    seconds: float
    low: float
    high: float
    bound: str

    @property
    def known(self) -> bool:
        """Whether all kinds of kernels were timed by themselves."""
        return all(leaf.known for leaf in self.leaves)


def pass_time(prediction: Prediction, model: EagerModel) -> PassTime:
    """How long the kernels of `prediction` take on the device of `model`.

    KeyError where the model has no constants for a family of kernels that is launched.
    """
    leaves = tuple(_leaves(prediction, model))
    seconds, low, high = (sum(getattr(leaf, name) for leaf in leaves) for name in ("seconds", "low", "high"))
    bound = "device"
    if model.host_s is not None:
        program = prediction.program
        launches = sum(op.times for op in program.ops)
        launches += sum(group.count * op.times for group in program.groups for op in group.ops)
        host = launches * model.host_s
        if host > seconds:
            bound, low, high = "host", low * host / seconds, high * host / seconds
            seconds = host
    return PassTime(leaves=leaves, seconds=seconds, low=low, high=high, bound=bound)


def work_of(op: Op) -> Work:
    """What the kernel of a predicted op has to do."""
    contractions = [part.contraction for part in op.leaves if part.contraction is not None]
    products = 1
    if contractions:
        first = contractions[0]
        shared = first.left.axes.keys() & first.right.axes.keys() & set(first.out)
        products = prod(first.indices[name] for name in shared)
    return Work(kind=op.kind, flops=op.causal_flops, bytes=op.hbm_bytes, products=products)


def _leaves(prediction: Prediction, model: EagerModel) -> Iterator[PathTime]:
    program = prediction.program
    yield from _by_path("", ("",), program.ops, model)
    for group in program.groups:
        prefixes = tuple(f"{group.prefix}layers.{index}." for index in group.indices)
        yield from _by_path(f"{group.folded_path}.", prefixes, group.ops, model)


def _by_path(folded: str, prefixes: tuple[str, ...], ops: tuple[Op, ...], model: EagerModel) -> Iterator[PathTime]:
    inside: dict[str, list[Op]] = {}
    for op in ops:
        inside.setdefault(op.path, []).append(op)
    count = len(prefixes)
    for path, members in inside.items():
        works = [work_of(op) for op in members]
        seconds = low = high = 0.0
        known = True
        for op, work in zip(members, works, strict=True):
            constants, own = model.of(work)
            each = op.times * constants.seconds(work)
            seconds, low, high = seconds + each, low + each * constants.low, high + each * constants.high
            known &= own
        around = model.around(works, sum(op.times for op in members))
        yield PathTime(
            path=folded + path,
            paths=tuple(prefix + path for prefix in prefixes),
            seconds=count * (seconds + around),
            low=count * (low + around),
            high=count * (high + around),
            known=known,
        )
