"""A limit as it is written: its forms, its units, and what is wrong with one.

    <= 16 GiB    >= 1.0    == 6_738_415_616    12 GiB .. 16 GiB    <= 90% of h200    <= +2%

Numbers are exact fractions from the text on: nothing is rounded on the way to a verdict.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from llmprof.check.limit_units import EXAMPLE, SAID, UNITS, unit_hint
from llmprof.check.quantities import ELSEWHERE, Quantity
from llmprof.check.verdict import Place
from llmprof.device import Device, find
from llmprof.errors import InputError
from llmprof.spec.nodes import Map, Node, Scalar, short, shown
from llmprof.spec.problems import Report
from llmprof.spec.scalars import MAX_DIGITS
from llmprof.spec.words import did_you_mean


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """A number of a limit, and where it stands in the limit's text."""

    value: Fraction
    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """``16 GiB``: a number and the size of its unit."""

    number: Number
    unit: str
    scale: int

    @property
    def base(self) -> Fraction:
        """The amount in base units."""
        return self.number.value * self.scale


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """``90% of h200``: a part of a device's memory. `name` is the device as written."""

    number: Number
    device: Device
    name: str

    @property
    def base(self) -> Fraction:
        """The share in bytes."""
        return self.number.value * self.device.memory_bytes / 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """``+2%``: relative to the baseline. `sign` is 1 or -1."""

    number: Number
    sign: int

    def of(self, baseline: Fraction) -> Fraction:
        """The bound for a quantity with this baseline."""
        return baseline * (1 + self.sign * self.number.value / 100)


Term = Amount | Share | Growth


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A limit on one quantity, as written. ``==`` has the same term on both sides; None is no bound on that side."""

    quantity: Quantity
    low: Term | None
    high: Term | None
    text: str
    path: str
    place: Place

    @property
    def relative(self) -> bool:
        """Whether it needs a baseline."""
        return isinstance(self.low, Growth) or isinstance(self.high, Growth)

    @property
    def exact(self) -> bool:
        """Whether it was written ``==``."""
        return self.low is not None and self.low is self.high


_DIGITS = r"[0-9]+(?:_[0-9]+)*(?:\.[0-9]+)?"
_TERM = re.compile(rf"\s*(?P<sign>[+-]?)\s*(?P<number>{_DIGITS})\s*(?P<rest>\S.*|)", re.DOTALL)
_OF = re.compile(r"%\s*of\s+(?P<device>\S.*)", re.DOTALL)
_OPERATOR = re.compile(r"<=|>=|==")
_SLIPS = {"=<": "<=", "=>": ">=", "≤": "<=", "≥": ">=", "<": "<=", ">": ">=", "=": "=="}
FORMS = "'<= 16 GiB', '>= 1.0', '== 6_738_415_616', '12 GiB .. 16 GiB', '<= 90% of h200' or '<= +2%'"


class _Wrong(Exception):
    """Why a text is no limit, in the words of a Problem."""

    def __init__(self, found: str, expected: str, hint: str | None = None) -> None:
        super().__init__(found)
        self.found, self.expected, self.hint = found, expected, hint


def read_all(node: Node, known: Mapping[str, Quantity], report: Report) -> tuple[Limit, ...]:
    """The limits of a mapping of quantities; those that are wrong are reported and left out."""
    if not isinstance(node, Map) or not node.items:
        report.value(node, "a mapping of quantities to limits, such as {kv_cache_bytes: '<= 16 GiB'}")
        return ()
    found = []
    for name, value in node.items.items():
        if name in known:
            found.append(read(value, known[name], report))
        else:
            hint = did_you_mean(name, tuple(known), None if name.lower() in known else ELSEWHERE)
            report.key(node, name, f"unknown quantity {short(name)!r}", f"one of {', '.join(known)}", hint)
    return tuple(limit for limit in found if limit is not None)


def read(node: Node, quantity: Quantity, report: Report) -> Limit | None:
    """The limit that a node states, or None with the reason reported at its place."""
    try:
        low, high = _sides(_text(node, quantity), quantity)
    except _Wrong as wrong:
        report.value(node, wrong.expected, wrong.hint, wrong.found)
        return None
    except InputError as error:  # from the catalogue of devices, which names those near
        report.value(node, "a device of the catalogue", found=str(error))
        return None
    place = Place(file=report.file, line=node.mark.line, column=node.mark.column)
    assert isinstance(node, Scalar)  # or it would not have been read
    return Limit(quantity=quantity, low=low, high=high, text=node.text.strip(), path=node.path, place=place)


def _text(node: Node, quantity: Quantity) -> str:
    if not isinstance(node, Scalar) or isinstance(node.value, bool) or node.value is None:
        raise _Wrong(f"found {shown(node)}", f"a limit such as {FORMS}")
    if isinstance(node.value, int | float):
        hint = None if _hopeless(node.text) else f"write '<= {node.text}' or '== {node.text}'"
        raise _Wrong(f"found {short(node.text)} without a comparison", f"a limit such as {FORMS}", hint)
    return node.text.strip()


def _sides(text: str, quantity: Quantity) -> tuple[Term | None, Term | None]:
    operator = _OPERATOR.match(text)
    if operator is None:
        if ".." in text:
            return _range(text, quantity)
        slip = next((word for word in _SLIPS if text.startswith(word)), None)
        hint = f"write {_SLIPS[slip]}" if slip else None
        if _TERM.fullmatch(text) and not _hopeless(text):
            hint = f"write '<= {text}' or '== {text}'"
        raise _Wrong(f"found {short(text)!r}", f"a limit such as {FORMS}", hint)
    term = _term(text, operator.end(), len(text), quantity)
    match operator[0]:
        case "<=":
            _possible(None, term, text, quantity)
            return None, term
        case ">=":
            _possible(term, None, text, quantity)
            return term, None
    if not isinstance(term, Amount):
        raise _Wrong(f"found {short(text)!r}", "<= or >= before a percentage")
    if quantity.unit in ("ratio", "ms"):
        what = "a measurement is never exact" if quantity.unit == "ms" else "a ratio is no round number"
        raise _Wrong(f"found {short(text)!r}", "<=, >= or a range", f"{quantity.name}: {what}")
    if quantity.whole and term.base.denominator != 1:
        raise _Wrong(f"found {short(text)!r}", f"a whole number of {SAID[quantity.unit]}")
    _possible(term, term, text, quantity)
    return term, term


def _range(text: str, quantity: Quantity) -> tuple[Term, Term]:
    middle = text.index("..")
    low = _term(text, 0, middle, quantity)
    high = _term(text, middle + 2, len(text), quantity)
    if type(low) is not type(high):
        raise _Wrong(f"found {short(text)!r}", "a range whose ends are of one form")
    _possible(low, high, text, quantity)
    return low, high


def _possible(low: Term | None, high: Term | None, text: str, quantity: Quantity) -> None:
    """Refuse a limit that nothing meets, or that says nothing."""
    for term in (low, high):
        if isinstance(term, Growth):
            if term.sign * term.number.value <= -100:
                raise _Wrong(f"found {short(text)!r}", "a change of more than -100%", "nothing shrinks to nothing")
        elif term is not None and quantity.may_be_none:
            if term is not high and term.base <= 0:
                raise _Wrong(f"found {short(text)!r}", "a number above 0", f"no {quantity.name} is below 0")
        elif term is not None and (term.base <= 0 or (quantity.whole and term is high and term.base < 1)):
            raise _Wrong(f"found {short(text)!r}", "a number above 0", "no quantity can meet a limit of 0")
    if low is None or high is None:
        return
    ends = [term.of(Fraction(1)) if isinstance(term, Growth) else term.base for term in (low, high)]
    if ends[0] > ends[1]:
        raise _Wrong(f"found {short(text)!r}", "the lower end first", "nothing lies in this range")


def _term(text: str, start: int, end: int, quantity: Quantity) -> Term:
    whole = text[start:end]
    match = _TERM.fullmatch(whole)
    if match is None or _hopeless(whole):
        raise _no_number(whole.strip(), quantity)
    if len(match["number"]) > MAX_DIGITS:
        raise _Wrong(f"found a number of {len(match['number'])} characters", "a number that some model has")
    value = Fraction(match["number"].replace("_", ""))
    number = Number(value=value, start=start + match.start("number"), end=start + match.end("number"))
    sign, rest = match["sign"], match["rest"].rstrip()
    if re.match(r"[,_]|[eE][-+]?[0-9]", rest):
        raise _no_number(whole.strip(), quantity)
    if not rest.startswith("%"):
        if sign:
            raise _signed(whole.strip(), sign)
        return _amount(number, rest, quantity, whole.strip())
    share = _OF.fullmatch(rest)
    if share is not None and not sign:
        if not quantity.in_memory:
            raise _Wrong(
                f"found {short(whole.strip())!r}",
                f"a limit without a device: {quantity.name} does not lie in a device's memory",
            )
        device = find(share["device"])
        if device.memory is None:
            raise _Wrong(
                f"found {short(whole.strip())!r}",
                "a device with a memory of its own, or a number of bytes",
                f"the memory of {device.name} is what is installed",
            )
        if quantity.per_rank and value > 100:
            raise _Wrong(
                f"found {short(whole.strip())!r}",
                "at most 100%",
                f"{quantity.name} is of one device, which has no more than its memory",
            )
        return Share(number=number, device=device, name=share["device"])
    if share is not None:
        hint = "no quantity is below 0" if sign == "-" else f"write {match['number']}{rest}"
        raise _Wrong(f"found {short(whole.strip())!r}", "a part of a device's memory above 0%, without a sign", hint)
    if rest == "%" and sign:
        return Growth(number=number, sign=-1 if sign == "-" else 1)
    written = match["number"]
    hint = f"write +{written}% for the baseline, or {written}% of a device, such as {written}% of h200"
    raise _Wrong(f"found {short(whole.strip())!r}", "a percentage of something", hint)


def _hopeless(text: str) -> bool:
    return re.search(r"\b(?:nan|inf|infinity)\b", text, re.IGNORECASE) is not None


def _no_number(text: str, quantity: Quantity) -> _Wrong:
    expected = f"a number such as {EXAMPLE[quantity.unit]}"
    if not text:
        return _Wrong("found nothing to compare with", expected)
    found = f"found {short(text)!r}"
    if _hopeless(text):
        return _Wrong(found, "a finite number above 0", "no quantity can meet it")
    if re.match(r"-\s*\.?[0-9]", text):
        return _signed(text, "-")
    if re.fullmatch(r"[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?\s*[A-Za-z]*", text):
        return _Wrong(found, expected, f"write {text.replace(',', '_')}")
    if re.match(r"[0-9.]+[eE][-+]?[0-9]", text):
        return _Wrong(found, expected, "write the number out, without an exponent")
    return _Wrong(found, expected)


def _signed(text: str, sign: str) -> _Wrong:
    hint = "no quantity is below 0" if sign == "-" else "write the number without a sign, or +2% for the baseline"
    return _Wrong(f"found {short(text)!r}", "a number above 0, or a percentage of the baseline", hint)


def _amount(number: Number, unit: str, quantity: Quantity, text: str) -> Amount:
    units = UNITS[quantity.unit]
    if unit in units:
        return Amount(number=number, unit=unit, scale=units[unit])
    name, said, found = quantity.name, SAID[quantity.unit], f"found {short(text)!r}"
    if not unit:
        raise _Wrong(found, f"a unit: {name} is in {said}", f"such as {EXAMPLE[quantity.unit]}")
    if "" in units:
        raise _Wrong(found, f"a number without a unit: {name} is in {said}", f"such as {EXAMPLE[quantity.unit]}")
    raise _Wrong(found, f"a unit of {said}: {', '.join(units)}", unit_hint(unit, quantity.unit))
