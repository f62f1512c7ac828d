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
WIDE = 2.0
"""Nor is an interval of passes that goes further than this factor either way."""

if TYPE_CHECKING:
    from llmprof.latency.eager import Constants, EagerModel
    from llmprof.latency.served_profile import HostConstant, Served
    from llmprof.profiling.calibration import Calibrated


def all_records(
    found: Sequence[Calibrated], served: Served | None, hosts: Sequence[HostConstant]
) -> dict[str, list[dict[str, Any]]]:
    """Records of kernels, and where there are any of served ops and of deployments, by what they are."""
    parts = {
        "results": [record for each in found for record in calibration_records(each)],
        "in_pass": [record for each in found for record in in_pass_records(each)],
        "served": served_records(served) if served is not None else [],
        "deployments": host_records(hosts),
    }
    return {name: records for name, records in parts.items() if records or name == "results"}


def all_tables(
    found: Sequence[Calibrated], served: Served | None, hosts: Sequence[HostConstant], notes: Sequence[str]
) -> list[Table]:
    """The same for a reader; `notes` are on what was not timed."""
    pages = [page for each in found for page in (*calibration_tables(each), *in_pass_tables(each))]
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
    return [
        Table(
            title=f"{found.device} in {found.dtype}: {len(found.samples)} kernels timed, torch {found.torch}",
            columns=("kernel", "launch", "FLOP/s", "B/s", "slower", "beyond", "points", "median error", "90% within"),
            rows=tuple(rows),
            notes=(
                *_start(found.model),
                "launch: what a kernel takes however small it is. B/s: op-level bytes, up to the size in `beyond`; "
                "from there on so many times slower.",
                "median error, 90% within: of kernels that the constants were not fitted to, each fifth held out in "
                "turn; predicted times are multiplied by these factors for their interval.",
                *_disturbed(found),
            ),
        )
    ]


def _start(model: EagerModel) -> Iterator[str]:
    if model.host_s is not None:
        yield f"The host starts a kernel in {model.host_s * 1e6:.1f} us."


def in_pass_records(found: Calibrated) -> list[dict[str, Any]]:
    """One record for every kind of leaf, with the errors of the passes that were held out; none of a GPU."""
    inside = found.model.in_pass
    if inside is None:
        return []
    return [
        {
            "device": str(found.device),
            "dtype": found.dtype,
            "leaf": kind,
            "module_s": each.module_s,
            "kernel_s": each.kernel_s,
            "factor": each.factor,
            "passes": inside.passes,
            "median_error": inside.error,
            "low": inside.low,
            "high": inside.high,
        }
        for kind, each in inside.leaves.items()
    ]


def in_pass_tables(found: Calibrated) -> list[Table]:
    """The same for a reader."""
    inside = found.model.in_pass
    if inside is None:
        return []
    return [
        Table(
            title=f"Inside a pass: {found.device} in {found.dtype}",
            columns=("leaf", "each", "for each kernel", "kernels, of their time alone"),
            rows=tuple(
                (kind, f"{each.module_s * 1e6:.1f} us", f"{each.kernel_s * 1e6:.2f} us", f"{each.factor:.2f}x")
                for kind, each in inside.leaves.items()
            ),
            notes=(
                f"Out of {inside.passes} passes of small models. Each model held out in turn: median error of a pass "
                f"{inside.error:.1%}, 90% within {inside.low:.2f}x to {inside.high:.2f}x, which are the interval of a "
                "pass.",
                *(
                    ("Some passes are far off: something else ran meanwhile. Calibrate again.",)
                    if max(inside.high, 1 / inside.low) > WIDE
                    else ()
                ),
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
