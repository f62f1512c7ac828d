"""The Pareto front of a plan: a table of it, and its points in characters, cost across and latency up."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from llmprof.planning.configuration import Configuration
from llmprof.planning.served_record import where
from llmprof.planning.served_search import ServedSearch
from llmprof.report.log_plot import Series, log_plot
from llmprof.report.plan_tables import duration
from llmprof.report.tables import Table

NANOSECONDS = 1e9
MICRO = 1e6
"""Prices go through a plot's labels as integers."""

MARGIN = 14
"""Columns left of a plot that its labels may take."""
NARROWEST, WIDEST = 24, 104
"""A plot has as many cells across; the widest ends where remarks are wrapped."""


def pareto_table(search: ServedSearch, front: Sequence[Configuration], *, width: int, encoding: str | None) -> Table:
    """The front, cheapest first, and a plot of two points or more, as wide as `width` allows."""
    priced = bool(search.plan.ask.prices)
    columns = ("per hour" if priced else "devices", "configuration", latency_name(search))
    several = len({c.deployment.dtypes for c in front}) > 1
    rows = tuple(
        (
            _cost(search.cost(c), priced),
            where(c) + (f", {c.deployment.dtypes.weights}" if several else ""),
            duration(search.latency(search.seen[c].times)),
        )
        for c in front
    )
    notes = [
        f"Of those that serve what is asked, none is both as cheap and quicker than one of these.{_behind(search)}",
    ]
    if any(search.cost(c) == inf for c in front):
        notes.append("-: nobody said what one costs (--price); it is taken as dearer than all that have a price.")
    points = [c for c in search.seen if c not in search.missed and search.cost(c) < inf]
    drawing: list[str] = []
    if len(points) > 1:
        notes.append(f"Below, all that serve it as predicted: {title_of(search)}, both logarithmic.")
        drawing = _plot(search, front, points, width=width, encoding=encoding)
    title = f"Pareto front: {title_of(search)}"
    return Table(title=title, columns=columns, rows=rows, left=2, notes=tuple(notes), drawing=tuple(drawing))


def title_of(search: ServedSearch) -> str:
    """What is held against what."""
    return f"{'price of an hour' if search.plan.ask.prices else 'devices'} against {latency_name(search)}"


def latency_name(search: ServedSearch) -> str:
    """What configurations are compared by."""
    asked = search.target.slo.asked
    return asked[0].upper() if len(asked) == 1 else "answer"


def _behind(search: ServedSearch) -> str:
    if latency_name(search) != "answer":
        return ""
    return f" answer: to the last of {search.output_tokens:,} tokens."


def _plot(
    search: ServedSearch,
    front: Sequence[Configuration],
    points: Sequence[Configuration],
    *,
    width: int,
    encoding: str | None,
) -> list[str]:
    priced = bool(search.plan.ask.prices)
    scale = MICRO if priced else 1
    on_it = set(front)

    def point(c: Configuration) -> tuple[float, float]:
        return search.cost(c) * scale, search.latency(search.seen[c].times) * NANOSECONDS

    others = tuple(point(c) for c in points if c not in on_it)
    series = [Series(name="on the front", points=tuple(point(c) for c in points if c in on_it))]
    if others:
        series.append(Series(name="others that serve it", points=others))
    return log_plot(
        series,
        x_text=lambda value: f"{value / MICRO:,.2f} an hour" if priced else _devices(value),
        y_text=lambda value: duration(value / NANOSECONDS),
        encoding=encoding,
        columns=max(NARROWEST, min(WIDEST, width - MARGIN)),
    )


def _devices(value: int) -> str:
    return f"{value} device" if value == 1 else f"{value} devices"


def _cost(value: float, priced: bool) -> str:
    if not priced:
        return f"{value:,.0f}"
    return "-" if value == inf else f"{value:,.2f}"
