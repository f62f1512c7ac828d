"""Records of `count --phase train` as tables for people: what is read and what is learned of it, and what that costs.

A figure that nothing independent confirms carries an asterisk, and a remark below the table says why; one that no rule
says is a dash.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llmprof.report.count_tables import UNITS, Form, label
from llmprof.report.tables import Table
from llmprof.report.what_runs import references
from llmprof.units import format_bytes, format_count, format_exact

Record = dict[str, Any]

_STAR = " *"

_READ: tuple[tuple[str, str, Form], ...] = (
    ("objective", "objective", str),
    ("text", "text_tokens", format_exact),
    ("source", "source_tokens", format_exact),
    ("new", "new_tokens", format_exact),
    ("prefix", "prefix_tokens", format_exact),
    ("with loss", "loss_tokens", format_exact),
    ("of the new", "loss_fraction", lambda share: f"{share:.1%}"),
)

_OF_STRUCTURE = {"source_tokens": "encoder-decoder", "prefix_tokens": "prefix-decoder"}
"""Tokens that one structure alone has."""

_COSTS: tuple[tuple[str, str, Form], ...] = (
    ("forward", "matmul_flops_forward_{}", format_count),
    ("backward", "matmul_flops_backward_{}", format_count),
    ("together", "matmul_flops_{}", format_count),
    ("per token of text", "matmul_flops_per_text_token_{}", format_count),
    ("HBM forward", "hbm_bytes_forward_{}", format_bytes),
    ("HBM backward", "hbm_bytes_backward_{}", format_bytes),
    ("HBM optimiser", "hbm_bytes_optimizer", format_bytes),
    ("logits", "logits_bytes", format_bytes),
)

_KEPT: tuple[tuple[str, str, Form], ...] = (
    ("weights", "weight_bytes", format_bytes),
    ("gradients", "gradient_bytes", format_bytes),
    ("optimiser", "optimizer_bytes", format_bytes),
    ("saved", "saved_bytes_{}", format_bytes),
    ("peak", "activation_peak_bytes_{}", format_bytes),
    ("in the step", "optimizer_peak_bytes", format_bytes),
    ("together", "total_bytes_{}", format_bytes),
)

_KERNELS = {"fused": "fused_kernel", "unfused": "unfused_reference"}
"""Execution -> the key that names what runs."""

_SETTINGS = (("text", "text_tokens"), ("batch", "batch"))


def objectives(records: Sequence[Record], confirm: str) -> list[Table]:
    """Three tables: tokens, one row per spec and text; what a step costs, and what it keeps, one row per execution."""
    read = Table(
        title="What is read and what carries loss, in tokens per sequence",
        columns=("spec", *(head for head, _, _ in _READ)),
        # Records of several batches read the same per sequence.
        rows=tuple(
            dict.fromkeys((label(record), *(_read(record, key, form) for _, key, form in _READ)) for record in records)
        ),
        left=2,
    )
    costs = _by_execution(records, "What a training step costs, FLOPs of dense contractions", _COSTS, _remarks(records))
    kept = _by_execution(
        records, "What a training step keeps", _KEPT, (*_kept_remarks(records), *_confirm(records, confirm))
    )
    return [read, costs, kept]


def _by_execution(
    records: Sequence[Record], title: str, columns: tuple[tuple[str, str, Form], ...], notes: tuple[str, ...]
) -> Table:
    """One row per record and execution. `columns`: heading, key with a place for the execution, form."""
    first = records[0]
    varying = [(head, key) for head, key in _SETTINGS if len({record[key] for record in records}) > 1]
    common = [f"{head} {first[key]:,}" for head, key in _SETTINGS if (head, key) not in varying]
    common += [f"weights {first['weight_dtype']}", f"activations {first['activation_dtype']}"]
    if first["recompute"] != "none":
        common.append(f"computed again: {first['recompute']}")
    if first["dropout"]:
        common.append(f"dropout {first['dropout']:g}")
    kernels = [tuple(record[key] for key in _KERNELS.values()) for record in records]
    told = len(set(kernels)) > 1  # row by row, where one sentence would be true of none
    return Table(
        title=f"{title}: {', '.join(common)}",
        columns=(
            "spec",
            "attention",
            *(("reference",) if told else ()),
            *(head for head, _ in varying),
            *(head for head, _, _ in columns),
        ),
        rows=tuple(
            (
                label(record),
                execution,
                *((record[_KERNELS[execution]],) if told else ()),
                *(format_exact(record[key]) for _, key in varying),
                *(_marked(record, key.format(execution), form) for _, key, form in columns),
            )
            for record in records
            for execution in _KERNELS
        ),
        left=3 if told else 2,
        notes=notes,
    )


def _read(record: Record, key: str, form: Form) -> str:
    """What is read, or "-" where a structure has no such tokens: 0 of them is another thing."""
    return form(record[key]) if _OF_STRUCTURE.get(key, record["structure"]) == record["structure"] else "-"


def _marked(record: Record, key: str, form: Form) -> str:
    if record[key] is None:
        return "-"
    return form(record[key]) + (_STAR if key in record["unconfirmed"] else "")


def _remarks(records: Sequence[Record]) -> tuple[str, ...]:
    """What a reader must know of what a step costs."""
    again = " and of what it computes again" if records[0]["recompute"] != "none" else ""
    return (
        UNITS,
        f"HBM is the {records[0]['hbm_level']} count: of the forward pass and its loss, of backward{again}, and of the "
        f"optimiser's step; {references(records)}, whose backward computes the scores again (docs/objectives.md).",
        *_unpredicted(records),
        *_reasons(records, _COSTS),
    )


def _kept_remarks(records: Sequence[Record]) -> tuple[str, ...]:
    """What a reader must know of what a step keeps."""
    return (
        "optimiser: AdamW's two moments in fp32, and a copy of 16-bit weights in fp32. saved: what forward keeps for "
        "backward. peak: the most that is live in forward and backward beside weights and optimiser, gradients "
        "included. in the step: gradients, and their casts to fp32. together: weights, optimiser, and the larger of "
        "the last two (docs/reference-training.md).",
        *_unpredicted(records),
        *_reasons(records, _KEPT),
    )


def _unpredicted(records: Sequence[Record]) -> tuple[str, ...]:
    """Which specs have no figure where there is a dash, and why."""
    found = {label(record): why for record in records for why in record["unpredicted"].values()}
    return tuple(f"- {name}: no rule says what its backward moves and keeps: {why}." for name, why in found.items())


def _reasons(records: Sequence[Record], columns: tuple[tuple[str, str, Form], ...]) -> tuple[str, ...]:
    """Why nothing confirms the figures of a table that carry an asterisk."""
    shown = {key.format(execution) for _, key, _ in columns for execution in _KERNELS}
    found = (why for record in records for key, why in record["unconfirmed"].items() if key in shown)
    return tuple(f"* unconfirmed: {why}." for why in dict.fromkeys(found))


def _confirm(records: Sequence[Record], command: str) -> tuple[str, ...]:
    """The command that confirms the figures."""
    starred = any(record["unconfirmed"] for record in records)
    return ("Confirm the other figures:" if starred else "Confirm the figures:", f"  {command}")
