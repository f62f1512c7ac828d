"""`llmprof count`: what each variant costs, by formulas alone. Torch is never imported."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from llmprof.cli import (
    count_training,
    detail_options,
    engines,
    levels,
    options,
    parallel_options,
    reference_option,
    routes,
    sharding,
    sram,
    training,
    training_options,
)
from llmprof.cli.messages import bold, say

if TYPE_CHECKING:
    from llmprof.engines.result import EngineCache
    from llmprof.predict.sharding.api import ShardedPrediction
    from llmprof.report.count_tables import Record
    from llmprof.report.tables import Table
    from llmprof.spec.arch import ArchSpec
    from llmprof.workload import Execution, Workload

SCHEMA_VERSION = 1
EXIT_NOT_APPLICABLE = 3
"""Nothing that was asked for exists in this structure: there is no figure, so this is no success either."""


def count(
    spec: options.Specs,
    variant: options.Variant = None,
    all_variants: options.AllVariants = False,
    phase: training_options.PhaseOption = "prefill,decode",
    batch: options.Batch = "1",
    context: options.Context = None,
    new_tokens: options.NewTokens = None,
    source_tokens: options.SourceTokens = None,
    prefix_tokens: options.TrainedPrefixTokens = None,
    objective: options.ObjectiveOption = None,
    recompute: training_options.RecomputeOption = None,
    dropout: training_options.DropoutOption = None,
    zero: parallel_options.ZeroOption = None,
    data_parallel: parallel_options.DataParallelOption = None,
    sequence_parallel: parallel_options.SequenceParallelOption = False,
    logits: options.LogitsOption = None,
    dtype: options.Dtype = "bf16",
    weight_dtype: options.WeightDtype = None,
    kv_dtype: options.KvDtype = None,
    group_size: options.GroupSize = None,
    routing: routes.RoutingOption = None,
    latent: routes.LatentOption = None,
    mtp: options.MtpOption = False,
    unfused_reference: reference_option.UnfusedReferenceOption = "lean-eager",
    grouping: reference_option.GroupingOption = "eager",
    by: detail_options.ByOption = None,
    explain: detail_options.ExplainOption = False,
    memory: detail_options.MemoryOption = None,
    kv_engine: engines.EngineOption = None,
    page_tokens: engines.PageTokensOption = None,
    tensor_parallel: parallel_options.TensorParallelOption = None,
    pipeline_parallel: parallel_options.PipelineParallelOption = None,
    pipeline_layers: parallel_options.PipelineLayersOption = None,
    expert_parallel: parallel_options.ExpertParallelOption = None,
    context_parallel: parallel_options.ContextParallelOption = None,
    device_spec: levels.DeviceSpecOption = None,
    sram_sizes: sram.SramOption = None,
    output_format: options.FormatOption = "table",
    output: options.OutputOption = None,
) -> None:
    """Count parameters, FLOPs, KV cache, memory and traffic of SPEC, for prefill and decode.

    With --phase train or --objective: what a training step reads, where it learns, what it costs and what it keeps.
    Nothing is run. Lengths are integers or 4Ki; comma lists give one row each. `llmprof profile` confirms the figures.
    """
    from llmprof.errors import InputError
    from llmprof.predict.record import count_record
    from llmprof.report.write import check_writable

    options.choice(output_format, ("table", "json", "csv", "markdown"), option="--format")
    if by is not None:
        options.choice(by, detail_options.LEVELS, option="--by")
    if (by or explain) and output_format == "csv":
        raise InputError("--format csv holds the records alone; use json, table or markdown with --by and --explain")
    memory_bytes = None if memory is None else options.size(memory, option="--memory")
    step = training_options.parse_training(phase, objective, recompute, dropout)
    division = parallel_options.parse_division(
        zero, data_parallel, tensor_parallel, sequence_parallel, training=step is not None
    )
    degrees = (tensor_parallel, sequence_parallel, pipeline_parallel, data_parallel, expert_parallel, context_parallel)
    spread = sharding.parse_sharding(
        *degrees,
        pipeline_layers,
        training=step is not None,
        kv_engine=kv_engine,
        beside={"memory": memory, "device_spec": device_spec, "sram": sram_sizes},
    )
    engine = engines.parse(kv_engine, page_tokens, tensor_parallel, training=step is not None)
    on_device = levels.parse_device(device_spec, by, engine)
    check_writable(output)
    same = {
        "variant": variant,
        "all_variants": all_variants,
        "phase": phase,
        "batch": batch,
        "context": context,
        "new_tokens": new_tokens,
        "source_tokens": source_tokens,
        "prefix_tokens": prefix_tokens,
        "objective": objective,
        "recompute": recompute,
        "dropout": dropout,
        "logits": logits,
        "dtype": dtype,
        "weight_dtype": weight_dtype,
        "kv_dtype": kv_dtype,
        "group_size": group_size,
        "routing": routing,
        "latent": latent,
        "mtp": mtp,
        "unfused_reference": unfused_reference,
    }
    defaults = {"phase": "prefill,decode", "batch": "1", "dtype": "bf16", **reference_option.DEFAULTS}
    unfused = reference_option.unfused_execution(unfused_reference, grouping)
    asked_again = same if spread is None else {**same, **sharding.as_given(spread)}
    confirm = f"llmprof profile {options.as_typed(spec, asked_again, defaults)}"
    dtypes = options.parse_dtypes(dtype, weight_dtype, kv_dtype, group_size)
    if step is not None:
        given = {**same, "phase": training_options.phase_beside(phase), "grouping": grouping, "sram": sram_sizes}
        training.refuse_what_has_no_effect({**given, "device_spec": device_spec, "explain": explain}, defaults)
        trained = training.training_runs(
            options.architectures(spec, variant, all_variants),
            step.objective,
            batch=batch,
            context=context,
            prefix_tokens=prefix_tokens,
            dtypes=dtypes,
            routing=routes.parse_routing(routing),
            recompute=step.recompute,
            dropout=step.dropout,
        )
        options.warn_beyond_limits([(arch, workload) for arch, _, workload in trained])
        more = count_training.Asked(by=by, memory_bytes=memory_bytes, division=division)
        if not count_training.report(trained, confirm, output_format, output, more):
            raise typer.Exit(1)
        return
    beside = {"by": by, "explain": explain, "memory": memory, "kv_engine": kv_engine, "device_spec": device_spec}
    asked = options.parse_lengths(
        phase=sram.phase_beside(sram_sizes, {**same, **beside, "grouping": grouping}),
        batch=batch,
        context=context,
        new_tokens=new_tokens,
        source_tokens=source_tokens,
        prefix_tokens=prefix_tokens,
        logits=logits,
        dtypes=dtypes,
        routing=routes.parse_routing(routing),
        latent=routes.parse_latent(latent),
        mtp=mtp,
    )
    archs = options.architectures(spec, variant, all_variants)
    options.refuse_what_has_no_effect(asked, archs)
    routes.refuse_idle(asked.routing, asked.latent, archs)
    runs: list[tuple[ArchSpec, Workload]] = []
    for arch in archs:
        workloads, skipped = asked.workloads(arch)
        runs += [(arch, workload) for workload in workloads]
        for reason in skipped:
            say(f"not applicable: {reason}")
    options.refuse_idle_kv_dtype(runs)
    options.warn_beyond_limits(runs)
    if sram_sizes is not None:
        sram.report(runs, unfused, sram_sizes, output_format, output)
        return
    reference_option.refuse_without_peak(grouping, {"memory": memory, "device_spec": device_spec})
    records = [count_record(arch, workload, unfused) for arch, workload in runs]
    caches = engines.add_engine(records, runs, engine)
    passes = sharding.add_sharding(records, runs, spread)
    levels.add_levels(records, runs, on_device, unfused)
    if memory_bytes is not None:
        from llmprof.report.memory_table import add_fit

        add_fit(records, memory_bytes)
    _report(
        runs,
        records,
        f"{confirm} --device meta",
        output_format,
        output,
        by=by,
        explain=explain,
        memory_bytes=memory_bytes,
        caches=caches,
        passes=passes,
        on_device=on_device,
        unfused=unfused,
    )
    if not records:
        raise typer.Exit(EXIT_NOT_APPLICABLE)
    if any(record.get("fits_fused") is False for record in records):
        raise typer.Exit(1)


def _report(
    runs: list[tuple[ArchSpec, Workload]],
    records: list[Record],
    confirm: str,
    output_format: str,
    output: str | None,
    *,
    by: str | None,
    explain: bool,
    memory_bytes: int | None,
    caches: list[EngineCache],
    passes: list[ShardedPrediction],
    on_device: levels.OnDevice | None,
    unfused: Execution,
) -> None:
    from llmprof.report import tables
    from llmprof.report.write import write_text

    if output_format == "csv":
        write_text(tables.to_csv(records), output)
    elif output_format == "json":
        payload: dict[str, object] = {"schema_version": SCHEMA_VERSION, "results": records}
        detail_options.add_details(records, runs, by=detail_options.of_leaves(by), explain=explain, unfused=unfused)
        levels.add_breakdown(records, runs, on_device, unfused)
        write_text(tables.to_json(payload), output)
    elif records:
        pages = _pages(
            runs,
            records,
            confirm,
            by=detail_options.of_leaves(by),
            explain=explain,
            memory_bytes=memory_bytes,
            caches=caches,
            unfused=unfused,
        )
        pages += sharding.tables(passes)
        pages += levels.tables(records, runs, on_device, unfused)
        text = tables.to_markdown(pages) if output_format == "markdown" else tables.to_text(pages, color=bold(output))
        write_text(text, output)


def _pages(
    runs: list[tuple[ArchSpec, Workload]],
    records: list[Record],
    confirm: str,
    *,
    by: str | None,
    explain: bool,
    memory_bytes: int | None,
    caches: list[EngineCache],
    unfused: Execution,
) -> list[Table]:
    from llmprof.report import count_tables
    from llmprof.report.decode_remarks import decode_remarks

    remarks = decode_remarks(runs)
    archs = list(dict.fromkeys(arch for arch, _ in runs))
    phases = [record["phase"] for record in records]
    if len(archs) == 1 and len(phases) == len(set(phases)):
        pages = count_tables.sheet(records, _heading(archs[0]), confirm, remarks)
    else:
        pages = count_tables.comparison(records, confirm, remarks)
    if memory_bytes is not None:
        from llmprof.report.memory_table import memory_verdicts

        pages.append(memory_verdicts(records, memory_bytes))
    if caches:
        from llmprof.report.engine_table import engine_tables

        pages += engine_tables(records, caches)
    if by is not None or explain:
        from llmprof.report.breakdown import breakdown_table, explanation_table

        for arch, workload in runs:
            if by is not None:
                pages.append(breakdown_table(arch, workload, by, unfused))
            if explain:
                pages.append(explanation_table(arch, workload, unfused))
    return pages


def _heading(arch: ArchSpec) -> str:
    depth = " + ".join(f"{len(stack.layers)}" for stack in arch.stacks)
    return (
        f"{arch.label}: {arch.structure}, {depth} layers, d_model {arch.d_model:,}, vocabulary {arch.vocab_size:,}, "
        f"{'tied' if arch.tied_embeddings else 'untied'} output"
    )
