"""How long a pass takes that is launched kernel by kernel, as the twin's is: constants of one device, one dtype.

A kernel takes ``t0 + products * per_product + (t_c^p + t_m^p)^(1/p)``: t_c is its contractions at the rate that the
device reaches, t_m its op-level bytes at the bandwidth that it reaches, from a cache where they fit into one. p is how
far the two overlap: without end the larger alone counts, at 1 they follow each other. A pass is the sum of its
leaves, which take longer than their kernels alone (`in_pass.py`); on a GPU the host starts kernels while earlier ones
run, and the slower of the two counts. Every constant is fitted by `llmprof calibrate`, and none has a default
(docs/latency.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import prod

from llmprof.latency.in_pass import InPass, LeafKind, Surroundings, leaf_kind
from llmprof.predict.api import Prediction
from llmprof.predict.op import Contraction, Op
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
        moved = work.bytes + work.reread
        hit = 1 / (1 + (moved / self.cache_bytes) ** 6)
        moving = moved / self.cached_bytes_per_s * (hit + (1 - hit) * self.slowdown)
        computing = work.flops / self.flops_per_s
        longer, shorter = max(moving, computing), min(moving, computing)
        both = longer * (1 + (shorter / longer) ** self.overlap) ** (1 / self.overlap) if longer else 0.0
        return self.t0 + work.products * self.per_product + both


@dataclass(frozen=True, slots=True, kw_only=True)
class EagerModel:
    """The constants of one device in one dtype, by family and kind.

    `in_pass` is what leaves take inside a pass, on a CPU, which waits for each kernel. `host_s` is what the host takes
    to start a kernel where it runs ahead of the device instead. One of them is None. `measured` is the day and `torch`
    the version of these constants, where another dtype of the same profile was calibrated later.
    """

    constants: Mapping[tuple[str, str], Constants]
    in_pass: InPass | None = None
    host_s: float | None = None
    measured: str | None = None
    torch: str | None = None

    def of(self, work: Work) -> tuple[Constants, bool]:
        """The constants of a kind, and whether they are its own. KeyError where its whole family was not timed."""
        own = self.constants.get((work.family, work.kind))
        return (own, True) if own is not None else (self.constants[work.family, FAMILY], False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """A leaf of a pass, folded over equal layers: those of `paths`. `launches`: its kernels, each how many times."""

    path: str
    paths: tuple[str, ...]
    launches: tuple[tuple[Work, int], ...]

    @property
    def kind(self) -> LeafKind:
        """What it is to the host."""
        return leaf_kind(self.path, [work for work, _ in self.launches])

    @property
    def kernels(self) -> int:
        """How many kernels it launches."""
        return sum(times for _, times in self.launches)


@dataclass(frozen=True, slots=True, kw_only=True)
class PathTime:
    """All launches of one leaf, folded over equal layers: those of `paths`.

    `known`: every kind among them was timed by itself, and on a CPU such a leaf in passes.
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
        """Whether all kinds of kernels were timed by themselves, and on a CPU all kinds of leaves in passes."""
        return all(leaf.known for leaf in self.leaves)


def pass_time(prediction: Prediction, model: EagerModel) -> PassTime:
    """How long the kernels of `prediction` take on the device of `model`.

    KeyError where the model has no constants for a family of kernels that is launched.
    """
    leaves = tuple(_timed(leaf, model) for leaf in leaves_of(prediction))
    seconds, low, high = (sum(getattr(leaf, name) for leaf in leaves) for name in ("seconds", "low", "high"))
    if model.in_pass is not None:
        # Kernels do not all miss on the same side: what whole passes missed by says more, of kernels that were timed.
        known = all(leaf.known for leaf in leaves)
        ends = seconds * model.in_pass.low, seconds * model.in_pass.high
        low, high = ends if known else (min(low, ends[0]), max(high, ends[1]))
    bound = "device"
    if model.host_s is not None:
        host = model.host_s * sum(len(leaf.paths) * leaf.kernels for leaf in leaves_of(prediction))
        if host > seconds:
            bound, low, high = "host", low * host / seconds, high * host / seconds
            seconds = host
    return PassTime(leaves=leaves, seconds=seconds, low=low, high=high, bound=bound)


def work_of(op: Op) -> Work:
    """What the kernel of a predicted op has to do."""
    contractions = [part.contraction for part in op.leaves if part.contraction is not None]
    work = Work(kind=op.kind, flops=op.causal_flops, bytes=op.hbm_bytes)
    if not contractions:
        return work
    first = contractions[0]
    shared = first.left.axes.keys() & first.right.axes.keys() & set(first.out)
    products = prod(first.indices[name] for name in shared)
    if work.family != "core":
        return replace(work, products=products)
    sharing = 1 if "g" in shared else first.left.axes.get("g", 1)  # queries per key/value head
    work = replace(work, products=products * sharing)
    if op.kind != "cpu":
        return work
    kept = sum(each.right.nbytes for each in contractions)
    return replace(work, flops=_run_by_blocks(op, first), reread=(sharing - 1) * kept)


def _run_by_blocks(op: Op, scores: Contraction) -> int:
    """FLOPs of torch's kernel for CPUs, which skips keys behind a block of queries, and none under a mask in memory.

    Blocks of 32, 64 from 192 queries on, 256 from 768 (flash_attention_kernel_impl in FlashAttentionKernel.cpp,
    https://github.com/pytorch/pytorch, read 2026-11-30).
    """
    masked = len(op.reads) > 3  # beside queries, keys and values
    if masked or scores.visible is None or scores.pair is None or op.causal_flops == op.matmul_flops:
        return op.matmul_flops
    queries, keys = (scores.indices[name] for name in scores.pair[:2])
    block = 32 if queries < 192 else 64 if queries < 768 else 256
    ends = [min(begin + block, queries) for begin in range(0, queries, block)]
    run = sum((end - begin) * (keys - queries + end) for begin, end in zip([0, *ends], ends, strict=False))
    return min(op.matmul_flops, op.causal_flops * run // scores.visible)


def leaves_of(prediction: Prediction) -> Iterator[Leaf]:
    """Every leaf in the order of the call tree, equal layers together."""
    program = prediction.program
    yield from _by_path("", ("",), program.ops)
    for group in program.groups:
        prefixes = tuple(f"{group.prefix}layers.{index}." for index in group.indices)
        yield from _by_path(f"{group.folded_path}.", prefixes, group.ops)


def _by_path(folded: str, prefixes: tuple[str, ...], ops: tuple[Op, ...]) -> Iterator[Leaf]:
    inside: dict[str, list[tuple[Work, int]]] = {}
    for op in ops:
        inside.setdefault(op.path, []).append((work_of(op), op.times))
    for path, launches in inside.items():
        yield Leaf(path=folded + path, paths=tuple(prefix + path for prefix in prefixes), launches=tuple(launches))


def _timed(leaf: Leaf, model: EagerModel) -> PathTime:
    seconds = low = high = 0.0
    known = model.in_pass is None or leaf.kind in model.in_pass.leaves
    for work, times in leaf.launches:
        constants, own = model.of(work)
        each = times * constants.seconds(work)
        seconds, low, high = seconds + each, low + each * constants.low, high + each * constants.high
        known &= own
    around = Surroundings() if model.in_pass is None else model.in_pass.of(leaf.kind)
    count = len(leaf.paths)
    return PathTime(
        path=leaf.path,
        paths=leaf.paths,
        seconds=count * around.seconds(leaf.kernels, seconds),
        low=count * around.seconds(leaf.kernels, low),
        high=count * around.seconds(leaf.kernels, high),
        known=known,
    )
