"""Results of `verify` as tables: a page for each architecture, or one row each and what explains their differences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from llmprof.conformance.known import BY_KEY
from llmprof.conformance.rows import Quantity, Result, Row, Verdict, Witness, worst
from llmprof.report.tables import Table
from llmprof.units import format_exact
from llmprof.workload import Workload

WITNESSES: tuple[Witness, ...] = ("twin", "transformers", "module", "published")
PHASES = {"": "", "prefill": "of the prompt", "decode": "of the step"}
TITLES: dict[Quantity, str] = {
    "params_total": "parameters",
    "params_embedding": "of them in tables",
    "matmul_flops": "matmul FLOPs",
    "kv_cache_bytes": "KV cache, bytes",
    "recurrent_state_bytes": "states, bytes",
}
MARKS: dict[Verdict, str] = {"AGREES": "", "EXPLAINED": " *", "DIFFERS": " !", "UNMEASURED": ""}
WORDS: dict[Verdict, str] = {
    "AGREES": "agrees",
    "EXPLAINED": "explained",
    "DIFFERS": "DIFFERS",
    "UNMEASURED": "-",
}
OTHERS: dict[str, tuple[str, str]] = {
    "sinusoids-not-counted": (
        "a published total leaves out tables of sinusoids, which its authors compute and the class stores",
        "pegasus/modeling_pegasus.py, PegasusSinusoidalPositionalEmbedding: an nn.Embedding filled with sinusoids",
    ),
}
"""Explanations that are no error of a class: key -> (why, evidence)."""


# --- one architecture ---------------------------------------------------------------------------


def pages(result: Result) -> list[Table]:
    """Everything that one result has to say."""
    found = [Table(title=f"{result.arch.label}: {headline(result)}", columns=(), rows=(), notes=tuple(_asked(result)))]
    if result.rows:
        found.append(_side_by_side(result))
        found += _differing(result)
    return found


def headline(result: Result) -> str:
    """The verdict in words, with how many figures say so."""
    rows = [row for row in result.rows if row.verdict != "UNMEASURED" or row.witness != "published"]
    by = {verdict: sum(row.verdict == verdict for row in rows) for verdict in WORDS}
    if result.interrupted:
        return "interrupted"
    parts = [f"{by['AGREES']} figures agree"]
    parts += [f"{by['EXPLAINED']} explained"] if by["EXPLAINED"] else []
    parts += [f"{by['DIFFERS']} DIFFERENT"] if by["DIFFERS"] else []
    parts += [f"{by['UNMEASURED']} unmeasured"] if by["UNMEASURED"] else []
    return ", ".join(parts)


def _asked(result: Result) -> Iterator[str]:
    for workload in result.workloads:
        yield f"{workload.phase}: {_lengths(workload)}, batch {workload.batch}, {workload.dtypes.activations}"
    for witness, ran in result.ran.items():
        held = result.matched.get(witness)
        yield f"{witness}: ran {ran}" + (f"; parameters of {held} held against ours" if held else "")


def _lengths(workload: Workload) -> str:
    text = f"{workload.new_tokens:,} new token{'s' * (workload.new_tokens != 1)}, context {workload.context:,}"
    return text + (f", {workload.source_tokens:,} source tokens" if workload.source_tokens else "")


def _side_by_side(result: Result) -> Table:
    """Figures of the whole model: predicted, and what each witness has."""
    asked = [witness for witness in WITNESSES if result.of(witness)]
    totals = [row for row in result.rows if not row.path and row.quantity in TITLES]
    notes: list[str] = []

    def mark(text: str) -> str:
        if text not in notes:
            notes.append(text)
        return f" [{notes.index(text) + 1}]"

    def cell(row: Row | None) -> str:
        if row is None:
            return ""
        if row.found is None:
            return "-" if row.witness == "published" else f"-{mark(row.note)}"
        why = "".join(mark(f"{key}: {explanation(key)[0]}") for key in row.explanations)
        more = mark(row.note) if row.note and row.witness == "published" else ""
        return f"{format_exact(row.found)}{MARKS[row.verdict]}{why}{more}"

    lines = []
    for quantity in TITLES:
        for phase in dict.fromkeys(row.phase for row in totals if row.quantity == quantity):
            of = {row.witness: row for row in totals if (row.quantity, row.phase) == (quantity, phase)}
            predicted = next((row.predicted for row in of.values() if row.predicted is not None), None)
            figure = "-" if predicted is None else format_exact(predicted)
            title = f"{TITLES[quantity]} {PHASES[phase]}".rstrip()
            lines.append((title, figure, *(cell(of.get(witness)) for witness in asked)))
    remarks = [f"config.json: {_of_config(row)}" for row in result.of("config.json")]
    return Table(
        title="Figures (* differs by known errors exactly, ! differs)" if _marked(totals) else "Figures",
        columns=("figure", "predicted", *asked),
        rows=tuple(lines),
        notes=(*(f"[{n}] {text}" for n, text in enumerate(notes, 1)), *remarks),
    )


def _of_config(row: Row) -> str:
    return {"AGREES": "says the same as the spec", "UNMEASURED": row.note}.get(row.verdict, f"DIFFERS: {row.note}")


def _marked(rows: Iterable[Row]) -> bool:
    return any(row.verdict in ("EXPLAINED", "DIFFERS") for row in rows)


def _differing(result: Result) -> list[Table]:
    """Modules that differ without an explanation, and what the config says otherwise."""
    rows = tuple(
        (
            row.path,
            row.witness,
            f"{row.quantity} {row.phase}".strip(),
            _figure(row.predicted),
            _figure(row.found),
            row.note,
        )
        for row in result.rows
        if row.path and row.verdict == "DIFFERS"
    )
    if not rows:
        return []
    columns = ("module", "witness", "figure", "predicted", "found", "theirs")
    return [Table(title="Modules that differ", columns=columns, rows=rows, left=3)]


def _figure(value: int | None) -> str:
    return "-" if value is None else format_exact(value)


def explanation(key: str) -> tuple[str, str]:
    """(why, evidence) of a known error."""
    if key in OTHERS:
        return OTHERS[key]
    return BY_KEY[key].why, BY_KEY[key].evidence


# --- many architectures -------------------------------------------------------------------------

COLUMNS = (
    "model",
    "parameters",
    "prompt",
    "FLOPs of the prompt",
    "FLOPs of a step",
    "KV cache, bytes",
    "states, bytes",
    "published",
    "config.json",
    "twin",
    "transformers",
)
ON_PAPER = 9
"""How many of the columns need no torch."""


def summary(results: Sequence[Result], title: str = "") -> Table:
    """One row per architecture."""
    return Table(title=title, columns=COLUMNS, rows=tuple(summary_row(result) for result in results))


def summary_row(result: Result) -> tuple[str, ...]:
    """The figures as predicted, and what each witness says of them."""
    predicted = result.predicted
    prompt = result.workloads[0].new_tokens if result.workloads else 0
    twin = _words(result, "twin")
    whole = result.ran.get("twin", "").partition(",")[0]
    return (
        result.arch.label,
        _of(predicted, "params_total"),
        f"{prompt:,}",
        _of(predicted, "matmul_flops prefill"),
        _of(predicted, "matmul_flops decode"),
        _of(predicted, "kv_cache_bytes prefill") if result.arch.structure != "encoder" else "-",
        _of(predicted, "recurrent_state_bytes prefill") if predicted.get("recurrent_state_bytes prefill") else "-",
        _words(result, "published"),
        _words(result, "config.json"),
        f"{twin} ({whole})" if whole else twin,
        _words(result, "transformers"),
    )


def _of(predicted: Mapping[str, int], name: str) -> str:
    return format_exact(predicted[name]) if name in predicted else "-"


def _words(result: Result, witness: Witness) -> str:
    """What a witness says of all figures together: a figure that it has not is said too."""
    rows = result.of(witness)
    verdict = worst(row.verdict for row in rows)
    if verdict == "UNMEASURED":
        return "-"
    keys = result.explained_by(witness)
    text = WORDS[verdict] + (f": {', '.join(keys)}" if keys else "")
    missing = sum(row.verdict == "UNMEASURED" for row in rows)
    return f"{text}; {missing} unmeasured" if missing else text


def unmeasured_notes(results: Sequence[Result]) -> list[str]:
    """Why figures are unmeasured: each reason once, with the architectures that it is of."""
    reasons: dict[str, list[str]] = {}
    for result in results:
        for row in result.rows:
            if row.verdict == "UNMEASURED" and row.witness != "published":
                reason = row.note if row.note.startswith(row.witness) else f"{row.witness}: {row.note}"
                names = reasons.setdefault(reason, [])
                if result.arch.label not in names:
                    names.append(result.arch.label)
    return [f"{reason}: {', '.join(names)}" for reason, names in reasons.items()]


def explanations(results: Sequence[Result]) -> Table:
    """What explains differences, with the formula and the evidence, and of how many architectures."""
    used: dict[str, int] = {}
    for result in results:
        for key in result.explanations:
            used[key] = used.get(key, 0) + 1
    order = [key for key in (*BY_KEY, *OTHERS) if key in used]
    rows = tuple(
        (
            key,
            BY_KEY[key].quantity if key in BY_KEY else "params_total",
            BY_KEY[key].formula if key in BY_KEY else "- rows x d_model of each table",
            *explanation(key),
            f"{used[key]}",
        )
        for key in order
    )
    return Table(
        title="", columns=("key", "figure", "difference", "why", "evidence", "architectures"), rows=rows, left=5
    )


# --- for machines -------------------------------------------------------------------------------


def payload(result: Result) -> dict[str, Any]:
    """A result as JSON has it: raw base units."""
    from dataclasses import asdict

    from llmprof.conformance.rows import record

    return {
        "name": result.arch.name,
        "variant": result.arch.variant,
        "verdict": result.verdict,
        "interrupted": result.interrupted,
        "workloads": [asdict(workload) for workload in result.workloads],
        "predicted": result.predicted,
        "ran": result.ran,
        "matched": result.matched,
        "explanations": {
            key: dict(zip(("why", "evidence"), explanation(key), strict=True)) for key in result.explanations
        },
        "errors": result.errors,
        "rows": [record(row) for row in result.rows],
    }
