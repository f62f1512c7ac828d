"""The memory of one device as a bar that ends in what is free, and what it has room for in each scenario."""

from __future__ import annotations

from itertools import accumulate, pairwise

from llmprof.planning.ask import Ask
from llmprof.planning.configuration import Configuration
from llmprof.planning.degrees import words
from llmprof.planning.demand import SCENARIOS
from llmprof.planning.scenarios import scenarios
from llmprof.planning.terms import MemoryBar
from llmprof.report.tables import Table
from llmprof.units import format_bytes, number_of

WIDTH = 40
"""Characters of a bar."""

_USED, _LESS, _FREE = "\u2588", "\u2592", "\u2591"
_STAR = " *"
_URL = " (http"


def memory_table(c: Configuration) -> Table:
    """Each term begins where the one before it ends."""
    bar = c.bar
    spread = words(c.deployment.sharding)
    many = f"each of {c.gpus}" if c.gpus > 1 else "1"
    shown = [term for term in bar.terms if term.bytes]
    lines = drawn(bar)
    rows = [
        (
            term.name,
            line,
            format_bytes(term.bytes) + (_STAR if term.basis == "unconfirmed" else "  "),
            _percent(term.bytes, bar.capacity_bytes),
        )
        for term, line in zip(shown, lines, strict=False)
    ]
    rows.append(("free", lines[-1], format_bytes(bar.free_bytes) + "  ", _percent(bar.free_bytes, bar.capacity_bytes)))
    notes = [f"{term.name}: {term.note.partition(_URL)[0]}" for term in shown if term.note]
    if any(term.basis == "unconfirmed" for term in shown):
        notes.append(
            "* unconfirmed: an assumption, or rules of an engine that has not been run (docs/planning.md; --format "
            "json has the places where each was read)."
        )
    return Table(
        title=f"Memory of {many} {c.deployment.device.name}{'' if spread == '-' else f' ({spread})'}, "
        f"{format_bytes(bar.capacity_bytes)}: {requests(c.batch)} of {c.tokens:,} tokens "
        "to a replica",
        columns=("", "", "bytes  ", "share"),
        rows=tuple(rows),
        left=2,
        notes=tuple(notes),
    )


def drawn(bar: MemoryBar) -> list[str]:
    """A line of `WIDTH` characters at most for each term that has bytes, and one for what is free.

    Ends are rounded, so that no line is further off than half a character; a term of less than that has none. What an
    engine keeps less than the architecture needs goes back, in another shade.
    """
    shown = [term.bytes for term in bar.terms if term.bytes]
    ends = list(accumulate(shown, initial=0))
    scale = WIDTH / max(bar.capacity_bytes, *ends)
    lines = []
    for start, end in pairwise(round(scale * end) for end in ends):
        first, last = sorted((start, end))
        lines.append(" " * first + (_USED if end >= start else _LESS) * (last - first))
    used, whole = round(scale * ends[-1]), round(scale * bar.capacity_bytes)
    return [*lines, " " * used + _FREE * (whole - used)]


def scenario_table(c: Configuration, ask: Ask) -> Table:
    """How many requests have room for each part of them that may be kept."""
    held = scenarios(c, ask)
    rows = []
    for name in SCENARIOS:
        each = held.get(name)
        marked = f"{name}{' (planned)' if name == ask.scenario else ''}"
        if each is None:
            rows.append((marked, "-", "-", "-"))
        else:
            many = each.maximum_concurrency
            rows.append(
                (marked, f"{each.tokens:,}", _count(each.largest_batch), "any" if many is None else f"{many:,.2f}x")
            )
    return Table(
        title="How many requests have room, by what is kept of each",
        columns=("kept of a request", "tokens", "requests at once", "maximum concurrency"),
        rows=tuple(rows),
        notes=(
            "requests at once: with the activations of a pass of them; maximum concurrency: what the cache alone has "
            f"room for, as vLLM prints it where it is started for {requests(c.batch)}. Of all replicas together.",
            f"With {requests(c.batch)} to a replica each may keep {_count(c.largest_context)} tokens{_at_most(c)}.",
        ),
    )


def _at_most(c: Configuration) -> str:
    if c.largest_context is None:
        return ""
    return " at most" + (", all that the model was made for" if c.largest_context == c.arch.max_context else "")


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f}%"


def _count(value: int | None) -> str:
    return "any number of" if value is None else f"{value:,}"


def requests(number: int) -> str:
    """``1 request``, ``16 requests``."""
    return number_of(number, "request")
