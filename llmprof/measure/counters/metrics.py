"""Which counters are asked for, by chip: Nsight Compute's names, each with what it counts.

Names, descriptions and numbers of passes were worked out chip by chip, without a GPU, by NVIDIA's own host library
(`libnvperf_host.so` of the package nvidia-cuda-cupti 13.5.25: ``NVPW_MetricsEvaluator_GetMetricNames``,
``..._GetCounterProperties``, ``NVPW_RawMetricsConfig_GetNumPasses``), 2026-11-30. The chips of a family have the same.

There are two runs. What depends on the caches is counted in the first, which needs a single pass on every chip: a
kernel that is replayed finds the caches as its first launch left them. What does not depend on them follows in the
second, where replaying does no harm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from llmprof.measure.counters.unavailable import Unavailable

TIME = "gpu__time_duration.sum"
"""Nanoseconds of the kernel."""

L2 = "lts__t_bytes.sum"
"""Bytes requested of the L2 cache, by whomever: of the SMs, of the copy engines, of its other half."""

SHARED = "sm__sass_data_bytes_mem_shared.sum"
"""Bytes that instructions read from shared memory and write to it: LDS, STS, ATOMS, LDSM, LDGSTS, on Hopper STSM and
the operands of GMMA. Copies of the tensor memory accelerator (TMA) are no such instructions, and not in it."""

_SHARED_SPLITS = ("op_ld", "op_st", "op_ldsm", "op_ldgsts")


@dataclass(frozen=True, slots=True, kw_only=True)
class Chip:
    """The names that one chip has. `tensor`: by dtype of the operands, the counters whose sum is its tensor FLOPs;
    those of the dtypes in `one_pass` fit into a pass with time, DRAM and L2.

    `shared_splits` are parts of `SHARED` by kind of instruction. `shared_blind` says what that counter misses on this
    chip, where it misses something.
    """

    name: str
    dram_read: str = "dram__bytes_read.sum"
    dram_write: str = "dram__bytes_write.sum"
    tensor: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    one_pass: frozenset[str] = frozenset({"bf16", "tf32"})
    shared_splits: tuple[str, ...] = ()
    shared_blind: str = ""

    def runs(self, dtype: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The counters of the first run and of the second, for a pass that multiplies `dtype`."""
        tensor = self.tensor.get(dtype, ())
        first = (TIME, self.dram_read, self.dram_write, L2)
        second = (SHARED, *self.shared_splits)
        return ((*first, *tensor), second) if dtype in self.one_pass else (first, (*second, *tensor))


def _tensor(*sources: str) -> tuple[str, ...]:
    return tuple(f"sm__ops_path_tensor_src_{source}.sum" for source in sources)


def _shared(*more: str) -> tuple[str, ...]:
    return tuple(f"sm__sass_data_bytes_mem_shared_{kind}.sum" for kind in (*_SHARED_SPLITS, *more))


_BF16, _TF32 = _tensor("bf16_dst_fp32"), _tensor("tf32_dst_fp32")
_FP16 = _tensor("fp16_dst_fp16", "fp16_dst_fp32")
_WITH_FP8 = frozenset({"bf16", "tf32", "fp8"})
_AMPERE = {"bf16": _BF16, "fp16": _FP16, "tf32": _TF32}

_TURING = Chip(
    name="TU102",
    tensor={"fp16": _tensor("fp16_dst_fp16", "fp16_bf16_tf32_dst_fp32")},
    one_pass=frozenset({"fp16"}),
    shared_splits=tuple(f"sm__sass_data_bytes_mem_shared_{kind}.sum" for kind in ("op_ld", "op_st", "op_ldsm")),
)
_GA100 = Chip(name="GA100", tensor=_AMPERE, shared_splits=_shared())
_GA102 = Chip(name="GA102", tensor=_AMPERE, shared_splits=_shared())
_AD102 = Chip(name="AD102", tensor={**_AMPERE, "fp8": _tensor("fp8")}, one_pass=_WITH_FP8, shared_splits=_shared())
_GH100 = Chip(
    name="GH100",
    tensor={"bf16": _BF16, "fp16": _tensor("fp16"), "tf32": _TF32, "fp8": _tensor("fp8")},
    one_pass=_WITH_FP8,
    shared_splits=_shared("op_stsm", "op_gmma"),
)
_BLIND = "its fifth-generation tensor cores read shared memory without an instruction that this counter knows"
_GB100 = Chip(
    name="GB100",
    tensor={**_AMPERE, "fp8": _tensor("fp4_fp6_fp8_dst_fp16", "fp4_fp6_fp8_dst_fp32")},
    one_pass=frozenset({"bf16"}),
    shared_splits=_shared("op_stsm"),
    shared_blind=_BLIND,
)
_GB110 = Chip(
    name="GB110",
    tensor={**_AMPERE, "fp8": _tensor("fp8_dst_fp16", "fp8_dst_fp32")},
    one_pass=frozenset({"bf16"}),
    shared_splits=_shared("op_stsm"),
    shared_blind=_BLIND,
)
_GB202 = Chip(
    name="GB202",
    dram_read="dram__bytes_op_read.sum",
    dram_write="dram__bytes_op_write.sum",
    tensor={**_AMPERE, "fp8": _tensor("fp8_dst_fp16", "fp8_dst_fp32")},
    shared_splits=_shared("op_stsm"),
)

CHIPS: Mapping[tuple[int, int], Chip] = {
    (7, 5): _TURING,
    (8, 0): _GA100,
    (8, 6): _GA102,
    (8, 9): _AD102,
    (9, 0): _GH100,
    (10, 0): _GB100,
    (10, 3): _GB110,
    (12, 0): _GB202,
}
"""Compute capability -> chip. One chip stands for its family. Which capability a family has is recalled (NVIDIA's table
of CUDA GPUs)."""

_WITHOUT_DRAM = {(8, 7), (11, 0), (12, 1)}
"""Chips whose memory is the host's (Orin, Thor, GB10): their lists have no ``dram__bytes`` (GB10B, GB20B)."""


def chip_of(capability: tuple[int, int]) -> Chip:
    """The chip of a compute capability, or Unavailable where its counters are not known."""
    chip = CHIPS.get(capability)
    if chip is not None:
        return chip
    text = f"{capability[0]}.{capability[1]}"
    if capability in _WITHOUT_DRAM:
        raise Unavailable(f"a chip of compute capability {text} has no counters of its memory", "use another GPU")
    known = ", ".join(f"{major}.{minor}" for major, minor in CHIPS)
    raise Unavailable(
        f"the names of the counters of compute capability {text} are not known (known: {known})",
        "run ncu --query-metrics there, and add them to llmprof/measure/counters/metrics.py",
    )


def value_of(metrics: Mapping[str, float], name: str) -> float | None:
    """The value of a counter in a report, or None.

    Some versions report of a tensor counter its two parts alone, with and without sparsity, and not their sum.
    """
    found = metrics.get(name)
    if found is not None:
        return found
    stem = name.removesuffix(".sum")
    parts = [metrics.get(f"{stem}_sparsity_{part}.sum") for part in ("off", "on")]
    known = [part for part in parts if part is not None]
    return sum(known) if len(known) == len(parts) else None


def sum_of(metrics: Mapping[str, float], names: tuple[str, ...]) -> float | None:
    """The sum of several counters, or None where there are none or one of them has no value."""
    values = [value_of(metrics, name) for name in names]
    known = [value for value in values if value is not None]
    return sum(known) if values and len(known) == len(values) else None
