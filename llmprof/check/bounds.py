"""What a limit comes to in numbers, once device and baseline are known, and whether a value keeps it."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor

from llmprof.check.limits import Amount, Growth, Limit, Share, Term
from llmprof.check.quantities import Quantity
from llmprof.check.verdict import Bound, Number, decimal
from llmprof.units import format_bytes, format_count


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Where a value must lie, ends included, exactly. None is no bound on that side."""

    low: Fraction | None
    high: Fraction | None

    def holds(self, value: Number | Fraction) -> bool:
        """Whether `value` lies inside. Floats are taken as the exact numbers that they are."""
        exact = Fraction(value)
        return (self.low is None or self.low <= exact) and (self.high is None or exact <= self.high)

    def wider(self, tolerance: Fraction) -> Range:
        """The same with each end moved outwards by a fraction of itself."""
        return Range(
            low=None if self.low is None else self.low * (1 - tolerance),
            high=None if self.high is None else self.high * (1 + tolerance),
        )


def range_of(limit: Limit, baseline: Number | None) -> Range:
    """The range that a limit allows; `baseline` is needed where it is relative."""

    def worked_out(term: Term | None) -> Fraction | None:
        if isinstance(term, Growth):
            assert baseline is not None, "a relative limit is evaluated against a baseline"
            return term.of(Fraction(baseline))
        return None if term is None else term.base

    return Range(low=worked_out(limit.low), high=worked_out(limit.high))


def bound(limit: Limit, allowed: Range, baseline: Number | None, tolerance: Fraction = Fraction(0)) -> Bound:
    """The limit as reports show it. `allowed` is its range, with the tolerance in it."""
    quantity = limit.quantity
    meaning = _meaning(limit, allowed, baseline)
    if tolerance:
        meaning = f"{limit.text} with {float(100 * tolerance):g}% tolerance, {meaning}"
    elif isinstance(limit.low or limit.high, Amount):
        meaning = " ".join(limit.text.split())  # it is what it says
    return Bound(
        text=limit.text,
        meaning=meaning,
        low=None if allowed.low is None else _number(allowed.low, quantity, up=True),
        high=None if allowed.high is None else _number(allowed.high, quantity, up=False),
        unit=quantity.unit,
        place=limit.place,
    )


def _number(value: Fraction, quantity: Quantity, *, up: bool) -> Number:
    """A bound as a number of the quantity: the nearest that is inside, where the quantity is whole."""
    if quantity.whole:
        return ceil(value) if up else floor(value)
    return int(value) if value.denominator == 1 and quantity.unit in ("FLOP", "B") else float(value)


def _meaning(limit: Limit, allowed: Range, baseline: Number | None) -> str:
    quantity = limit.quantity
    low = None if allowed.low is None else short(_number(allowed.low, quantity, up=True), quantity)
    high = None if allowed.high is None else short(_number(allowed.high, quantity, up=False), quantity)
    if limit.exact:
        return f"== {high}"
    said = f"<= {high}" if low is None else f">= {low}" if high is None else f"{low} .. {high}"
    for term in (limit.high, limit.low):
        match term:
            case Share():
                return f"{said}, {_percent(term)} of {term.name}'s {_memory(term)}"
            case Growth():
                assert baseline is not None
                sign = "-" if term.sign < 0 else "+"
                return f"{said}, {sign}{_percent(term)} of the baseline's {short(baseline, quantity)}"
            case Amount() | None:
                continue
    return said


def _percent(term: Share | Growth) -> str:
    return f"{float(term.number.value):g}%"


def _memory(term: Share) -> str:
    size = term.device.memory_bytes
    return f"{size / 10**9:.2f} GB" if size % 10**7 == 0 else format_bytes(size)


def excess(value: Number, limit: Number, quantity: Quantity) -> Number:
    """How far `value` is beyond `limit`; parts of a byte, of which two places are shown, are rounded up."""
    if quantity.unit != "B" or quantity.whole:
        return abs(value - limit)
    over = abs(decimal(value) - decimal(limit))
    return int(over) if over.denominator == 1 else ceil(over * 100) / 100


def short(value: Number, quantity: Quantity) -> str:
    """A value for a sentence: rounded, with its unit."""
    match quantity.unit:
        case "B":
            return format_bytes(value)
        case "FLOP":
            return f"{format_count(value)} FLOP" if abs(value) < 1000 else f"{format_count(value)}FLOP"
        case "parameters":
            return f"{value:,}"
        case "calls":
            return f"{value:,} call{'' if value == 1 else 's'}"
        case "ratio":
            return f"{value:,.2f}"
        case "ms":
            return f"{value:,.3f} ms"
