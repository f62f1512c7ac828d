"""What runs behind the figures of `count`, in words: kernels, the unfused reference, and the page that has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Record = dict[str, Any]

REFERENCES = {"fused kernel": "fused_kernel", "unfused reference": "unfused_reference"}
"""What runs, where it is told row by row."""

NAMED = ("hf-eager", "sdpa-math")
"""Unfused references with a page of their own."""


def references(records: Sequence[Record]) -> str:
    """What runs; where records differ, each of them names its own."""
    first = records[0]
    if all(record[key] == first[key] for record in records for key in REFERENCES.values()):
        return f"unfused is the reference {first['unfused_reference']}, fused runs {first['fused_kernel']}"
    return "unfused runs the reference, fused the kernel that is named beside the figures"


def traffic_remark(records: Sequence[Record]) -> str:
    """The level of the bytes that are counted, and of which kernels."""
    first = records[0]
    grouped = first["grouping"] != "eager"
    shared = "; leaves around the cores share kernels as under torch.compile" if grouped else ""
    named = grouped or any(record["unfused_reference"] in NAMED for record in records)
    page = "docs/reference-unfused.md" if named else "docs/reference-execution.md"
    return f"HBM traffic is the {first['hbm_level']} count; {references(records)}{shared} ({page})."
