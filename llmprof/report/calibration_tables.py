"""What `llmprof calibrate` found, as records and as tables: rates, launches, and errors on held-out kernels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isinf
from typing import TYPE_CHECKING, Any

from llmprof.latency.eager import FAMILY
from llmprof.report.served_tables import host_records, host_table, served_records, served_table
from llmprof.report.tables import Table
from llmprof.units import format_count

DISTURBED = 0.25
"""A larger median error of any family of kernels is not that of the formula: the machine had something else to do."""

if TYPE_CHECKING:
    from llmprof.latency.eager import Constants
    from llmprof.latency.served_profile import HostConstant, Served
    from llmprof.profiling.calibration import Calibrated


def all_records(
    found: Sequence[Calibrated], served: Served | None, hosts: Sequence[HostConstant]
) -> dict[str, list[dict[str, Any]]]:
    """Records of kernels, and where there are any of served ops and of deployments, by what they are."""
    parts = {
        "results": [record for each in found for record in calibration_records(each)],
        "served": served_records(served) if served is not None else [],
        "deployments": host_records(hosts),
    }
    return {name: records for name, records in parts.items() if records or name == "results"}


def all_tables(
    found: Sequence[Calibrated], served: Served | None, hosts: Sequence[HostConstant], notes: Sequence[str]
) -> list[Table]:
    """The same for a reader; `notes` are on what was not timed."""
    pages = [page for each in found for page in calibration_tables(each)]
    if served is not None:
        pages.append(served_table(served, notes))
    return [*pages, *([host_table(hosts)] if hosts else ())]


def calibration_records(found: Calibrated) -> list[dict[str, Any]]:
    """One record for every kind of kernel: seconds, rates per second, bytes, and the errors of its fit."""
    return [
        {
            "device": str(found.device),
            "dtype": found.dtype,
            "family": family,
            "kind": kind or "(all)",
            "launch_s": constants.t0,
            "per_product_s": constants.per_product,
            "flops_per_s": None if isinf(constants.flops_per_s) else constants.flops_per_s,
            "bytes_per_s": constants.cached_bytes_per_s,
            "slowdown": constants.slowdown,
            "slower_beyond_bytes": constants.cache_bytes if constants.slowdown > 1 else None,
            "points": constants.points,
            "median_error": constants.error,
            "low": constants.low,
            "high": constants.high,
        }
        for (family, kind), constants in found.model.constants.items()
    ]


def calibration_tables(found: Calibrated) -> list[Table]:
    """The same for a reader; kinds that share their family's constants stand once."""
    rows = []
    for (family, kind), constants in found.model.constants.items():
        if kind == FAMILY and family != "matmul":
            continue
        if family == "matmul" and kind != FAMILY:
            continue
        rows.append((kind or "mm, addmm", *_cells(constants)))
    host = "" if found.model.host_s is None else f"; the host starts a kernel in {found.model.host_s * 1e6:.1f} us"
    return [
        Table(
            title=f"{found.device} in {found.dtype}: {len(found.samples)} kernels timed, torch {found.torch}",
            columns=("kernel", "launch", "FLOP/s", "B/s", "slower", "beyond", "points", "median error", "90% within"),
            rows=tuple(rows),
            notes=(
                f"Around its kernels a module costs {found.model.module_s * 1e6:.1f} us, and "
                f"{found.model.kernel_s * 1e6:.1f} us for each of them; one with an attention core "
                f"{found.model.fused_core_s * 1e6:.1f} us fused, {found.model.unfused_core_s * 1e6:.1f} us "
                f"unfused{host}.",
                "launch: what a kernel takes however small it is. B/s: op-level bytes, up to the size in `beyond`; "
                "from there on so many times slower.",
                "median error, 90% within: of kernels that the constants were not fitted to, each fifth held out in "
                "turn; predicted times are multiplied by these factors for their interval.",
                *_disturbed(found),
            ),
        )
    ]


def _disturbed(found: Calibrated) -> Iterator[str]:
    """What to do where the constants are good for nothing."""
    off = [
        family
        for (family, kind), each in found.model.constants.items()
        if kind == FAMILY and family != "memory" and each.error > DISTURBED
    ]
    if off:
        yield (
            f"Held-out kernels ({', '.join(off)}) are far off: something else ran, or there was too little time. "
            "Calibrate again."
        )


def _cells(constants: Constants) -> tuple[str, ...]:
    slower = constants.slowdown > 1.05
    return (
        f"{constants.t0 * 1e6:.1f} us",
        "-" if isinf(constants.flops_per_s) else format_count(constants.flops_per_s),
        format_count(constants.cached_bytes_per_s),
        f"{constants.slowdown:.1f}x" if slower else "-",
        format_count(constants.cache_bytes) if slower else "-",
        f"{constants.points}",
        f"{constants.error:.1%}",
        f"{constants.low:.2f}x to {constants.high:.2f}x",
    )
