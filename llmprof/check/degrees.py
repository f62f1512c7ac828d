"""How the pass of an entry is spread over devices: the degrees as a budget file says them.

An entry that states one of them is about one device of a deployment, and has a limit on what that device holds, runs
or sends (``..._per_rank``). Neither goes without the other: what could have no effect is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

from llmprof.check.limits import Limit
from llmprof.sharding import Sharding
from llmprof.spec.nodes import Map, Node, Scalar
from llmprof.spec.problems import Report

DEGREES = {field.name: 1 for field in fields(Sharding) if field.name not in ("sequence_parallel", "pipeline_layers")}
"""Degree -> its smallest value; all of them may be lists."""

ROWS = "sequence_parallel"
"""Whether rows of the hidden state are shared too: true or false."""

KEYS = (*DEGREES, ROWS)

NAMES = {
    **dict.fromkeys(("tp", "tp_size", "tensor_parallel_size", "tensor"), "did you mean 'tensor_parallel'?"),
    **dict.fromkeys(("pp", "pp_size", "pipeline_parallel_size", "pipeline"), "did you mean 'pipeline_parallel'?"),
    "pipeline_layers": "leave it out: stages share the layers as evenly as can be",
    **dict.fromkeys(("dp", "dp_size", "data_parallel_size", "replicas"), "did you mean 'data_parallel'?"),
    **dict.fromkeys(("ep", "ep_size", "expert_parallel_size", "experts"), "did you mean 'expert_parallel'?"),
    **dict.fromkeys(("cp", "cp_size", "context_parallel_size"), "did you mean 'context_parallel'?"),
    **dict.fromkeys(("sp", "sequence"), "did you mean 'sequence_parallel'?"),
    **dict.fromkeys(("gpus", "devices", "num_gpus", "world_size"), "say how they share the model: tensor_parallel: 4"),
}
"""Names that people and engines use."""


def shares_rows(node: Node, report: Report) -> bool | None:
    """The value of ``sequence_parallel``, or None with the problem reported."""
    if isinstance(node, Scalar) and isinstance(node.value, bool):
        return node.value
    report.value(node, "true or false: whether tensor-parallel devices share the rows of the hidden state too")
    return None


def sharding_of(values: Mapping[str, Any]) -> Sharding | None:
    """How one combination is spread, None where its entry states no degree; a value of None is not stated."""
    stated = {key: value for key, value in values.items() if key in KEYS and value is not None}
    return Sharding(**stated) if stated else None


def check_limits(
    stated: Mapping[str, Node], limits: Iterable[Limit], written: Node | None, measured: bool, report: Report
) -> None:
    """Reports degrees that no limit heeds, and limits on a rank of a pass that is not spread.

    `stated` are the degrees of an entry and where they stand, `written` its mapping of limits.
    """
    of_rank = [limit for limit in limits if limit.quantity.per_rank]
    if not stated:
        for limit in of_rank:
            assert isinstance(written, Map)
            name = limit.quantity.name
            report.key(
                written,
                name,
                f"{name} of a pass that is not spread over devices",
                "a degree in the entry or the set it uses, such as tensor_parallel: 4",
            )
        return
    node = next(iter(stated.values()))
    if measured:
        report.value(node, "no degrees beside measured limits: a run is of one device")
    elif not of_rank and isinstance(written, Map) and not report.problems:
        report.value(
            node,
            "a limit on a rank beside it, such as total_bytes_fused_per_rank: '<= 95% of h100-sxm-80gb'",
            "all other figures are of the whole model, however it is spread",
        )
