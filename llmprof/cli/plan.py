"""`llmprof plan`: on which devices a model has room, on how many, and how quick they could be at best. No torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from llmprof.cli import local_option, options, plan_options, plan_slo, routes
from llmprof.cli.messages import bold, say

if TYPE_CHECKING:
    from llmprof.planning.search import Plan, Search
    from llmprof.report.tables import Table

SCHEMA_VERSION = 1


def plan(
    spec: options.Specs,
    variant: options.Variant = None,
    all_variants: options.AllVariants = False,
    device: plan_options.DeviceOption = None,
    context: plan_options.PromptOption = None,
    output_tokens: plan_options.OutputTokensOption = None,
    concurrency: plan_options.ConcurrencyOption = None,
    scenario: plan_options.ScenarioOption = plan_options.DEFAULT_SCENARIO,
    chunk_tokens: plan_options.ChunkOption = None,
    dtype: options.Dtype = "bf16",
    weight_dtype: plan_options.WeightDtypes = None,
    kv_dtype: options.KvDtype = None,
    group_size: options.GroupSize = None,
    routing: routes.RoutingOption = None,
    latent: routes.LatentOption = None,
    max_gpus: plan_options.MaxGpusOption = "8",
    node_size: plan_options.NodeOption = "8",
    price: plan_options.PriceOption = None,
    engine: plan_options.EngineOption = "vllm",
    overhead: plan_options.OverheadOption = None,
    rank: plan_options.RankOption = None,
    slo: plan_slo.SloOption = None,
    request_rate: plan_slo.RateOption = None,
    watts: plan_slo.WattsOption = None,
    device_profile: local_option.LocalOption = None,
    top: plan_options.TopOption = "10",
    output_format: options.FormatOption = "table",
    output: options.OutputOption = None,
) -> None:
    """Plan on which devices SPEC has room for prompts and answers, on how many, and what bounds their times.

    Nothing is run: times are lower bounds, and with --slo or --request-rate predictions too. Exit 1 where nothing has
    room or keeps the level, with the nearest that would.
    """
    from dataclasses import replace

    from llmprof.collection import paused
    from llmprof.device import entries
    from llmprof.errors import InputError
    from llmprof.planning.search import Search
    from llmprof.report.write import check_writable

    options.choice(output_format, ("table", "json", "csv", "markdown"), option="--format")
    shown = plan_options.top(top)
    target = plan_slo.parse_target(slo, request_rate)
    local = plan_slo.parse_local(device_profile, target)
    named = plan_options.parse_devices(device)
    devices = list(entries()) if named is None else named
    ask = plan_options.parse_ask(
        output_tokens=output_tokens,
        concurrency=plan_options.default_concurrency(request_rate) if concurrency is None else concurrency,
        scenario=scenario,
        chunk_tokens=chunk_tokens,
        dtypes=plan_options.parse_weights(weight_dtype, dtype, kv_dtype, group_size),
        max_gpus=max_gpus,
        node_size=node_size,
        price=price,
        rank=rank,
        engine=engine,
        overhead=overhead,
        devices=devices,
    )
    ask = replace(
        ask,
        watts=plan_slo.parse_watts(watts, devices, target),
        routing=routes.parse_routing(routing),
        latent=routes.parse_latent(latent),
    )
    check_writable(output)
    with paused():
        archs = options.architectures(spec, variant, all_variants)
        routes.refuse_idle(ask.routing, ask.latent, archs)
        searches = []
        for arch in archs:
            if target is not None:
                target.check(arch, ask.demand.output_tokens)
            asked = plan_options.of_model(ask, arch, context=context, output_tokens=output_tokens, scenario=scenario)
            search = Search(arch, devices, asked)
            if not search.devices:
                raise InputError("; ".join(f"{each.name} cannot be planned: {why}" for each, why in search.unplanned))
            searches.append(search)
        runs = [(search.arch, search.longest_pass()) for search in searches]
        options.refuse_idle_kv_dtype(runs)
        options.warn_beyond_limits(runs)
        plans = [search.plan() for search in searches]
        if target is not None and local is not None:
            from llmprof.cli import plan_served

            plan_served.run(searches, plans, target, local, output_format, output, top=shown)
            return
        _report(searches, plans, output_format, output, top=shown)
        empty = [each.arch.label for each in plans if not each.configurations]
        if empty:
            say(f"nothing has room for {', '.join(empty)}")
            raise typer.Exit(1)


def _report(
    searches: list[Search], plans: list[Plan], output_format: str, output: str | None, *, top: int | None
) -> None:
    from llmprof.report import tables
    from llmprof.report.write import write_text

    if output_format in ("json", "csv"):
        results = [_record(search, plan, top) for search, plan in zip(searches, plans, strict=True)]
        if output_format == "json":
            write_text(tables.to_json({"schema_version": SCHEMA_VERSION, "results": results}), output)
            return
        from llmprof.planning.record import flat

        rows = [
            flat(plan.arch, each)
            for plan, record in zip(plans, results, strict=True)
            for each in record["configurations"]
        ]
        write_text(tables.to_csv(rows), output)
        return
    pages = [page for search, plan in zip(searches, plans, strict=True) for page in _pages(search, plan, top)]
    text = tables.to_markdown(pages) if output_format == "markdown" else tables.to_text(pages, color=bold(output))
    write_text(text, output)


def _record(search: Search, plan: Plan, top: int | None) -> dict[str, Any]:
    from llmprof.planning import record
    from llmprof.planning.deploy import command_lines
    from llmprof.planning.fewest import fewest
    from llmprof.planning.nearest import nearest
    from llmprof.planning.rank import best_of_each
    from llmprof.planning.scenarios import scenarios

    best = best_of_each(plan.configurations)
    shown = []
    for number, each in enumerate(best[:top], 1):
        made = record.configuration_record(each, number)
        lines = command_lines(plan.arch, each.deployment, each.as_planned(plan.ask.demand))
        shown.append({**made, "commands": record.command_records(lines)})
    held = scenarios(best[0], plan.ask) if best else {}
    return record.plan_record(
        plan,
        shown,
        scenarios=record.scenario_records(held) if best else [],
        fewest=record.fewest_records(list(fewest(search))),
        nearest=[] if best else record.nearest_records(nearest(search)),
    )


def _pages(search: Search, plan: Plan, top: int | None) -> list[Table]:
    from llmprof.planning.fewest import fewest
    from llmprof.planning.nearest import nearest
    from llmprof.planning.rank import best_of_each
    from llmprof.report import plan_rejections, plan_tables

    best = best_of_each(plan.configurations)
    if not best:
        pages = [plan_rejections.nothing_table(plan, nearest(search))]
    else:
        shown = best[:top]
        pages = [plan_tables.ranking_table(plan, shown, len(best) - len(shown))]
        pages += plan_tables.best_tables(best[0], plan.ask)
    pages.append(plan_tables.fewest_table(list(fewest(search)), plan.ask.max_gpus))
    pages += plan_rejections.rejection_tables(plan)
    if best:
        from llmprof.planning.deploy import command_lines

        lines = command_lines(plan.arch, best[0].deployment, best[0].as_planned(plan.ask.demand))
        pages.append(plan_tables.command_table(best[0], lines))
    return pages
