"""The bibliography: where every formula and every constant of the program comes from.

Formulas and constants name a key of `BIBLIOGRAPHY`. `read` is the ISO day on which somebody read the
page, or the word ``recalled`` where a figure comes from memory and so counts as unconfirmed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Reference:
    """One entry: what it is called, where it stands, when it was read."""

    title: str
    url: str
    read: str


BIBLIOGRAPHY: Mapping[str, Reference] = MappingProxyType(
    {
        "reference-execution": Reference(
            "llmprof, The reference execution",
            "docs/reference-execution.md",
            "2026-11-23",
        ),
        "reference-experts": Reference(
            "llmprof, The reference execution of experts and of latent attention",
            "docs/reference-experts.md",
            "2026-11-24",
        ),
        "torch-flop-counter": Reference(
            "PyTorch, torch/utils/flop_counter.py: 2 m n k for a matrix product, the full square for attention",
            "https://github.com/pytorch/pytorch/blob/0140b62d8bab203e4699faeba802b5204fa51d26/torch/utils/flop_counter.py",
            "2026-11-23",
        ),
        "electra-flops": Reference(
            "ELECTRA, flops_computation.py: one FLOP per mathematical operation",
            "https://github.com/google-research/electra/blob/62e478a6353c7217c166582f49bca55c0de96a8d/flops_computation.py",
            "2026-11-23",
        ),
        "megatron-recompute": Reference(
            "Korthikanti et al. 2022, Reducing Activation Recomputation: tensor and sequence parallelism, section 4",
            "https://arxiv.org/abs/2205.05198",
            "recalled",
        ),
        "zero": Reference(
            "Rajbhandari et al. 2020, ZeRO: three stages, section 5",
            "https://arxiv.org/abs/1910.02054",
            "recalled",
        ),
        "flash-attention-2": Reference(
            "Dao 2023, FlashAttention-2",
            "https://arxiv.org/abs/2307.08691",
            "recalled",
        ),
        "flash-attention-2-tiles": Reference(
            "FlashAttention-2, flash_fwd_launch_template.h: tiles and warps per head_dim, of split-KV too",
            "https://github.com/Dao-AILab/flash-attention/blob/01afd16d248c4c7d0f9aed1914084f16c490eaed/csrc/flash_attn/src/flash_fwd_launch_template.h",
            "2026-11-23",
        ),
        "flash-attention-2-kernel": Reference(
            "FlashAttention-2, flash_fwd_kernel.h: the range of key tiles that a query tile visits",
            "https://github.com/Dao-AILab/flash-attention/blob/0142ff05acc56c45755638857e77e35f1c350098/csrc/flash_attn/src/flash_fwd_kernel.h",
            "2026-11-23",
        ),
        "flash-attention": Reference(
            "Dao et al. 2022, FlashAttention: algorithms 1 and 4, theorem 2",
            "https://arxiv.org/abs/2205.14135",
            "recalled",
        ),
        "flash-attention-2-backward-tiles": Reference(
            "FlashAttention-2, flash_bwd_launch_template.h: tiles of the backward per head_dim and shared memory",
            "https://github.com/Dao-AILab/flash-attention/blob/0251105a2fb19d2957484b7f023cd8c115286ced/csrc/flash_attn/src/flash_bwd_launch_template.h",
            "2026-11-30",
        ),
        "flash-attention-2-splits": Reference(
            "FlashAttention-2, flash_api.cpp: num_splits_heuristic; which masks and packings reach the kernels",
            "https://github.com/Dao-AILab/flash-attention/blob/0251105a2fb19d2957484b7f023cd8c115286ced/csrc/flash_attn/flash_api.cpp",
            "2026-11-30",
        ),
        "flash-attention-3-launch": Reference(
            "FlashAttention-3, flash_fwd_launch_template.h: where clusters of two CTAs are used",
            "https://github.com/Dao-AILab/flash-attention/blob/0251105a2fb19d2957484b7f023cd8c115286ced/hopper/flash_fwd_launch_template.h",
            "2026-11-30",
        ),
        "flash-attention-3-tiles": Reference(
            "FlashAttention-3, hopper/tile_size.h: tiles per head_dim and mask, and where P is kept",
            "https://github.com/Dao-AILab/flash-attention/blob/0251105a2fb19d2957484b7f023cd8c115286ced/hopper/tile_size.h",
            "2026-11-30",
        ),
    }
)
