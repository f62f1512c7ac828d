"""The kernels that a device is calibrated with: every kind that models launch often, over sizes from small to large.

A point takes its operands and then launches one kernel as often as it is told. Matrices stand in enough copies that
none is in a cache when it is read again, and so do kept keys and values, as every layer of a model has its own; what
other kernels read was written a moment ago, as in a model too. Values are random: a product of zeros takes less power,
and so less time.

Axis legend: m rows, n columns, k contraction; p products, t queries, s keys, h head_dim; r rows of c values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor

from llmprof.work import Work

COLD_BYTES = 192 * 2**20
"""What the copies of a matrix come to together, where the device has that much: more than a last-level cache."""
MOST_COPIES = 256
WIDTH = 1024
"""Values of a row of what only moves memory."""

Launch = Callable[[], object]


class Pool:
    """Random values that all operands are parts of: drawing them anew for every point would take most of the time."""

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        self.device = device
        self._values = torch.randn(COLD_BYTES // dtype.itemsize, device=device).to(dtype)

    def random(self, *shape: int, copy: int = 0) -> Tensor:
        """The `copy`-th of the tensors of this shape that lie behind each other, round and round."""
        count = prod(shape)
        copies = self.copies(count)
        begin = copy % copies * count
        return self._values[begin : begin + count].view(shape)

    def own(self, *shape: int) -> Tensor:
        """The same values in memory of their own, for what is written to."""
        return self.random(*shape).clone()

    def copies(self, count: int) -> int:
        """How many tensors of so many values there are."""
        return max(1, self._values.numel() // count)


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One kernel at one size. `make` takes its operands from a pool and returns what launches it."""

    label: str
    work: Work
    make: Callable[[Pool], Launch]


MATRICES = ((512, 512), (768, 768), (3072, 768), (768, 3072), (2048, 2048), (8192, 2048), (2048, 8192), (32000, 1024))
"""(n, k) of a product: square, wide, deep, and a head."""
ROWS = (1, 4, 16, 64, 128, 512)
LARGEST_FLOPS = 2**35
"""A product of more would take a CPU a second or longer."""

SCORES = (
    (8, 1, 128, 64),
    (12, 1, 1024, 64),
    (32, 1, 512, 128),
    (32, 1, 4096, 128),
    (12, 64, 64, 64),
    (16, 128, 128, 64),
    (12, 256, 256, 64),
    (32, 256, 256, 128),
    (8, 1024, 1024, 64),
    (12, 128, 512, 64),
)
"""(p, t, s, h) of a batched product and of an attention core; t = 1 is a decoding step, t = s is causal."""

SIZES = (1, 4, 16, 64, 256, 512, 1024, 2048, 4096, 8192, 16384, 24576)
"""Rows of what only moves memory."""


def points(dtype: torch.dtype, device: torch.device) -> Iterator[Point]:
    """Every point in `dtype`; `device` decides which attention kernel there is."""
    yield from _products(dtype)
    yield from _batched(dtype)
    yield from _cores(dtype, device)
    yield from _movers(dtype)


# --- one product ---------------------------------------------------------------------------------


def _products(dtype: torch.dtype) -> Iterator[Point]:
    size = dtype.itemsize
    for n, k in MATRICES:
        for m in ROWS:
            flops = 2 * m * n * k
            if flops > LARGEST_FLOPS:
                continue
            biased = (m + n) % 3 == 0
            moved = (m * k + n * k + m * n + (n if biased else 0)) * size

            def make(pool: Pool, m: int = m, n: int = n, k: int = k, biased: bool = biased) -> Launch:
                turn = _Turn([pool.random(n, k, copy=index) for index in range(min(pool.copies(n * k), MOST_COPIES))])
                x, bias = pool.own(m, k), pool.own(n)
                if biased:
                    return lambda: torch.addmm(bias, x, turn.next().t())
                return lambda: torch.mm(x, turn.next().t())

            kind = "addmm" if biased else "mm"
            yield Point(label=f"{kind} {m} x {n} x {k}", work=Work(kind=kind, flops=flops, bytes=moved), make=make)


class _Turn:
    """Tensors that are handed out in turn."""

    def __init__(self, tensors: list[Tensor]) -> None:
        self._tensors, self._at = tensors, 0

    def next(self) -> Tensor:
        self._at = (self._at + 1) % len(self._tensors)
        return self._tensors[self._at]


# --- many products, and cores ----------------------------------------------------------------------


def _batched(dtype: torch.dtype) -> Iterator[Point]:
    size = dtype.itemsize
    for p, t, s, h in SCORES:
        flops = 2 * p * t * s * h
        moved = p * (t * h + s * h + t * s) * size

        def scores(pool: Pool, p: int = p, t: int = t, s: int = s, h: int = h) -> Launch:
            q, k = pool.own(t, p, h).transpose(0, 1), pool.random(p, s, h, copy=1)
            return lambda: torch.bmm(q, k.transpose(1, 2))

        def masked(pool: Pool, p: int = p, t: int = t, s: int = s, h: int = h) -> Launch:
            q, k = pool.own(t, p, h).transpose(0, 1), pool.random(p, s, h, copy=1)
            mask = pool.own(t, s)
            return lambda: torch.baddbmm(mask, q, k.transpose(1, 2), alpha=0.125)

        def values(pool: Pool, p: int = p, t: int = t, s: int = s, h: int = h) -> Launch:
            w, v = pool.random(p, t, s), pool.random(p, s, h, copy=1)
            return lambda: torch.bmm(w, v)

        where = f"{p} x {t} x {s} x {h}"
        work = Work(kind="bmm", flops=flops, bytes=moved, products=p)
        yield Point(label=f"scores {where}", work=work, make=scores)
        yield Point(label=f"values {where}", work=work, make=values)
        added = Work(kind="baddbmm", flops=flops, bytes=moved + t * s * size, products=p)
        yield Point(label=f"baddbmm {where}", work=added, make=masked)


def _cores(dtype: torch.dtype, device: torch.device) -> Iterator[Point]:
    """Attention cores, with as many key/value heads as queries' and with a fourth of them where that divides."""
    for p, t, s, h in SCORES:
        yield _core(p, p, t, s, h, dtype, device)
        if p % 4 == 0:
            yield _core(p, p // 4, t, s, h, dtype, device)


def _core(p: int, held: int, t: int, s: int, h: int, dtype: torch.dtype, device: torch.device) -> Point:
    kind = "cpu" if device.type == "cpu" else "flash" if dtype.itemsize == 2 else "efficient"
    causal = t == s
    visible = t * s if not causal else t * (t + 1) // 2 if kind != "cpu" else _in_blocks(t)
    moved = (2 * p * t * h + 2 * held * s * h) * dtype.itemsize + 4 * p * t

    def make(pool: Pool) -> Launch:
        q = pool.own(1, t, p, h).transpose(1, 2)
        copies = max(2, min(pool.copies(held * s * h), MOST_COPIES) // 2 * 2)
        turn = _Turn([pool.random(1, held, s, h, copy=copy) for copy in range(copies)])
        grouped = held != p
        return lambda: F.scaled_dot_product_attention(q, turn.next(), turn.next(), is_causal=causal, enable_gqa=grouped)

    reread = 2 * (p - held) * s * h * dtype.itemsize if kind == "cpu" else 0
    work = Work(kind=kind, flops=4 * p * visible * h, bytes=moved, products=p, reread=reread)
    return Point(label=f"attention {p}/{held} x {t} x {s} x {h}", work=work, make=make)


def _in_blocks(t: int) -> int:
    """Pairs that the kernel for CPUs runs of a causal square: it goes by blocks of queries, up to the end of each.

    cpu_flash_attention in aten/src/ATen/native/cpu/FlashAttentionKernel.cpp, https://github.com/pytorch/pytorch, read
    2026-11-30: num_keys = min(m + qBlockSize, kvSize), with qBlockSize by the number of queries.
    """
    rows = 256 if t >= 768 else 64 if t >= 192 else 32
    return sum(min(rows, t - m) * min(m + rows, t) for m in range(0, t, rows))


# --- what moves memory -----------------------------------------------------------------------------

# Kind -> the kernel on x and y of r rows of c values, w of one row, ids of r numbers below r; values read and
# written in units of r * c and of c. As in the reference execution, a row that all share is read once.
_MOVERS: dict[str, tuple[Callable[[Tensor, Tensor, Tensor, Tensor], object], int, int]] = {
    "add": (lambda x, y, w, ids: torch.add(x, y), 3, 0),
    "mul": (lambda x, y, w, ids: torch.mul(x, w), 2, 1),
    "sub": (lambda x, y, w, ids: torch.sub(x, y), 3, 0),
    "div": (lambda x, y, w, ids: torch.div(x, y), 3, 0),
    "neg": (lambda x, y, w, ids: torch.neg(x), 2, 0),
    "pow": (lambda x, y, w, ids: torch.pow(x, 2), 2, 0),
    "exp": (lambda x, y, w, ids: torch.exp(x), 2, 0),
    "silu": (lambda x, y, w, ids: F.silu(x), 2, 0),
    "gelu": (lambda x, y, w, ids: F.gelu(x), 2, 0),
    "gelu-tanh": (lambda x, y, w, ids: F.gelu(x, approximate="tanh"), 2, 0),
    "relu": (lambda x, y, w, ids: torch.relu(x), 2, 0),
    "sigmoid": (lambda x, y, w, ids: torch.sigmoid(x), 2, 0),
    "softplus": (lambda x, y, w, ids: F.softplus(x), 2, 0),
    "softmax": (lambda x, y, w, ids: torch.softmax(x, dim=-1), 2, 0),
    "layer_norm": (lambda x, y, w, ids: F.layer_norm(x, (WIDTH,), w, y[0]), 2, 2),
    "mean": (lambda x, y, w, ids: x.mean(-1, keepdim=True), 1, 0),
    "sum": (lambda x, y, w, ids: x.sum(-1, keepdim=True), 1, 0),
    "rsqrt": (lambda x, y, w, ids: torch.rsqrt(x), 2, 0),
    "cat": (lambda x, y, w, ids: torch.cat((x, y), dim=-1), 4, 0),
    "clone": (lambda x, y, w, ids: x.view(-1, 2, x.shape[1] // 2).transpose(0, 1).contiguous(), 2, 0),
    "copy_": (lambda x, y, w, ids: y.copy_(x), 2, 0),
    "mul_": (lambda x, y, w, ids: y.mul_(1.0), 2, 0),
    "add_": (lambda x, y, w, ids: y.add_(x), 3, 0),
    "embedding": (lambda x, y, w, ids: F.embedding(ids, x), 2, 0),
    "index_select": (lambda x, y, w, ids: x.index_select(0, ids), 2, 0),
    "index_add_": (lambda x, y, w, ids: y.index_add_(0, ids, x), 3, 0),
    "zeros": (lambda x, y, w, ids: torch.zeros_like(x), 1, 0),
}


_PER_ROW = {"mean": 1, "sum": 1, "layer_norm": 2}
"""Values written for each row beside the rows themselves; a layer norm keeps its mean and deviation."""


def _movers(dtype: torch.dtype) -> Iterator[Point]:
    for kind, (launch, rows_moved, row_moved) in _MOVERS.items():
        for r in SIZES:
            if kind == "clone" and r == 1:
                continue  # one row is contiguous however it is seen
            values = rows_moved * r * WIDTH + row_moved * WIDTH + _PER_ROW.get(kind, 0) * r
            ids = 8 * r if kind in ("embedding", "index_select", "index_add_") else 0
            yield _mover(kind, r, values * dtype.itemsize + ids, launch)
    other = torch.float32 if dtype != torch.float32 else torch.bfloat16
    for r in SIZES:
        moved = r * WIDTH * (dtype.itemsize + other.itemsize)
        yield _mover("cast", r, moved, lambda x, y, w, ids: x.to(other))


def _mover(kind: str, r: int, moved: int, launch: Callable[[Tensor, Tensor, Tensor, Tensor], object]) -> Point:
    def make(pool: Pool) -> Launch:
        x, y, w = pool.own(r, WIDTH), pool.own(r, WIDTH), pool.own(WIDTH)
        ids = torch.randperm(r, device=pool.device)
        return lambda: launch(x, y, w, ids)

    return Point(label=f"{kind} {r} x {WIDTH}", work=Work(kind=kind, flops=0, bytes=moved), make=make)
