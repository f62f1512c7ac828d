"""Where the figures are printed and when that was read; `recalled` is from memory, and counts as unconfirmed."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from llmprof.sources import Reference

_READ = "2026-11-30"

CITATIONS: Mapping[str, Reference] = MappingProxyType(
    {
        "flash-attention": Reference(
            "Dao et al. 2022, FlashAttention, figure 2 (left); algorithms 1 and 4",
            "https://arxiv.org/abs/2205.14135",
            "recalled",
        ),
        "flash-attention-forward": Reference(
            "FlashAttention 1, fmha_fprop_kernel_1xN.h: what a pass over the queries loads and stores",
            "https://github.com/Dao-AILab/flash-attention/blob/635f159ee32c78319d7ab41b160be998bc4b91b0/csrc/flash_attn/src/fmha_fprop_kernel_1xN.h",
            _READ,
        ),
        "flash-attention-backward": Reference(
            "FlashAttention 1, fmha_dgrad_kernel_1xN_loop.h: the same of the backward pass",
            "https://github.com/Dao-AILab/flash-attention/blob/31018c5fa0349384d3b90ad66f12d560182020e7/csrc/flash_attn/src/fmha_dgrad_kernel_1xN_loop.h",
            _READ,
        ),
        "flash-attention-2": Reference(
            "Dao 2023, FlashAttention-2, section 4.1 (FLOPs) and table 1",
            "https://arxiv.org/abs/2307.08691",
            "recalled",
        ),
        "flash-attention-3": Reference(
            "Shah et al. 2024, FlashAttention-3, section 4.1 (FLOPs)",
            "https://arxiv.org/abs/2407.08608",
            "recalled",
        ),
        "shazeer-2019": Reference(
            "Shazeer 2019, Fast Transformer Decoding, table 2 and section 4.1",
            "https://arxiv.org/abs/1911.02150",
            "recalled",
        ),
        "gqa": Reference("Ainslie et al. 2023, GQA, table 1", "https://arxiv.org/abs/2305.13245", "recalled"),
        "deepseek-hardware": Reference(
            "Zhao et al. 2025, Insights into DeepSeek-V3, table 1", "https://arxiv.org/abs/2505.09343", "recalled"
        ),
        "chinchilla": Reference(
            "Hoffmann et al. 2022, Training Compute-Optimal Large Language Models, table A4, table A9 and appendix F",
            "https://arxiv.org/abs/2203.15556",
            "recalled",
        ),
        "palm": Reference(
            "Chowdhery et al. 2022, PaLM, table 1, table 3 and appendix B",
            "https://arxiv.org/abs/2204.02311",
            "recalled",
        ),
        "megatron-recompute": Reference(
            "Korthikanti et al. 2022, Reducing Activation Recomputation, tables 2, 3 and 5, equation 7",
            "https://arxiv.org/abs/2205.05198",
            "recalled",
        ),
        "megatron-readme": Reference(
            "Megatron-LM, README: model FLOPs utilisation of 22B to 1T",
            "https://developer.sourcefind.cn/codes/OpenDAS/megatron-lm/-/commit/841f789f482905e7913db888c986ca6084b1f38c",
            _READ,
        ),
        "zero": Reference(
            "Rajbhandari et al. 2020, ZeRO, figure 1 and section 3.1", "https://arxiv.org/abs/1910.02054", "recalled"
        ),
        "zero-copy": Reference(
            "Lewis Won, ZeRO by hand: figure 1 of the paper, 7.5 B parameters",
            "https://dev.to/lewis_won/data-parallelism-4g3m",
            _READ,
        ),
    }
)
