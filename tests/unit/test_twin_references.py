"""The named unfused references are the real implementations, op by op and byte by byte (docs/reference-unfused.md).

`hf-eager` is held against the functions of the installed transformers, on `meta`, on the CPU and, where torch tells a GPU
from them, on fake CUDA tensors; `sdpa-math` against torch's own profiler, which sees kernels without any dispatch mode.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.profiler import profile
from torch.utils._python_dispatch import TorchDispatchMode

from llmprof.measure.bytes import kernel_bytes
from llmprof.measure.trace import DispatchMode, Launch
from llmprof.twin import core
from llmprof.twin.hf_eager import hf_eager, hf_eager_with_sinks
from llmprof.twin.sdpa_math import sdpa_math
from llmprof.workload import UnfusedReference

H = 8
"""head_dim"""
DTYPES = [torch.bfloat16, torch.float16, torch.float32]
Ops = list[tuple[str, int]]


class Note:
    """The kernels that were launched, with the bytes that each moves."""

    def __init__(self) -> None:
        self.kernels: Ops = []

    def observe(self, launch: Launch) -> None:
        if launch.is_kernel:
            self.kernels.append((launch.op._schema.name.removeprefix("aten::"), kernel_bytes(launch)))


def launched(work: Callable[[], object]) -> Ops:
    """What `work` launches."""
    note = Note()
    with torch.no_grad(), DispatchMode([note], "leaf"):
        work()
    return note.kernels


def operands(
    heads: int, kv_heads: int, *, batch: int, rows: int, keys: int, dtype: torch.dtype, device: str, fresh: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """q `[B, T, H, h]`, and k and v `[B, K, S, h]` from a cache, or fresh."""

    def make(*shape: int) -> Tensor:
        return torch.ones(shape, dtype=dtype, device=device)

    if fresh:
        k, v = (make(batch, keys, kv_heads, H).transpose(1, 2) for _ in "kv")
    else:
        k, v = (make(batch, kv_heads, keys, H) for _ in "kv")
    return make(batch, rows, heads, H), k, v


SHAPES = [
    pytest.param(
        heads,
        kv_heads,
        batch,
        rows,
        keys,
        fresh,
        id=f"{kv_heads} of {heads}, B={batch} T={rows} S={keys}{', fresh' * fresh}",
    )
    for heads, kv_heads in ((4, 4), (4, 2), (4, 1), (1, 1))
    for batch in (1, 2)
    for rows, keys in ((5, 5), (1, 6), (3, 7), (1, 1))
    for fresh in (False, True)
]


def transformers_core(
    function: Callable[..., Any], q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, **options: Any
) -> Tensor:
    """What transformers' `function` returns, called as its models call it, and flattened as they flatten it."""
    groups = q.shape[2] // k.shape[1]
    sinks = options.pop("sinks", None)
    module = SimpleNamespace(num_key_value_groups=groups, training=False, head_dim=H, sinks=sinks)
    out: Tensor = function(module, q.transpose(1, 2), k, v, bias, scaling=0.25, dropout=0.0, **options)[0]
    return out.reshape(*q.shape[:2], -1).contiguous()


@pytest.mark.parametrize(("heads", "kv_heads", "batch", "rows", "keys", "fresh"), SHAPES)
class TestHfEagerIsTransformers:
    @staticmethod
    def cases(
        heads: int, kv_heads: int, batch: int, rows: int, keys: int, fresh: bool
    ) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """q, k, v and a mask, on both devices in every dtype; fp16 on meta stands for CUDA: below."""
        for device in ("meta", "cpu"):
            for dtype in DTYPES:
                if dtype != torch.float16 or device == "cpu":
                    q, k, v = operands(
                        heads, kv_heads, batch=batch, rows=rows, keys=keys, dtype=dtype, device=device, fresh=fresh
                    )
                    yield q, k, v, torch.zeros(batch, 1, rows, keys, dtype=dtype, device=device)

    def test_llama(self, heads: int, kv_heads: int, batch: int, rows: int, keys: int, fresh: bool) -> None:
        from transformers.models.llama.modeling_llama import eager_attention_forward as llama

        for q, k, v, bias in self.cases(heads, kv_heads, batch, rows, keys, fresh):
            for mask in (bias, None):
                real = launched(lambda: transformers_core(llama, q, k, v, mask))  # noqa: B023
                assert launched(lambda: hf_eager(q, k, v, mask, scale=0.25)) == real  # noqa: B023

    def test_others(self, heads: int, kv_heads: int, batch: int, rows: int, keys: int, fresh: bool) -> None:
        """Gemma 2 with its softcap, GPT-OSS with its sinks, and GPT-NeoX, which has no groups."""
        from transformers.models.gemma2.modeling_gemma2 import eager_attention_forward as gemma
        from transformers.models.gpt_neox.modeling_gpt_neox import eager_attention_forward as neox
        from transformers.models.gpt_oss.modeling_gpt_oss import eager_attention_forward as oss

        for q, k, v, bias in self.cases(heads, kv_heads, batch, rows, keys, fresh):
            real = launched(lambda: transformers_core(gemma, q, k, v, bias, softcap=50.0))  # noqa: B023
            assert launched(lambda: hf_eager(q, k, v, bias, scale=0.25, softcap=50.0)) == real  # noqa: B023
            sinks = torch.zeros(heads, dtype=q.dtype, device=q.device)
            real = launched(lambda: transformers_core(oss, q, k, v, bias, sinks=sinks))  # noqa: B023
            assert launched(lambda: hf_eager_with_sinks(q, k, v, bias, sinks, scale=0.25)) == real  # noqa: B023
            if heads == kv_heads:
                real = launched(lambda: transformers_core(neox, q, k, v, bias))  # noqa: B023
                assert launched(lambda: hf_eager(q, k, v, bias, scale=0.25)) == real  # noqa: B023


class TestHfEagerOnCuda:
    """Fake CUDA tensors dispatch as a GPU would: what `meta` has to follow in the one step that differs."""

    @staticmethod
    def on_fake_cuda(scores: tuple[int, ...], dtype: torch.dtype) -> list[str]:
        """What the step launches on CUDA, as transformers writes it."""
        names: list[str] = []

        class Names(TorchDispatchMode):  # type: ignore[no-untyped-call]
            def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
                if func.namespace == "aten":
                    names.append(func._schema.name.removeprefix("aten::"))
                return func(*args, **(kwargs or {}))

        with FakeTensorMode(), torch.no_grad():
            x = torch.empty(scores, dtype=dtype, device="cuda")
            with Names():  # type: ignore[no-untyped-call]
                F.softmax(x, dim=-1, dtype=torch.float32).to(dtype)
        return [name for name in names if name != "detach"]

    @pytest.mark.parametrize(
        ("dtype", "kernels"),
        [
            (torch.bfloat16, ["_to_copy", "_softmax", "_to_copy"]),
            (torch.float16, ["_softmax", "_to_copy"]),
            (torch.float32, ["_softmax"]),
        ],
    )
    def test_the_softmax_of_fp16_converts_in_its_kernel(self, dtype: torch.dtype, kernels: list[str]) -> None:
        assert self.on_fake_cuda((2, 4, 5, 5), dtype) == kernels
        q, k, v = operands(4, 4, batch=2, rows=5, keys=5, dtype=dtype, device="meta", fresh=False)
        twin = [op for op, _ in launched(lambda: hf_eager(q, k, v, None, scale=0.25))]
        assert twin == ["clone", "bmm", "mul", *kernels, "bmm", "clone"]

    def test_bytes_of_the_converting_softmax(self) -> None:
        """2 . 4 . 5 . 5 = 200 scores: read as fp16 (400), written as fp32 (800); then cast back."""
        q, k, v = operands(4, 4, batch=2, rows=5, keys=5, dtype=torch.float16, device="meta", fresh=False)
        kernels = launched(lambda: hf_eager(q, k, v, None, scale=0.25))
        assert ("_softmax", 1200) in kernels
        assert kernels[kernels.index(("_softmax", 1200)) + 1] == ("_to_copy", 1200)


_OPENED = {
    *("scaled_dot_product_attention", "_scaled_dot_product_attention_math", "_safe_softmax", "softmax", "matmul"),
    *("reshape", "to", "repeat_interleave", "contiguous", "flatten"),
}
_VIEWS = {
    *("transpose", "expand", "view", "_unsafe_view", "as_strided", "unsqueeze", "_reshape_alias", "resolve_conj"),
    "select",
}


def profiled(work: Callable[[], object]) -> list[str]:
    """The ops that really run on the CPU: neither views nor ops that only call others, and not what runs inside one."""
    with torch.no_grad(), profile() as record:
        work()

    def runs(event: Any) -> bool:
        again = any(child.name == event.name for child in event.cpu_children)  # `where` with a scalar calls `where`
        return event.name.removeprefix("aten::") not in _OPENED | _VIEWS and not again

    def inside(event: Any) -> bool:
        above = event.cpu_parent
        return above is not None and (runs(above) or inside(above))

    found = [event.name.removeprefix("aten::") for event in record.events() if runs(event) and not inside(event)]
    return ["add" if name == "add_" else name for name in found]  # in place, where no dispatch mode looks on


@pytest.mark.parametrize(("heads", "kv_heads", "batch", "rows", "keys", "fresh"), SHAPES)
class TestSdpaMathIsTorch:
    def test_the_trace_shows_what_the_profiler_saw(
        self, heads: int, kv_heads: int, batch: int, rows: int, keys: int, fresh: bool
    ) -> None:
        """The same ops in the same order, in each dtype, with a mask and with the causal flag."""
        for dtype in (torch.bfloat16, torch.float32):
            q, k, v = operands(
                heads, kv_heads, batch=batch, rows=rows, keys=keys, dtype=dtype, device="cpu", fresh=fresh
            )
            bias = torch.zeros(rows, keys, dtype=dtype)
            for mask, causal in ((bias, False), (None, rows == keys)):

                def work(mask: Tensor | None = mask, causal: bool = causal) -> Tensor:
                    return sdpa_math(q, k, v, mask, causal=causal, scale=0.25)  # noqa: B023

                names = [op for op, _ in launched(work)]
                assert names == profiled(work)

    def test_meta_and_the_cpu_launch_the_same(
        self, heads: int, kv_heads: int, batch: int, rows: int, keys: int, fresh: bool
    ) -> None:
        for dtype in DTYPES:
            found = []
            for device in ("meta", "cpu"):
                q, k, v = operands(
                    heads, kv_heads, batch=batch, rows=rows, keys=keys, dtype=dtype, device=device, fresh=fresh
                )
                bias = torch.zeros(heads, rows, keys, dtype=dtype, device=device)
                found.append(launched(lambda: sdpa_math(q, k, v, bias, causal=False, scale=0.25)))  # noqa: B023
            assert found[0] == found[1]


class TestFigures:
    """Llama-3-8B's core at 4096 tokens, B = 1, bf16 (docs/reference-unfused.md, section 5)."""

    LAST_COPY = 2 * 4096 * 4096 * 2

    def core(self, reference: UnfusedReference) -> int:
        q = torch.empty(1, 4096, 32, 128, dtype=torch.bfloat16, device="meta")
        k = torch.empty(1, 8, 4096, 128, dtype=torch.bfloat16, device="meta")
        own = torch.empty(4096, 4096, dtype=torch.bfloat16, device="meta")
        of_each = own.view(1, 1, 4096, 4096)
        runs: dict[str, Callable[[], Tensor]] = {
            "lean-eager": lambda: core.lean_eager(q, k, k, own, scale=128**-0.5, softcap=None),
            "hf-eager": lambda: hf_eager(q, k, k, of_each, scale=128**-0.5),
            "sdpa-math": lambda: sdpa_math(q, k, k, None, causal=True, scale=128**-0.5),
        }
        return sum(size for _, size in launched(runs[reference]))

    def test_the_three_lists(self) -> None:
        found = {name: self.core(name) for name in ("lean-eager", "hf-eager", "sdpa-math")}
        assert found == {"lean-eager": 4_613_734_400, "hf-eager": 17_498_636_288, "sdpa-math": 24_847_319_064}

    def test_the_figures_in_circulation(self) -> None:
        """17.43 GB: without the last copy. 17.26: without it, and the safe softmax as its first kernel alone.

        Its other kernels: `isneginf` 4 + 1 bytes per score, `all` 1 and one per row, a scalar, `where` 4 + 4, one per
        row and the scalar. 32 . 4096 rows of 4096 scores.
        """
        scores, rows = 32 * 4096 * 4096, 32 * 4096
        assert round((self.core("hf-eager") - self.LAST_COPY) / 1e9, 2) == 17.43
        others = (4 + 1) * scores + (scores + rows) + 4 + (rows + 4 + 8 * scores)
        assert round((self.core("sdpa-math") - self.LAST_COPY - others) / 1e9, 2) == 17.26
        # 4.58: no mask is read (2 . 4096^2); q is scaled by a kernel of its own (2 Q) in place of the last copy (2 Q).
        assert round((self.core("lean-eager") - 2 * 4096 * 4096) / 1e9, 2) == 4.58
