"""What is assumed of drivers, libraries and engines, each with the places that it was read in.

None of it can be derived from a model, and all of it changes with versions: every term that rests on it is labelled
unconfirmed, and `Overheads` takes what somebody has measured instead. All sources were read on 2026-11-30.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

MIB, GIB = 2**20, 2**30

VLLM_DOC = "https://github.com/llm-d-incubation/llm-d-planner/blob/e50305af90f0812e77e1827f3bc740fe75b76370/docs/empirical-vllm-memory-results.md"
"""Eight starts of vLLM 0.11.0 on one and two H100, term by term."""

OCI_DOC = (
    "https://github.com/oracle-samples/oci-data-science-ai-samples/blob/main/ai-quick-actions/troubleshooting-tips.md"
)
"""Two starts of vLLM on A10, one of which has room for its cache."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumption:
    """A figure that somebody printed: `value` in bytes, what it is of, and where it was read."""

    value: int
    what: str
    sources: tuple[str, ...]

    @property
    def note(self) -> str:
        """The same in one line."""
        return f"{self.what} ({'; '.join(self.sources)})"


CONTEXT = Assumption(
    value=543 * MIB,
    what="context of the driver, the largest of 0.41, 0.42 and 0.53 GiB that RTX 3090, RTX 6000 Ada and H100 printed",
    sources=(
        "https://github.com/noonghunna/club-3090/pull/1139: 23.15 of 23.56 GiB free at the start",
        "https://github.com/unslothai/unsloth-zoo/pull/1053: 426 MiB, torch 2.10+cu130",
        "a start of vLLM 0.10.2 on an H100: 78.66 of 79.19 GiB free",
    ),
)

MODULES = Assumption(
    value=164 * MIB,
    what="kernels loaded and libraries' own memory after the start, the largest of 0.05, 0.13 to 0.14 and 0.16 GiB",
    sources=(
        f"{VLLM_DOC}: non-torch, 0.13 to 0.14 GiB on one H100",
        "https://github.com/vllm-project/vllm/pull/12126: 0.16 GiB on an H100",
        f"{OCI_DOC}: 0.05 GiB on an A10",
    ),
)

WORKSPACE = Assumption(
    value=8_519_680,
    what="torch's workspace of cuBLAS",
    sources=(
        "https://discuss.pytorch.org/t/torch-cuda-memory-snapshot-shows-an-unexpected-8519680b-memory-allocation-during-matrix-multiplication/178671",
        "https://github.com/pytorch/pytorch/blob/1460e5b7f5e85de532d18ad0c2ac7d48211100e8/aten/src/ATen/cuda/CublasHandlePool.cpp",
    ),
)

WORKSPACE_SM90 = Assumption(
    value=32 * MIB,
    what="torch's workspace of cuBLAS from Hopper on",
    sources=(
        "https://github.com/pytorch/pytorch/pull/120925",
        "https://www.mail-archive.com/commits@tvm.apache.org/msg105009.html",
    ),
)

GRAPHS = Assumption(
    value=1055 * MIB,
    what="captured graphs, the most of eight models: 1.03 GiB",
    sources=(
        f"{VLLM_DOC}: -0.88 to 1.03 GiB",
        "https://github.com/xming521/WeClone/issues/101: 0.64 GiB for a model of 7B",
    ),
)

COMMUNICATION_NVLINK = Assumption(
    value=430 * MIB,
    what="buffers of collectives over NVLink: what non-torch memory grows by from one H100 to two, 0.13 to 0.55 GiB",
    sources=(
        VLLM_DOC,
        "https://github.com/NVIDIA/nccl/issues/986: linear in the channels, of which a faster link has more",
    ),
)

COMMUNICATION_PCIE = Assumption(
    value=174 * MIB,
    what="buffers of collectives without NVLink: 0.30 GiB of non-torch memory on two L40S, less the 0.13 of one device",
    sources=(
        "https://github.com/vllm-project/vllm/issues/15815",
        "https://github.com/vllm-project/vllm/pull/14447: 0.20 GiB on RTX 3090",
    ),
)

VllmVersion = Literal["0.11.0", "0.19.0", "0.33.0"]


@dataclass(frozen=True, slots=True, kw_only=True)
class VllmRules:
    """What a version of vLLM does with a device that it is told nothing about.

    `utilisation` is its gpu_memory_utilization, numerator and denominator: of the device it requests that part, rounded
    up (vllm/v1/worker/utils.py, `request_memory`). `graphs_requested`: whether graphs are taken out of that part; the
    driver's context never is. `sampler` is how it draws tokens (`sampler.py`). `further_batches`: how many passes it
    prepares beside those of the stages of a pipeline, whose pages of windows it keeps as well. `expert_workspaces`:
    whether its kernel of experts is known to keep workspaces (`experts.py`).
    """

    utilisation: tuple[int, int]
    graphs_requested: bool
    sampler: Literal["sorted", "in-place", "fused"]
    further_batches: int
    expert_workspaces: bool
    source: str


VLLM_RULES: dict[VllmVersion, VllmRules] = {
    "0.11.0": VllmRules(
        utilisation=(9, 10),
        graphs_requested=False,
        sampler="sorted",
        further_batches=0,
        expert_workspaces=False,
        source=VLLM_DOC,
    ),
    "0.19.0": VllmRules(
        utilisation=(9, 10),
        graphs_requested=False,
        sampler="in-place",
        further_batches=0,
        expert_workspaces=True,
        source="https://pypi.org/project/vllm/0.19.0/, vllm/config/cache.py, vllm/v1/worker/gpu_worker.py",
    ),
    "0.33.0": VllmRules(
        utilisation=(23, 25),
        graphs_requested=True,
        sampler="fused",
        further_batches=1,
        expert_workspaces=True,
        source="https://pypi.org/project/vllm/0.33.0/, vllm/config/cache.py, vllm/config/vllm.py, "
        "vllm/v1/worker/gpu_worker.py",
    ),
}
"""The versions whose logs were found, whose source was read, and whose command line is written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverTotal:
    """What the driver says a device has, which is neither the vendor's figure nor what lies on the board."""

    value: int
    sources: tuple[str, ...]


def _gib(hundredths: int) -> int:
    return hundredths * GIB // 100


DRIVER_TOTALS = {
    "h100-sxm-80gb": DriverTotal(
        value=_gib(7918),
        sources=(f"{VLLM_DOC}: 79.18 GiB", "https://github.com/vllm-project/vllm/pull/10511: 79.22 GiB"),
    ),
    "l40s": DriverTotal(
        value=_gib(4442),
        sources=(
            "https://github.com/vllm-project/vllm/issues/15815: 44.42 GiB",
            "https://github.com/stepfun-ai/Step-Video-T2V/issues/8: 44.42 GiB",
            "https://github.com/Wan-Video/Wan2.1/issues/205: 44.53 GiB",
        ),
    ),
    "t4": DriverTotal(
        value=_gib(1456),
        sources=(
            "https://github.com/Zheng-Chong/CatVTON/issues/133: 14.56 GiB",
            "https://github.com/hpcaitech/Open-Sora/issues/697: 14.75 GiB",
        ),
    ),
    "a10": DriverTotal(
        value=_gib(2207),
        sources=(
            f"{OCI_DOC}: 22.07 GiB",
            "https://github.com/XavierXiao/Dreambooth-Stable-Diffusion/issues/18: 22.20 GiB",
        ),
    ),
    "rtx-3090": DriverTotal(
        value=_gib(2356),
        sources=(
            "https://github.com/noonghunna/club-3090/pull/1139: 23.56 GiB",
            "https://github.com/vllm-project/vllm/pull/14447: 23.58 GiB",
        ),
    ),
}
"""Device -> the least that two places say its driver reports in all; error correction and the driver keep the rest."""
