"""The literal lists of kernels of attention: real torch launches the same ones, and hand arithmetic adds them up."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from llmprof.claims.papers.attention_kernels import Shape, flash, with_added_mask_and_dropout, with_filled_padding
from llmprof.claims.papers.kernels import Kernels

SMALL = Shape(batch=2, heads=3, length=8, head_dim=4)
PAPER = Shape(batch=64, heads=16, length=1024, head_dim=64)

SQUARE = 64 * 16 * 1024 * 1024
"""Scores of the paper's setting."""

ROWS = 64 * 16 * 1024
"""Its queries."""


class Moved(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Bytes of the distinct inputs and of the outputs of every launched op, without views."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.nbytes = 0
        self.ops: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        out = func(*args, **(kwargs or {}))
        if not func.is_view and func.overloadpacket not in (torch.ops.aten._unsafe_view, torch.ops.aten.detach):
            given = {id(each): each for each in args if isinstance(each, Tensor)}
            made = out if isinstance(out, tuple) else (out,)
            self.nbytes += sum(each.numel() * each.element_size() for each in (*given.values(), *made))
            self.ops.append(func.overloadpacket.__name__)
        return out


def run(attention: Callable[[Tensor, Tensor, Tensor], Tensor], shape: Shape) -> Moved:
    """Forward and backward of real tensors, folded to batch x heads as the products take them."""
    folded = (shape.batch * shape.heads, shape.length, shape.head_dim)
    q, k, v = (torch.randn(folded, dtype=torch.float16, requires_grad=True) for _ in range(3))
    do = torch.randn(folded, dtype=torch.float16)
    moved = Moved()
    with moved:
        o = attention(q, k, v)
        torch.autograd.grad(o, (q, k, v), do)
    return moved


def test_added_mask_and_dropout_are_the_kernels_that_torch_launches() -> None:
    mask = torch.zeros(SMALL.length, SMALL.length, dtype=torch.float16)

    def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        p = torch.softmax(torch.bmm(q, k.transpose(1, 2)) + mask, -1)
        return torch.bmm(torch.native_dropout(p, 0.1, True)[0], v)  # one kernel, as on CUDA

    moved = run(attention, SMALL)
    kernels = with_added_mask_and_dropout(SMALL)
    assert len(moved.ops) == len(kernels.ops), moved.ops
    assert moved.nbytes == kernels.hbm_bytes


def test_filled_padding_is_the_kernels_that_torch_launches() -> None:
    padding = torch.zeros(SMALL.batch, SMALL.length, dtype=torch.bool)

    def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scores = torch.bmm(q, k / math.sqrt(SMALL.head_dim)).view(SMALL.batch, SMALL.heads, *q.shape[1:2], -1)
        p = torch.softmax(scores.masked_fill(padding[:, None, None], -math.inf), -1)
        return torch.bmm(p.flatten(0, 1), v)

    # Keys come transposed, so that nothing but the listed kernels runs.
    def transposed(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return attention(q, k.transpose(1, 2), v)

    moved = run(transposed, SMALL)
    kernels = with_filled_padding(SMALL)
    assert len(moved.ops) == len(kernels.ops), moved.ops
    assert moved.nbytes == kernels.hbm_bytes


@pytest.mark.parametrize(
    ("kernels", "passes_of_scores", "passes_of_rows", "rest"),
    [
        # A pass of scores is 2 bytes for each, one of rows 2 * 64 for each. Dropout's mask: written and read, 1 byte.
        (with_added_mask_and_dropout, 17, 12, 2 * SQUARE + 2 * 1024 * 1024),
        # A mask of padding is read forward and backward, a byte for each key of each sequence.
        (with_filled_padding, 15, 16, 2 * 64 * 1024),
    ],
)
def test_passes_over_the_square(
    kernels: Callable[[Shape], Kernels], passes_of_scores: int, passes_of_rows: int, rest: int
) -> None:
    listed = kernels(PAPER)
    assert listed.hbm_bytes == passes_of_scores * 2 * SQUARE + passes_of_rows * 2 * 64 * ROWS + rest
    assert listed.matmul_flops == 6 * 2 * SQUARE * 64 == 824_633_720_832


@pytest.mark.parametrize(("partials", "size"), [("fp16", 2), ("fp32", 4)])
def test_passes_of_flash_attention(partials: str, size: int) -> None:
    listed = flash(PAPER, 256, partials=partials)  # type: ignore[arg-type]
    whole = 2 * 64 * ROWS  # q, o, do or dq once, in 16 bit; all slices of k, v, dk or dv together are as much
    forward = (2 + 4 + 1) * whole + (
        3 + 3
    ) * size * 64 * ROWS  # k, v; q per pass; o at last; partials stored and loaded
    backward = (4 + 4 + 4 + 1 + 1) * whole + (3 + 3) * size * 64 * ROWS  # k, v, dk, dv; q; do; o once; dq at last
    statistics = (4 + 3 + 4 + 1 + 4) * 4 * ROWS  # log-sum-exp: stored, loaded, loaded; row sums: stored, loaded
    assert listed.hbm_bytes == forward + backward + statistics
    assert listed.matmul_flops == 7 * 2 * SQUARE * 64 == 962_072_674_304


def test_fewer_keys_at_once_mean_more_passes_and_the_same_flops() -> None:
    small, large = (flash(PAPER, keys, partials="fp16") for keys in (128, 512))
    assert small.matmul_flops == large.matmul_flops
    assert small.hbm_bytes > large.hbm_bytes


def test_a_sheet_has_every_kernel_and_its_total() -> None:
    sheet = with_added_mask_and_dropout(PAPER).sheet("standard")
    assert [line.of for line in sheet.lines][3] == "dropout"
    assert sheet.lines[3].what == "reads p; writes dropped, kept"
    assert sheet.lines[3].value == (2 + 2 + 1) * SQUARE
    assert sheet.total == with_added_mask_and_dropout(PAPER).hbm_bytes
