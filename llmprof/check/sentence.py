"""What a finding says in one line: what is too much, by how much, where, since when, and what would bring it back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from llmprof.check.bounds import excess, short
from llmprof.check.comparison import LineChange
from llmprof.check.quantities import Quantity
from llmprof.check.verdict import Bound, Change, Number, Part
from llmprof.spec.emit import flow
from llmprof.spec.nodes import short as cut


def subject(name: str, spec: str, settings: Mapping[str, str]) -> str:
    """``70B on one H200 (llama-2-70b) decode batch 8 context 4096``."""
    who = name if name == spec else f"{name} ({spec})"
    words = [value if key == "phase" else f"{key.replace('_', ' ')} {value}" for key, value in settings.items()]
    return " ".join([who, *words])


def holds(who: str, quantity: Quantity, value: Number, bound: Bound) -> str:
    """A limit that is kept."""
    return f"{who}: {quantity.name} is {_full(value, quantity)}, limit {bound.meaning}"


def unmeasured(who: str, quantity: Quantity, reason: str) -> str:
    """A limit that could not be measured."""
    return f"{who}: {quantity.name} could not be measured: {reason}"


def fails(
    who: str,
    quantity: Quantity,
    value: Number,
    bound: Bound,
    *,
    parts: Sequence[Part] = (),
    baseline: Number | None = None,
    changes: Sequence[Change] = (),
    causes: Sequence[LineChange] = (),
    largest: Mapping[str, int] | None = None,
    fewest: Mapping[str, int] | None = None,
) -> str:
    """A limit that is exceeded; `baseline` is the value that it had, where one is known.

    `largest` are lengths that would pass; 0 says that none would. `fewest` are degrees that would.
    """
    found = holds(who, quantity, value, bound)
    if bound.high is not None and value > bound.high:
        found += f": {short(excess(value, bound.high, quantity), quantity)} over"
    elif bound.low is not None:
        found += f": {short(excess(value, bound.low, quantity), quantity)} short"
    clauses = [found]
    if changes:
        clauses.append(_since(changes[0], quantity) + _because(causes))
    elif baseline == value:
        clauses.append("unchanged since the baseline")
    elif baseline is not None:
        clauses.append(f"it was {short(baseline, quantity)} in the baseline" + _because(causes))
    elif parts:
        clauses.append(f"most in {parts[0].path} ({short(parts[0].value, quantity)})")
    if largest or fewest:
        clauses.append(_would_pass({**(largest or {}), **(fewest or {})}))
    return "; ".join(clauses)


def cause(line: LineChange) -> str:
    """``models/x.yaml:12: layers.attention.n_kv_heads 8 -> 32``."""
    where = "" if line.place is None else f"{line.place.file}:{line.place.line}: "
    return where + _difference(line)


def _difference(line: LineChange) -> str:
    before, after = ("none" if side is None else cut(flow(side)) for side in (line.before, line.after))
    return f"{line.path} {before} -> {after}"


def _because(causes: Sequence[LineChange]) -> str:
    if not causes:
        return ""
    first = causes[0]
    where = "" if first.place is None else f" in {first.place.file}:{first.place.line}"
    more = f", and {len(causes) - 1} more" if len(causes) > 1 else ""
    return f" ({_difference(first)}{where}{more})"


def _since(change: Change, quantity: Quantity) -> str:
    before, after = change.before, change.after
    if before is None:
        return f"{change.path} is new since the baseline ({short(after or 0, quantity)})"
    if after is None:
        return f"{change.path} is gone since the baseline ({short(before, quantity)})"
    verb = "grew" if after > before else "shrank"
    ratio = after / before if before else 0
    times = f" {ratio:.1f}x" if ratio >= 2 else ""
    said = [short(side, quantity) for side in (before, after)]
    if said[0] == said[1]:  # less than the rounding
        return f"{change.path} {verb} by {short(abs(after - before), quantity)} since the baseline"
    return f"{change.path} {verb}{times} since the baseline, from {said[0]} to {said[1]}"


def _would_pass(largest: Mapping[str, int]) -> str:
    some = [f"{key.replace('_', ' ')} {value:,}" for key, value in largest.items() if value]
    none = [f"no {key.replace('_', ' ')}" for key, value in largest.items() if not value]
    return f"{' or '.join(some)} would pass" if some else f"{' and '.join(none)} would pass"


def _full(value: Number, quantity: Quantity) -> str:
    """Rounded, and then all of it."""
    rounded = short(value, quantity)
    if quantity.unit == "calls":
        return rounded  # all of it
    unit = {"B": " B", "FLOP": " FLOP"}.get(quantity.unit, "")
    exact = f"{value:,.2f} B" if quantity.unit == "B" and isinstance(value, float) else f"{value:,}{unit}"
    return rounded if rounded in (exact, f"{value}{unit}") else f"{rounded} ({exact})"
