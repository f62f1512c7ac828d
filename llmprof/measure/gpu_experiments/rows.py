"""Kernels over rows: softmax of long rows, softmax with a cast, and RMSNorm."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional

from llmprof.measure.gpu_experiments.experiment import Experiment, Finding, Gpu, Operation, Step, launches, ratios

LENGTHS = (512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072)
WIDTH = 4096
_CACHES = 4
"""Tensors are so many L2 caches large, so that their bytes come from memory."""


def _matrix(gpu: Gpu, width: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    return torch.randn(_rows(gpu, width), width, dtype=dtype, device=device)


def _rows(gpu: Gpu, width: int) -> int:
    return max(_CACHES * gpu.l2 // (2 * width), 1)


def _softmax(gpu: Gpu) -> Sequence[Step]:
    def step(length: int) -> Step:
        def build(device: torch.device) -> Operation:
            scores = _matrix(gpu, length, torch.bfloat16, device)
            return lambda: torch.softmax(scores, -1)

        nbytes = 2 * _rows(gpu, length) * length
        return Step(label=f"{length} in a row", build=build, predicted={"dram_bytes": 2 * nbytes, "kernels": 1})

    return [step(length) for length in LENGTHS]


SOFTMAX = Experiment(
    name="softmax-rows",
    settles="softmax in 16 bit reads its input once and writes it once; long rows may be read twice (1.5x)",
    steps=_softmax,
    answer=ratios,
)


def _casts(gpu: Gpu) -> Sequence[Step]:
    def step(dtype: torch.dtype, kernels: int) -> Step:
        def build(device: torch.device) -> Operation:
            scores = _matrix(gpu, 2048, dtype, device)
            return lambda: torch.softmax(scores, -1, dtype=torch.float32)

        elements = _rows(gpu, 2048) * 2048
        # One kernel reads 2 bytes and writes 4; with a cast of its own there are 4 more written, and read again.
        moved = elements * (6 if kernels == 1 else 6 + 8)
        return Step(
            label=str(dtype).removeprefix("torch."), build=build, predicted={"dram_bytes": moved, "kernels": kernels}
        )

    return [step(torch.float16, 1), step(torch.bfloat16, 2)]


CASTS = Experiment(
    name="softmax-fp32",
    settles="softmax(dtype=fp32) is one kernel for fp16 and two for bf16: the fused cast exists for fp16 alone",
    steps=_casts,
    answer=launches,
)


def _norms(gpu: Gpu) -> Sequence[Step]:
    def build(device: torch.device) -> Operation:
        x = _matrix(gpu, WIDTH, torch.bfloat16, device)
        weight = torch.ones(WIDTH, dtype=torch.bfloat16, device=device)
        return lambda: functional.rms_norm(x, (WIDTH,), weight, 1e-6)

    nbytes = 2 * _rows(gpu, WIDTH) * WIDTH
    return [Step(label="rms_norm", build=build, predicted={"dram_bytes": 2 * nbytes + 2 * WIDTH, "kernels": 1})]


def _norm_answer(findings: Sequence[Finding]) -> str:
    return f"kernels {launches(findings)}; bytes {ratios(findings)}"


NORMS = Experiment(
    name="rms-norm",
    settles="F.rms_norm is one kernel on CUDA, although it decomposes on CPU and meta",
    steps=_norms,
    answer=_norm_answer,
)
