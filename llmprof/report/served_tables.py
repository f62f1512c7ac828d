"""What `llmprof calibrate` found of served ops and of hosts, as records, as tables, and as a table of measured ops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from llmprof.latency.op import Collective, DecodeAttention, Gemm, Op, PrefillAttention
from llmprof.report.tables import Table, to_csv
from llmprof.units import format_count

if TYPE_CHECKING:
    from llmprof.latency.served_profile import HostConstant, Served, ServedKernel

POINT_COLUMNS = (
    "row_id",
    "op",
    "device",
    "framework",
    "dtype",
    "kv_dtype",
    "kernel",
    "m",
    "n",
    "k",
    "b",
    "s",
    "h",
    "g",
    "d",
    "prefix",
    "window",
    "num_gpus",
    "bytes",
    "us",
)
"""Those of `llmprof verify --ops` that products, attention and all-reduce have."""


class TimedOp(Protocol):
    """An op that was timed: which kernel was called, and the seconds of one launch."""

    @property
    def op(self) -> Op: ...
    @property
    def kernel(self) -> str: ...
    @property
    def seconds(self) -> float: ...


def served_records(served: Served) -> list[dict[str, Any]]:
    """One record for each kernel, with the columns of `calibration_records` and the constants beside."""
    return [
        {
            "device": served.device,
            "dtype": each.dtype,
            "family": f"served {each.op}",
            "kind": each.form,
            "engine": each.engine,
            "launch_s": _start(each) * 1e-6,
            "flops_per_s": _flops(each, served),
            "bytes_per_s": _bytes(each, served),
            "points": each.timed,
            "median_error": each.median_error,
            "p90_error": each.p90_error,
            "low": each.long[0],
            "high": each.long[-1],
            "short_low": each.short[0],
            "short_high": each.short[-1],
        }
        for each in served.kernels
    ]


def host_records(hosts: Sequence[HostConstant]) -> list[dict[str, Any]]:
    """One record for each deployment: seconds per pass, and how far its points are from it."""
    return [
        {
            "device": each.device,
            "engine": each.engine,
            "version": each.version,
            "step_s": each.step_s,
            "points": each.points,
            "mean_error": each.mean_error,
            "largest_error": each.largest_error,
        }
        for each in hosts
    ]


def served_table(served: Served, notes: Sequence[str]) -> Table:
    """The kernels for a reader."""
    said = served.conditions
    clocks = said.sm_clock_mhz
    parts = [
        f"clock {clocks[0]} to {clocks[1]} MHz" if clocks is not None else "",
        f"power up to {said.power_mw / 1e3:.0f} W" if said.power_mw is not None else "",
        f"of {said.power_limit_mw / 1e3:.0f} W" if said.power_limit_mw is not None else "",
        f"driver {said.driver}" if said.driver is not None else "",
    ]
    under = ", ".join(part for part in parts if part)
    return Table(
        title=f"{served.device} as `plan` and `verify` see it: constants of served ops",
        columns=(
            "op",
            "dtype",
            "kernel of",
            "form",
            "start",
            "FLOP/s",
            "B/s",
            "points",
            "median error",
            "p90",
            "90% within, below 20 us",
            "above",
        ),
        rows=tuple(
            (
                each.op,
                each.dtype,
                each.engine or "all engines",
                each.form,
                f"{_start(each):.1f} us",
                _count(_flops(each, served)),
                _count(_bytes(each, served)),
                str(each.timed),
                f"{each.median_error:.1%}",
                f"{each.p90_error:.1%}",
                f"{each.short[0]:.2f}x to {each.short[-1]:.2f}x",
                f"{each.long[0]:.2f}x to {each.long[-1]:.2f}x",
            )
            for each in served.kernels
        ),
        notes=(
            *((f"Measured at {under}.",) if under else ()),
            "FLOP/s, B/s: what a kernel nears as it grows. Errors and intervals are of times that were held out, a "
            "third at a time; those of launches are of its repetitions.",
            *notes,
        ),
    )


def host_table(hosts: Sequence[HostConstant]) -> Table:
    """What hosts add to a pass."""
    return Table(
        title="What the engine's own code adds to each pass, by served points",
        columns=("device", "engine", "version", "added to a pass", "points", "mean error", "largest"),
        rows=tuple(
            (
                each.device,
                each.engine,
                each.version or "not said",
                f"{each.step_s * 1e3:.2f} ms",
                str(each.points),
                f"{each.mean_error:.1%}",
                f"{each.largest_error:.1%}",
            )
            for each in hosts
        ),
        notes=("Errors are of the time per token of the very points that were fitted to.",),
    )


def points_csv(device: str, samples: Sequence[TimedOp]) -> str:
    """Products, attention and all-reduce that were timed, in the columns of `llmprof verify --ops`.

    What moves memory and starts of kernels have no rows there.
    """
    records: list[dict[str, object]] = []
    for sample in samples:
        record = _sizes(sample.op)
        if record is not None:
            said = {
                "device": device,
                "framework": "torch",
                "kernel": sample.kernel,
                "us": f"{sample.seconds * 1e6:.6g}",
            }
            records.append({"row_id": f"{len(records) + 1:04d}", **record, **said})
    return to_csv(records, POINT_COLUMNS)


def _sizes(op: Op) -> dict[str, object] | None:
    """What an op is, by the columns; None for one that has no rows."""
    match op:
        case Gemm():
            return {"op": "gemm", "dtype": _dtype(op.dtype), "m": op.m, "n": op.n, "k": op.k}
        case DecodeAttention():
            return {"op": "decode_attn", "s": op.context, **_heads(op)}
        case PrefillAttention():
            return {"op": "prefill_attn", "s": op.new_tokens, "prefix": op.prefix, **_heads(op)}
        case Collective():
            return {"op": op.kind, "dtype": _dtype("bf16"), "num_gpus": op.devices, "bytes": op.bytes}
        case _:
            return None


def _heads(op: DecodeAttention | PrefillAttention) -> dict[str, object]:
    dtype = _dtype(op.kv_dtype)
    sizes = {"b": op.batch, "h": op.heads, "g": op.kv_heads, "d": op.head_dim, "window": op.window}
    return {"dtype": dtype, "kv_dtype": dtype, **sizes}


def _dtype(name: str) -> str:
    """As tables write it."""
    return {"bf16": "bfloat16", "fp16": "float16"}.get(name, name)


def _start(each: ServedKernel) -> float:
    """Microseconds."""
    if each.op == "allreduce":
        return min(value for name, value in each.constants.items() if name.startswith("a1_"))
    return each.constants["t_launch" if each.op == "launch" else "t0"]


def _flops(each: ServedKernel, served: Served) -> float | None:
    peak = served.figures.fp8 if each.dtype == "fp8" else served.figures.bf16
    return each.constants["e_c"] * peak if "e_c" in each.constants and peak is not None else None


def _bytes(each: ServedKernel, served: Served) -> float | None:
    if each.op == "allreduce":  # bytes of the tensor, at best, in a microsecond
        return 1e6 * max(value for name, value in each.constants.items() if name.startswith("c2_"))
    return each.constants["e_b"] * served.figures.memory_bandwidth if "e_b" in each.constants else None


def _count(value: float | None) -> str:
    return "-" if value is None else format_count(value)
