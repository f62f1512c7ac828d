"""Results of `profile --tensor-parallel` as tables: totals of a rank, what ranks say and hold, outputs, times."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from llmprof.ledger import Verdict
from llmprof.paths import spans
from llmprof.report.collapse import collapse
from llmprof.report.profile_tables import differing, worst
from llmprof.report.tables import Table
from llmprof.report.time_tables import format_time
from llmprof.units import format_bytes, format_count, format_exact

if TYPE_CHECKING:
    from llmprof.profiling.sharded_rows import RankRow

_HELD = {
    "params": "parameters",
    "weight_bytes": "weights, bytes",
    "kv_cache_bytes": "KV cache, bytes",
    "recurrent_state_bytes": "recurrent state, bytes",
    "matmul_flops": "matmul FLOPs",
    "matmul_flops_causal": "matmul FLOPs, causal",
    "hbm_bytes": "op-level bytes",
    "peak_live_bytes": "peak live bytes",
}
_CALLS, _PAYLOAD = "_calls", "_bytes"
_DIFFERENCE = "relative_difference"
_WHERE = {
    "meta": "on meta (shapes alone), one rank of each stage in torch's fake group",
    "cpu": "on the CPU, over gloo",
    "cuda": "on a GPU each, over NCCL",
}


def pages(record: dict[str, Any], rows: Sequence[RankRow]) -> list[Table]:
    """Everything that one result has to say. `record` is it in the contract's form, `rows` are its rows."""
    name = record["name"] if record["variant"] is None else f"{record['name']}:{record['variant']}"
    agreed = sum(row.verdict is Verdict.AGREES for row in rows)
    counted = f" ({agreed:,} of {len(rows):,} figures agree)" if rows else ""
    title = f"{name} on {record['ranks']:,} rank{'s' * (record['ranks'] > 1)}: {record['verdict'].replace('-', ' ')}"
    found = [Table(title=title + counted, columns=(), rows=(), notes=tuple(_remarks(record)))]
    numbers = [row for row in rows if row.quantity != _DIFFERENCE]
    if numbers:
        found += [_totals(numbers, record), *_said(numbers), *_leaves(numbers)]
    differences = [row for row in rows if row.quantity == _DIFFERENCE]
    if differences:
        found.append(_outputs(differences))
    if record["timings"]:
        found.append(_times(record))
    return [*found, *differing(record)]


def _remarks(record: dict[str, Any]) -> Iterator[str]:
    for w in record["workloads"]:
        tokens = f"{w['new_tokens']:,} new token{'s' * (w['new_tokens'] != 1)}"
        yield f"{w['phase']}: batch {w['batch']:,}, {tokens}, context {w['context']:,}, logits {w['logits']}"
    if record["workloads"]:
        d = record["workloads"][0]["dtypes"]
        yield (
            f"weights {d['weights']}, activations {d['activations']}, KV cache {d['kv_cache']}; "
            f"{_degrees(record)}; {_WHERE[record['device']]}"
        )
    if record["kernels"]:
        kernels = ", ".join(f"{key.replace('/', ' ')} {kernel}" for key, kernel in record["kernels"].items())
        yield f"attention kernels: {kernels}"
    if record["layers_run"] is not None:
        also = "" if record["device"] == "meta" else ", and outputs and times are of what ran"
        yield (
            f"ran {record['layers_run']} of {record['n_layers']} layers; the others are extrapolated from equal "
            f"ones{also}"
        )
    if record["missing"]:
        rest = len(record["missing"]) - _LISTED
        more = f" and {rest:,} more" if rest > 0 else ""
        yield f"not confirmed: {', '.join(record['missing'][:_LISTED])}{more}"
    yield from (f"not applicable: {reason}" for reason in record["not_applicable"])
    yield from record["notes"]


_LISTED = 6
"""How many missing figures a remark names."""


def _degrees(record: dict[str, Any]) -> str:
    """``tensor 8 with sequence parallelism, pipeline 2``: the degrees that spread anything."""
    parts = []
    for name, value in record.items():
        if name.endswith("_parallel") and name != "sequence_parallel" and value > 1:
            with_rows = " with sequence parallelism" * (name == "tensor_parallel" and record["sequence_parallel"])
            unequal = name == "pipeline_parallel" and len(set(record["pipeline_layers"].split(","))) > 1
            layers = f" ({record['pipeline_layers']} layers)" * unequal
            parts.append(f"{name.removesuffix('_parallel')} {value:,}{with_rows}{layers}")
    return ", ".join(parts) or "one rank of each kind"


def _totals(rows: Sequence[RankRow], record: dict[str, Any]) -> Table:
    """What one rank of each stage holds and sends, all in all."""
    groups: dict[tuple[str, int, str], list[RankRow]] = {}
    for row in rows:
        groups.setdefault((row.phase, row.stage, _kind(row)), []).append(row)
    order = (*_HELD.values(), "calls", "payload, bytes")
    lines = []
    phases = ["", *(w["phase"] for w in record["workloads"])]
    for key in sorted(groups, key=lambda key: (phases.index(key[0]), key[1], order.index(key[2]))):
        phase, stage, kind = key
        members = groups[key]
        ranks = sorted({rank for row in members for rank in row.ranks})
        by_place = {(row.path, row.quantity, row.attention): row.predicted or 0 for row in members}
        attentions = {row.attention for row in members}
        # Figures of several attentions are of several passes.
        predicted = sum(by_place.values()) // len(attentions)
        measured = {sum(int(r.measured or 0) for r in members if rank in r.ranks) // len(attentions) for rank in ranks}
        form = _form(kind)
        lines.append(
            (
                kind,
                phase or "-",
                str(stage),
                spans(ranks) or "-",
                form(predicted),
                format_exact(predicted),
                " / ".join(map(format_exact, sorted(measured))) or "-",
                worst(row.verdict for row in members).value,
            )
        )
    witnesses = dict.fromkeys(row.witness for row in rows if row.witness)
    remarks = dict.fromkeys(
        f"{row.verdict.value}: {row.note}." for row in rows if row.note and row.verdict is not Verdict.AGREES
    )
    reported = len(record["ranks_heard"])
    heard = f"{reported:,} of {record['ranks']:,} ranks reported." if record["device"] != "meta" else ""
    return Table(
        title="What each rank holds, runs and sends",
        columns=("quantity", "phase", "stage", "ranks", "about", "predicted", "measured", "verdict"),
        rows=tuple(lines),
        left=4,
        notes=tuple(filter(None, (heard, *(f"Measured by: {witness}." for witness in witnesses), *remarks))),
    )


def _form(kind: str) -> Callable[[int], str]:
    return format_bytes if "bytes" in kind else format_count


def _kind(row: RankRow) -> str:
    if row.quantity in _HELD:
        return _HELD[row.quantity]
    return "calls" if row.quantity.endswith(_CALLS) else "payload, bytes"


def _said(rows: Sequence[RankRow]) -> Iterator[Table]:
    """Every collective of each phase, with equal layers folded."""
    for phase in dict.fromkeys(row.phase for row in rows if row.phase):
        cells: dict[tuple[str, str, int], list[RankRow]] = {}
        for row in rows:
            if row.phase == phase and row.quantity not in _HELD:
                name = row.quantity.removesuffix(_CALLS).removesuffix(_PAYLOAD)
                cells.setdefault((row.path, name, row.stage), []).append(row)
        lines: dict[str, dict[str, tuple[str, ...]]] = {}
        for (path, name, _), members in cells.items():
            calls = [row for row in members if row.quantity.endswith(_CALLS)]
            payload = [row for row in members if row.quantity.endswith(_PAYLOAD)]
            verdict = worst(row.verdict for row in members).value
            lines.setdefault(name, {})[path] = (_pair(calls), _pair(payload, form=format_bytes), verdict)
        body = tuple(
            (path, name.replace("_", "-"), f"{n}", *cell)
            for name, by_path in lines.items()
            for path, n, cell in collapse(by_path)
        )
        if body:
            yield Table(
                title=f"What the ranks say to each other in {phase}",
                columns=("path", "collective", "n", "calls", "payload", "verdict"),
                rows=body,
                left=2,
                notes=("Figures are of one of the n equal paths. What differs is exact, as predicted / measured.",),
            )


def _pair(members: Sequence[RankRow], *, form: Callable[[int], str] = format_exact) -> str:
    """One figure where all agree, else both sides, exactly."""
    if not members:
        return "-"
    if all(row.verdict is Verdict.AGREES for row in members):
        return form(members[0].predicted or 0)
    sides = (_exact({row.predicted for row in members}), _exact({row.measured for row in members}))
    return " / ".join(sides)


def _exact(values: Iterable[int | float | None]) -> str:
    known = sorted(value for value in values if value is not None)
    return " or ".join(format_exact(int(value)) for value in known) or "-"


def _leaves(rows: Sequence[RankRow]) -> Iterator[Table]:
    """What a rank holds of every leaf and in its caches, and what it runs there, phase by phase."""
    for phase in dict.fromkeys(row.phase for row in rows if row.phase):
        by_path: dict[str, dict[str, list[RankRow]]] = {}
        for row in rows:
            if row.phase in ("", phase) and row.path and row.quantity in _HELD:
                by_path.setdefault(row.path, {}).setdefault(row.quantity, []).append(row)
        columns = [name for name in _HELD if any(name in cells for cells in by_path.values())]
        lines: dict[str, tuple[str, ...]] = {
            path: (
                *(_pair(cells.get(name, ()), form=_form(_HELD[name])) for name in columns),
                worst(row.verdict for members in cells.values() for row in members).value,
            )
            for path, cells in by_path.items()
        }
        yield Table(
            title=f"{phase}, what a rank holds and runs, leaf by leaf",
            columns=("module", "n", *(_HELD[name].removesuffix(", bytes") for name in columns), "verdict"),
            rows=tuple((path, f"{n}", *cells) for path, n, cells in collapse(lines)),
            notes=("Figures are of one of the n equal modules. What differs is exact, as predicted / measured.",),
        )


def _outputs(rows: Sequence[RankRow]) -> Table:
    """How far outputs and caches lie from those of the unsharded model."""
    groups: dict[tuple[str, str, str], list[RankRow]] = {}
    for row in rows:
        what = row.path if row.path in ("logits", "hidden state") else "caches, states"
        groups.setdefault((row.phase, row.attention, what), []).append(row)
    notes: dict[str, None] = {}
    lines = []
    for (phase, attention, what), members in groups.items():
        verdict = worst(row.verdict for row in members)
        known = [row.measured for row in members if row.measured is not None]
        notes.update((f"{row.verdict.value}: {row.note}.", None) for row in members if row.verdict is verdict)
        ranks = sorted({rank for row in members for rank in row.ranks})
        largest = f"{max(known):.2e}" if known else "-"
        lines.append((phase, attention, what, spans(ranks) or "-", largest, verdict.value))
    return Table(
        title="Outputs and caches beside those of the unsharded model",
        columns=("phase", "attention", "tensor", "ranks", "largest difference", "verdict"),
        rows=tuple(lines),
        left=4,
        notes=("In fp32, from the same weights, tokens and past; relative to the largest value of the tensor.", *notes),
    )


def _times(record: dict[str, Any]) -> Table:
    """The time of a pass on its slowest rank."""
    notes: dict[str, None] = {
        "Of warm passes, from a common start to the end of the slowest rank. stable: IQR / median is at most 10%; a "
        "time that is not stable is an observation, not a confirmation.": None
    }
    rows = []
    for t in record["timings"]:
        notes.update({f"{t['phase']}, {t['attention']}: {note}": None for note in t["notes"]})
        warm = t.get("warm")
        if warm is not None:
            times = (format_time(warm["median_ns"]), format_time(warm["iqr_ns"]), f"{warm['n']}")
            stable = "yes" if warm["stable"] else "no"
            rows.append((t["phase"], t["attention"], *times, stable, f"{warm['tokens_per_s']:,.1f}"))
    depth = "" if record["layers_run"] is None else f" of {record['layers_run']} of {record['n_layers']} layers"
    return Table(
        title=f"Times of one pass{depth}, on the slowest rank",
        columns=("phase", "attention", "median", "IQR", "n", "stable", "tokens/s"),
        rows=tuple(rows),
        left=2,
        notes=tuple(notes),
    )
