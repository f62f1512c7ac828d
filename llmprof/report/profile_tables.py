"""Results of `profile` as tables: totals, further witnesses, then module by module."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from llmprof.ledger import Row, Verdict
from llmprof.report.collapse import collapse
from llmprof.report.counter_tables import counters
from llmprof.report.predicted_tables import predicted_times
from llmprof.report.tables import Table
from llmprof.report.time_tables import comparisons, times
from llmprof.units import format_bytes, format_count, format_exact

_TITLES = {
    "params": "parameters",
    "params_mtp": "parameters of mtp layers",
    "weight_bytes": "weights, bytes",
    "matmul_flops": "matmul FLOPs",
    "matmul_flops_causal": "matmul FLOPs, causal",
    "hbm_bytes": "op-level bytes",
    "dram_bytes": "DRAM bytes",
    "compulsory_bytes": "compulsory bytes",
    "kv_cache_bytes": "KV cache, bytes",
    "recurrent_state_bytes": "recurrent state, bytes",
    "peak_live_bytes": "peak live bytes",
    "experts_expected": "different experts, expected",
    "loss_tokens": "positions with loss",
    "logits_bytes": "logits, bytes",
    "matmul_flops_backward": "matmul FLOPs, backward",
    "hbm_bytes_backward": "op-level bytes, backward",
    "saved_bytes": "saved for backward, bytes",
    "gradient_bytes": "gradients, bytes",
    "optimizer_bytes": "optimiser states, bytes",
    "optimizer_peak_bytes": "peak of the optimiser's step",
    "hbm_bytes_optimizer": "op-level bytes, optimiser",
}
_ORDER = tuple(_TITLES)
_KEPT = {"kv_cache_bytes": "KV cache", "recurrent_state_bytes": "state"}
_BYTES = tuple(name for name in _TITLES if "bytes" in name)
_REFEREE = "referee:"
_OPEN = " ?"


def pages(record: dict[str, Any], rows: Sequence[Row]) -> list[Table]:
    """Everything that one result has to say. `record` is it in the contract's form, `rows` are its rows."""
    name = record["name"] if record["variant"] is None else f"{record['name']}:{record['variant']}"
    found = [Table(title=f"{name}: {verdict(record, rows)}", columns=(), rows=(), notes=tuple(_remarks(record)))]
    if rows:
        found.append(totals(rows))
        found += witnesses(rows)
    for phase in dict.fromkeys(w["phase"] for w in record["workloads"]):
        # A phase that an interruption left out has no rows of its own, and so no table that could look agreed.
        if any(row.phase == phase for row in rows):
            found.append(modules(rows, phase, record["attentions"]))
    if record["timings"]:
        full, ran = record["n_layers"], record["layers_run"]
        found.append(times(record["timings"], "the whole model" if ran is None else f"{ran} of {full} layers"))
        found += predicted_times(record["timings"])
    if record["comparisons"]:
        found.append(comparisons(record["comparisons"]))
    return [*found, *counters(record.get("counters")), *differing(record)]


def differing(record: dict[str, Any]) -> list[Table]:
    """The modules that differ, where there are any."""
    if not record["failed_modules"]:
        return []
    paths = tuple(f"  {pattern}" for pattern, _, _ in collapse(dict.fromkeys(record["failed_modules"], "")))
    return [Table(title="Modules that differ", columns=(), rows=(), notes=paths)]


def verdict(record: dict[str, Any], rows: Sequence[Row]) -> str:
    """The verdict of a result, and how many of its figures agree."""
    own = [row for row in rows if not row.witness.startswith(_REFEREE)]
    agreed = sum(row.verdict is Verdict.AGREES for row in own)
    counted = f" ({agreed:,} of {len(own):,} figures agree)" if own else ""
    return f"{record['verdict'].replace('-', ' ')}{counted}"


def _remarks(record: dict[str, Any]) -> Iterable[str]:
    for w in record["workloads"]:
        lengths = [f"batch {w['batch']:,}", f"{w['new_tokens']:,} new token{'s' * (w['new_tokens'] != 1)}"]
        lengths += [f"context {w['context']:,}"]
        lengths += [f"{w[key]:,} {key.replace('_', ' ')}" for key in ("source_tokens", "prefix_tokens") if w[key]]
        yield f"{w['phase']}: {', '.join(lengths)}, logits {w['logits']}"
    if record["workloads"]:
        d = record["workloads"][0]["dtypes"]
        yield f"weights {d['weights']}, activations {d['activations']}, KV cache {d['kv_cache']}; on {place(record)}"
    yield from circumstances(record)


def place(record: dict[str, Any]) -> str:
    """The device, in words."""
    where = {"meta": "meta (shapes alone: counts, no times, no outputs)", None: "no device"}
    return where.get(record["device"]) or str(record["device"])


def circumstances(record: dict[str, Any]) -> Iterable[str]:
    """What else must be known of a result: its kernels, the layers that ran, what does not apply, and its notes."""
    if record["kernels"]:
        kernels = ", ".join(f"{key.replace('/', ' ')} {kernel}" for key, kernel in record["kernels"].items())
        yield f"attention kernels: {kernels}"
    if record["layers_run"] is not None:
        yield f"ran {record['layers_run']} of {record['n_layers']} layers; the others are extrapolated from equal ones"
    yield from (f"not applicable: {reason}" for reason in record["not_applicable"])
    yield from record["notes"]


def _figure(value: int | float | None) -> str:
    if isinstance(value, float):  # a mean
        return f"{value:,.3f}"
    return "-" if value is None else format_exact(value)


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The verdict that a sum of rows deserves: one DIFFERS or one UNMEASURED spoils it."""
    found = set(verdicts)
    order = (Verdict.DIFFERS, Verdict.UNPREDICTED, Verdict.UNMEASURED, Verdict.BELOW_BOUND, Verdict.AGREES)
    return next(verdict for verdict in order if verdict in found)


class _Notes:
    """Remarks that stand below a table by number, so that they do not widen it."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def mark(self, text: str) -> str:
        if not text:
            return ""
        if text not in self.texts:
            self.texts.append(text)
        return f" [{self.texts.index(text) + 1}]"

    def lines(self) -> tuple[str, ...]:
        return tuple(f"[{number}] {text}" for number, text in enumerate(self.texts, 1))


def totals(rows: Sequence[Row]) -> Table:
    """One line per quantity, phase and attention: the sum over all modules, exact.

    The parameters of layers that predict further tokens have a line of their own: no total of a model has them.
    """
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        if not row.witness.startswith(_REFEREE):
            apart = row.quantity == "params" and row.path.startswith("mtp.")
            quantity = "params_mtp" if apart else row.quantity
            groups.setdefault((row.phase, quantity, row.attention), []).append(row)
    phases = sorted(dict.fromkeys(row.phase for row in rows), key=bool)
    notes = _Notes()
    lines = []
    for key in sorted(groups, key=lambda k: (phases.index(k[0]), _ORDER.index(k[1]), k[2])):
        phase, quantity, attention = key
        members = groups[key]
        verdict = worst(m.verdict for m in members)
        predicted = sum(m.predicted or 0 for m in members)
        known = [m.measured for m in members if m.measured is not None]
        remark = next((m.note for m in members if m.note and m.verdict is verdict), "")
        lines.append(
            (
                _TITLES[quantity],
                phase or "-",
                attention or "-",
                (format_bytes if quantity in _BYTES else format_count)(predicted),
                _figure(predicted),
                _figure(sum(known) if len(known) == len(members) else None),
                verdict.value + notes.mark("" if verdict is Verdict.AGREES else remark),
            )
        )
    return Table(
        title="The whole model",
        columns=("quantity", "phase", "attention", "about", "predicted", "measured", "verdict"),
        rows=tuple(lines),
        left=3,
        notes=(*_measured_by(rows), *notes.lines()),
    )


def _measured_by(rows: Sequence[Row]) -> Iterator[str]:
    """What measured the rows: the witness of the first, then each other one with the quantities that it measured."""
    seen: dict[str, dict[str, None]] = {}
    for row in rows:
        if row.witness and not row.witness.startswith(_REFEREE):
            seen.setdefault(row.witness, {})[_TITLES[row.quantity]] = None
    for number, (witness, titles) in enumerate(seen.items()):
        yield f"{', '.join(titles) if number else 'Measured by'}: {witness}."


def witnesses(rows: Sequence[Row]) -> list[Table]:
    """What the referees counted, and what each cannot count; no table where none was asked."""
    asked = [row for row in rows if row.witness.startswith(_REFEREE)]
    if not asked:
        return []
    notes = _Notes()
    lines = tuple(
        (
            row.phase,
            row.attention,
            row.witness.removeprefix(_REFEREE),
            _figure(row.predicted),
            _figure(row.measured),
            row.verdict.value + notes.mark(row.note),
        )
        for row in asked
    )
    return [
        Table(
            title="Further witnesses of the matmul FLOPs: they can fail a result, never confirm one",
            columns=("phase", "attention", "witness", "predicted", "counted", "verdict"),
            rows=lines,
            left=3,
            notes=notes.lines(),
        )
    ]


def _cell(members: Sequence[Row]) -> tuple[str, Verdict]:
    """The figure of one module; where it does not agree, exactly, as ``predicted / measured``."""
    if not members:
        return "-", Verdict.AGREES
    verdict = worst(m.verdict for m in members)
    form = format_bytes if members[0].quantity in _BYTES else format_count
    predicted = [m.predicted for m in members if m.predicted is not None]
    measured = [m.measured for m in members if m.measured is not None]
    if verdict is Verdict.DIFFERS or not predicted:
        sides = (_figure(sum(values)) if values else "-" for values in (predicted, measured))
        return " / ".join(sides), verdict
    return form(sum(predicted)) + (_OPEN if verdict is Verdict.UNMEASURED else ""), verdict


def modules(rows: Sequence[Row], phase: str, attentions: Sequence[str]) -> Table:
    """Prediction against measurement for every module of one phase; what a leaf keeps is one line.

    A module whose causal FLOPs are others than its dense ones has a second line for them. An attention whose pass could
    not be run has no columns; the table of totals says why.
    """
    by_key: dict[tuple[str, str, str], list[Row]] = {}
    paths: dict[str, None] = {}
    for row in rows:
        if row.path and row.phase in ("", phase) and not row.witness.startswith(_REFEREE):
            path = row.path.rpartition(".")[0] if row.quantity in _KEPT else row.path
            by_key.setdefault((path, row.quantity, row.attention), []).append(row)
            paths[path] = None
    ran = [a for a in attentions if any(r.measured is not None and r.phase == phase and r.attention == a for r in rows)]
    kept = [] if phase == "train" else [name for name in _KEPT if any(key[1] == name for key in by_key)]
    wanted: list[tuple[str, str]] = [("params", ""), *((name, "") for name in kept)]
    wanted += [("matmul_flops", a) for a in ran] + [("hbm_bytes", a) for a in ran]
    saving = [a for a in ran if any(key[1:] == ("saved_bytes", a) for key in by_key)]
    wanted += [("saved_bytes", a) for a in saving]

    def members(path: str, quantity: str, attention: str) -> list[Row]:
        return by_key.get((path, quantity, attention), [])

    def sides(path: str, quantity: str) -> list[tuple[float | None, float | None]]:
        return [(row.predicted, row.measured) for attention in ran for row in members(path, quantity, attention)]

    def line(path: str, columns: Iterable[tuple[str, str]]) -> tuple[str, ...]:
        found = [_cell(members(path, *column)) for column in columns]
        return (*(text for text, _ in found), worst(verdict for _, verdict in found).value)

    lines: dict[str, tuple[str, ...]] = {}
    for path in paths:
        lines[path] = line(path, wanted)
        if sides(path, "matmul_flops_causal") != sides(path, "matmul_flops"):
            columns = [("matmul_flops_causal", a) if quantity == "matmul_flops" else ("", "") for quantity, a in wanted]
            lines[f"{path}, causal"] = line(path, columns)
    notes = ["Figures are of one of the n equal modules."] if len(lines) > len(collapse(lines)) else []
    if any(cell.endswith(_OPEN) for cells in lines.values() for cell in cells):
        notes.append("? is predicted and was not measured.")
    notes += [f"{a}: not run, see above." for a in attentions if a not in ran]
    return Table(
        title=f"{phase}, module by module",
        columns=(
            "module",
            "n",
            "params",
            *(_KEPT[name] for name in kept),
            *(f"FLOPs {a}" for a in ran),
            *(f"bytes {a}" for a in ran),
            *(f"saved {a}" for a in saving),
            "verdict",
        ),
        rows=tuple((name, f"{n}", *cells) for name, n, cells in collapse(lines)),
        notes=tuple(notes),
    )
