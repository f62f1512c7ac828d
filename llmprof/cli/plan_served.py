"""What `plan` prints where a service level or a rate of requests is asked for: every plan, served."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from llmprof.latency.local import Local
    from llmprof.planning.search import Plan, Search
    from llmprof.planning.served_figures import Predicted
    from llmprof.planning.served_search import ServedSearch
    from llmprof.planning.slo import Target
    from llmprof.report.tables import Table


PAGE = 80
"""Columns of a plot in Markdown, whatever the terminal is."""


class Served:
    """One plan that is served: what keeps the level, and the figures of those that are listed."""

    def __init__(self, search: Search, plan: Plan, target: Target, local: Local, top: int | None) -> None:
        from llmprof.planning.served import Serving
        from llmprof.planning.served_figures import predicted
        from llmprof.planning.served_nearest import nearest_targets
        from llmprof.planning.served_search import ServedSearch

        target.check(plan.arch, plan.ask.demand.output_tokens)
        self.search, self.plan = search, plan
        self.served: ServedSearch = ServedSearch(plan, Serving(search, target.rate, local), target)
        best = self.served.best(top)
        self.front = self.served.front()
        self.shown: list[Predicted] = [predicted(self.served.serving, c) for c in best]
        self.nearest = [] if best or not plan.configurations else nearest_targets(self.served)

    def why_nothing(self) -> str:
        """Why nothing of what has room serves what is asked, in one line."""
        from llmprof.report.plan_served import why_nothing

        return f"{self.plan.arch.label}: {why_nothing(self.served)}"

    def record(self) -> dict[str, Any]:
        """The record of a plan, with what was asked of its times and what came of it."""
        from llmprof.planning import record
        from llmprof.planning.fewest import fewest
        from llmprof.planning.nearest import nearest
        from llmprof.planning.scenarios import scenarios
        from llmprof.planning.served_record import target_record

        plan = self.plan
        shown = [self._configuration(each, number) for number, each in enumerate(self.shown, 1)]
        held = scenarios(self.shown[0].configuration, plan.ask) if self.shown else {}
        return record.plan_record(
            plan,
            shown,
            **target_record(self.served, self.front, self.nearest),
            scenarios=record.scenario_records(held) if self.shown else [],
            fewest=record.fewest_records(list(fewest(self.search))),
            nearest=[] if plan.configurations else record.nearest_records(nearest(self.search)),
        )

    def rows(self) -> list[dict[str, Any]]:
        """The configurations that are listed, and behind them what else is on the front, which has no rank."""
        from llmprof.planning.record import flat
        from llmprof.planning.served_figures import predicted

        listed = {each.configuration for each in self.shown}
        rest = [predicted(self.served.serving, c) for c in self.front if c not in listed]
        made = [self._configuration(each, number) for number, each in enumerate(self.shown, 1)]
        made += [{**self._configuration(each, 0), "rank": None} for each in rest]
        return [flat(self.plan.arch, each) for each in made]

    def _configuration(self, each: Predicted, number: int) -> dict[str, Any]:
        from llmprof.planning import record
        from llmprof.planning.deploy import command_lines
        from llmprof.planning.served_record import predicted_record

        plan, c = self.plan, each.configuration
        made = record.configuration_record(c, number)
        own = predicted_record(each, self.served.target.slo, on_front=c in self.front)
        lines = record.command_records(command_lines(plan.arch, c.deployment, c.as_planned(plan.ask.demand)))
        both = {"unconfirmed": {**made["unconfirmed"], **own["unconfirmed"]}, "commands": lines}
        return {**made, **own, **both}

    def pages(self, *, width: int, encoding: str | None) -> list[Table]:
        """Tables in the order in which they are read, with a plot of at most `width` columns."""
        from llmprof.planning.deploy import command_lines
        from llmprof.planning.fewest import fewest
        from llmprof.planning.nearest import nearest
        from llmprof.report import pareto_plot, plan_rejections, plan_served, plan_tables

        plan, served = self.plan, self.served
        if not plan.configurations:
            pages = [plan_rejections.nothing_table(plan, nearest(self.search))]
        elif not self.shown:
            pages = [plan_served.nothing_served_table(served, self.nearest)]
        else:
            pages = plan_served.served_tables(served, self.shown)
            pages.append(pareto_plot.pareto_table(served, self.front, width=width, encoding=encoding))
            pages += plan_tables.best_tables(self.shown[0].configuration, plan.ask)
        if plan.configurations and (served.missed or served.unpredicted):
            pages.append(plan_served.missed_table(served))
        pages.append(plan_tables.fewest_table(list(fewest(self.search)), plan.ask.max_gpus))
        pages += plan_rejections.rejection_tables(plan)
        if self.shown:
            c = self.shown[0].configuration
            lines = command_lines(plan.arch, c.deployment, c.as_planned(plan.ask.demand))
            pages.append(plan_tables.command_table(c, lines))
        return pages


def run(
    searches: Sequence[Search],
    plans: Sequence[Plan],
    target: Target,
    local: Local,
    output_format: str,
    output: str | None,
    *,
    top: int | None,
) -> None:
    """Serve every plan and print what came of it. Exit 1 where a plan has nothing that serves what is asked."""
    from llmprof.cli.messages import say

    served = [Served(search, plan, target, local, top) for search, plan in zip(searches, plans, strict=True)]
    _report(served, output_format, output)
    for each in served:
        if not each.plan.configurations:
            say(f"nothing has room for {each.plan.arch.label}")
        elif not each.shown:
            say(each.why_nothing())
    if not all(each.shown for each in served):
        raise typer.Exit(1)


def _report(served: Sequence[Served], output_format: str, output: str | None) -> None:
    from llmprof.cli.messages import bold
    from llmprof.cli.plan import SCHEMA_VERSION
    from llmprof.report import tables
    from llmprof.report.write import write_text

    if output_format == "json":
        results = [each.record() for each in served]
        write_text(tables.to_json({"schema_version": SCHEMA_VERSION, "results": results}), output)
        return
    if output_format == "csv":
        write_text(tables.to_csv([row for each in served for row in each.rows()]), output)
        return
    width, encoding = _canvas(output)
    if output_format == "markdown":
        width = PAGE
    pages = [page for each in served for page in each.pages(width=width, encoding=encoding)]
    text = tables.to_markdown(pages) if output_format == "markdown" else tables.to_text(pages, color=bold(output))
    write_text(text, output)


def _canvas(output: str | None) -> tuple[int, str | None]:
    """How wide a plot may be, and the encoding that has to hold its marks: files are UTF-8."""
    import sys
    from shutil import get_terminal_size

    return get_terminal_size().columns, sys.stdout.encoding if output is None else "utf-8"
