"""The kernels that constants of served ops are fitted to: products and attention as engines launch them, on a GPU.

Each is repeated under the conditions that its formula knows (`llmprof.latency.op`): six weights in turn and the same
input for a product, the same kept keys and values for a step, prompts whose keys and values have just been written. So
what is fitted here can be put beside what others fitted to tables that were measured so. Values are random: a product
of zeros takes less power, and so less time.

Axis legend: m rows, n columns, k contraction; b sequences, s tokens, h query heads, g key/value heads, d head width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from llmprof.latency.op import Collective, DecodeAttention, Dtype, Elementwise, Gemm, PrefillAttention

WEIGHTS = 6
"""Of each product, multiplied in turn: what ai-dynamo/aiconfigurator does (collector/vllm/collect_gemm.py)."""
WIDTH = 4096
"""Values of a row of what only moves memory."""
HEAD_DIM = 128

Kind = Literal["gemm", "decode", "prefill", "elementwise", "allreduce"]
Launch = Callable[[], object]
ServedOp = Gemm | DecodeAttention | PrefillAttention | Elementwise | Collective


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedPoint:
    """One op at one size. `make` takes its operands and returns what launches it, each time with the next weights.

    `kernel` is what is called; `needs_bytes` what its operands and results come to; `flops` and `moved_bytes` say how
    long it takes at least.
    """

    kind: Kind
    kernel: str
    op: ServedOp
    needs_bytes: int
    flops: int
    moved_bytes: int
    make: Callable[[torch.device], Launch]


# Sizes: rows from one sequence's to a long prompt's, matrices of models from 1B to 70B and of their shards; steps and
# prompts from a few tokens to as many as fit, with the heads of whole models and of one rank of eight.
ROWS = (1, 16, 64, 128, 192, 256, 512, 1024, 4096, 8192)
MATRICES = (
    (4096, 4096),
    (1024, 8192),
    (8192, 1024),
    (512, 512),
    (16384, 4096),
    (4096, 16384),
    (128, 7168),
    (3072, 3072),
)
STEPS = tuple(
    (b, s, h, g)
    for b in (1, 8, 64, 512)
    for s in (16, 128, 1024, 8192, 65536)
    for h, g in ((32, 8), (8, 1), (64, 8), (8, 8))
)
PROMPTS = tuple(
    (b, s, h, g) for b in (1, 4, 16, 64) for s in (64, 256, 1024, 4096, 16384) for h, g in ((32, 8), (8, 1), (32, 32))
)
MOVED_ROWS = (1, 4, 16, 64, 256, 1024, 2048, 4096, 8192, 16384, 32768)


def points(dtype: torch.dtype, *, fp8: bool = False) -> Iterator[ServedPoint]:
    """Every point in `dtype`, a product's also in fp8 where the device multiplies so."""
    yield from products(dtype)
    if fp8:
        yield from products_in_fp8(dtype)
    yield from steps(dtype)
    yield from prompts(dtype)
    yield from movers(dtype)


def name_of(dtype: torch.dtype) -> Dtype:
    """bf16 or fp16. ValueError for another: engines multiply in no wider one."""
    names: dict[torch.dtype, Dtype] = {torch.bfloat16: "bf16", torch.float16: "fp16"}
    if dtype not in names:
        raise ValueError(f"{dtype}: served ops are timed in bfloat16 or float16")
    return names[dtype]


# --- products --------------------------------------------------------------------------------------


def products(dtype: torch.dtype) -> Iterator[ServedPoint]:
    """Y[m, n] = X[m, k] W[n, k]^T by the vendor's library."""
    for n, k in MATRICES:
        for m in ROWS:

            def make(device: torch.device, m: int = m, n: int = n, k: int = k) -> Launch:
                x = torch.randn(m, k, dtype=dtype, device=device)
                weights = [torch.randn(n, k, dtype=dtype, device=device).t() for _ in range(WEIGHTS)]
                y = torch.empty(m, n, dtype=dtype, device=device)
                return _in_turn([lambda w=w: torch.mm(x, w, out=y) for w in weights])  # type: ignore[misc]

            size = dtype.itemsize
            yield ServedPoint(
                kind="gemm",
                kernel="torch.mm",
                op=Gemm(m=m, n=n, k=k, dtype=name_of(dtype), weight_copies=WEIGHTS),
                needs_bytes=(m * k + WEIGHTS * n * k + m * n) * size,
                flops=2 * m * n * k,
                moved_bytes=(m * k + n * k + m * n) * size,
                make=make,
            )


def products_in_fp8(dtype: torch.dtype) -> Iterator[ServedPoint]:
    """The same with weights and inputs in fp8 and one scale each; rounding the input is a kernel of its own before."""
    eight = torch.float8_e4m3fn
    for n, k in MATRICES:
        for m in ROWS:

            def make(device: torch.device, m: int = m, n: int = n, k: int = k) -> Launch:
                x = torch.randn(m, k, dtype=dtype, device=device)
                rounded = torch.empty(m, k, dtype=eight, device=device)
                weights = [torch.randn(n, k, dtype=dtype, device=device).to(eight).t() for _ in range(WEIGHTS)]
                one = torch.ones((), device=device)

                def launch(w: Tensor) -> object:
                    rounded.copy_(x)
                    return torch._scaled_mm(rounded, w, one, one, out_dtype=dtype, use_fast_accum=True)

                return _in_turn([lambda w=w: launch(w) for w in weights])  # type: ignore[misc]

            yield ServedPoint(
                kind="gemm",
                kernel="torch._scaled_mm",
                op=Gemm(m=m, n=n, k=k, dtype="fp8", weight_copies=WEIGHTS, engine="torch"),
                needs_bytes=3 * m * k + (WEIGHTS + 2) * n * k + m * n * dtype.itemsize,
                flops=2 * m * n * k,
                moved_bytes=4 * m * k + n * k + m * n * dtype.itemsize,
                make=make,
            )


def _in_turn(launches: list[Launch]) -> Launch:
    at = 0

    def launch() -> object:
        nonlocal at
        at = (at + 1) % len(launches)
        return launches[at]()

    return launch


# --- attention -------------------------------------------------------------------------------------


def steps(dtype: torch.dtype) -> Iterator[ServedPoint]:
    """One new token of each sequence over its kept tokens, by the flash kernel that torch carries."""
    d, size = HEAD_DIM, dtype.itemsize
    for b, s, h, g in STEPS:

        def make(device: torch.device, b: int = b, s: int = s, h: int = h, g: int = g) -> Launch:
            q = _heads(b, 1, h, dtype, device)
            k, v = _heads(b, s, g, dtype, device), _heads(b, s, g, dtype, device)
            return lambda: flash(q, k, v, causal=False)

        cache = 2 * b * s * g * d * size
        yield ServedPoint(
            kind="decode",
            kernel="torch SDPA flash",
            op=DecodeAttention(
                batch=b,
                context=s,
                heads=h,
                kv_heads=g,
                head_dim=d,
                kv_dtype=name_of(dtype),
                warm=True,
                engine="torch",
            ),
            needs_bytes=cache + 2 * b * h * d * size,
            flops=4 * b * s * h * d,
            moved_bytes=cache + 2 * b * h * d * size,
            make=make,
        )


def prompts(dtype: torch.dtype) -> Iterator[ServedPoint]:
    """A prompt of each sequence, causally, after its keys and values were scattered into the cache, in one kernel."""
    d, size = HEAD_DIM, dtype.itemsize
    for b, s, h, g in PROMPTS:

        def make(device: torch.device, b: int = b, s: int = s, h: int = h, g: int = g) -> Launch:
            q = _heads(b, s, h, dtype, device)
            new = torch.randn(2, b * s, g, d, dtype=dtype, device=device)
            cache, slots = torch.empty_like(new), torch.randperm(b * s, device=device)
            k, v = (each.view(b, s, g, d).transpose(1, 2) for each in new)

            def launch() -> object:
                cache.index_copy_(1, slots, new)
                return flash(q, k, v, causal=True)

            return launch

        written = 2 * b * s * g * d * size
        yield ServedPoint(
            kind="prefill",
            kernel="torch index_copy_ and SDPA flash",
            op=PrefillAttention(
                batch=b, new_tokens=s, heads=h, kv_heads=g, head_dim=d, kv_dtype=name_of(dtype), engine="torch"
            ),
            needs_bytes=2 * written + 2 * b * s * h * d * size + 8 * b * s,
            flops=4 * b * h * d * (s * (s + 1) // 2),
            moved_bytes=3 * written + 2 * b * s * h * d * size,
            make=make,
        )


def _heads(b: int, s: int, heads: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Tokens behind each other as a cache keeps them, seen head by head."""
    return torch.randn(b, s, heads, HEAD_DIM, dtype=dtype, device=device).transpose(1, 2)


def flash(q: Tensor, k: Tensor, v: Tensor, *, causal: bool) -> Tensor:
    """Attention by the flash kernel and no other. RuntimeError where it cannot run."""
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        return F.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=q.shape[1] != k.shape[1])


# --- what moves memory -----------------------------------------------------------------------------


def movers(dtype: torch.dtype) -> Iterator[ServedPoint]:
    """Sums, activations and norms over rows of `WIDTH` values."""
    size = dtype.itemsize
    kinds: dict[str, tuple[Callable[[Tensor, Tensor], object], int]] = {
        "torch.add": (lambda x, y: torch.add(x, y), 3),
        "torch silu": (lambda x, y: F.silu(x), 2),
        "torch layer_norm": (lambda x, y: F.layer_norm(x, (WIDTH,)), 2),
    }
    for kernel, (call, tensors) in kinds.items():
        for r in MOVED_ROWS:

            def make(device: torch.device, r: int = r, call: Callable[[Tensor, Tensor], object] = call) -> Launch:
                x, y = (torch.randn(r, WIDTH, dtype=dtype, device=device) for _ in range(2))
                return lambda: call(x, y)

            moved = tensors * r * WIDTH * size
            yield ServedPoint(
                kind="elementwise",
                kernel=kernel,
                op=Elementwise(bytes=moved),
                needs_bytes=3 * r * WIDTH * size,
                flops=0,
                moved_bytes=moved,
                make=make,
            )
