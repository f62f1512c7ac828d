"""What one device of a divided training step keeps, as a part of the machine contract of `count --phase train`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmprof.predict.training.sharded import UNCONFIRMED, Division, check, saved_bytes, states, value_bytes
from llmprof.predict.training.step import TrainingStep
from llmprof.spec.arch import ArchSpec
from llmprof.workload import Workload

STATES = ("parameters_per_rank", "weight_bytes_per_rank", "gradient_bytes_per_rank", "optimizer_bytes_per_rank")
SAVED = "saved_bytes_per_rank_{}"
"""Filled with an execution."""

KEYS = (
    "zero_stage",
    "data_parallel",
    "tensor_parallel",
    "sequence_parallel",
    *STATES,
    SAVED.format("fused"),
    SAVED.format("unfused"),
)
"""The keys that every record has; null where no division was asked for."""


def rank_record(
    arch: ArchSpec, workload: Workload, division: Division | None, steps: Mapping[str, TrainingStep]
) -> dict[str, Any]:
    """The `KEYS` of one training pass, of which `steps` has each execution, ``fused`` and ``unfused``.

    Figures are of the fullest device; null what no rule says. Raises InputError where the step cannot be divided so.
    """
    if division is None:
        return dict.fromkeys(KEYS)
    check(arch, workload, division)
    each = value_bytes(workload.dtypes)
    gradients = steps["fused"].gradient_bytes_at
    kept = states(arch, division, each, {path: size // each.gradient for path, size in gradients.items()})
    figures = (kept.parameters, kept.weight, kept.gradient, kept.optimizer)
    return {
        "zero_stage": division.zero,
        "data_parallel": division.data,
        "tensor_parallel": division.tensor,
        "sequence_parallel": division.sequence,
        **dict(zip(STATES, figures, strict=True)),
        **{
            SAVED.format(execution): None if "saved_bytes" in step.unpredicted else saved_bytes(step.saved, division)
            for execution, step in steps.items()
        },
    }


def rank_unconfirmed(record: Mapping[str, Any]) -> dict[str, str]:
    """Key -> why nothing confirms it, of all figures per device that a record has."""
    figures = (*STATES, SAVED.format("fused"), SAVED.format("unfused"))
    return {key: UNCONFIRMED for key in figures if record[key] is not None}
