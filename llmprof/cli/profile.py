"""`llmprof profile`: build the model in torch, run it, and hold the predictions against what happened."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, NoReturn, cast

import typer

from llmprof.cli import counters as gpu_counters
from llmprof.cli import (
    memory_option,
    options,
    parallel_options,
    profile_sharded,
    reference_option,
    routes,
    training,
    training_options,
)
from llmprof.cli.messages import say
from llmprof.cli.profile_plan import group_workloads, run_all
from llmprof.cli.profile_report import exit_code, report

if TYPE_CHECKING:
    from llmprof.profiling import Attention, Request, Result
    from llmprof.spec.arch import ArchSpec
    from llmprof.workload import Workload


def profile(
    spec: options.Specs,
    variant: options.Variant = None,
    all_variants: options.AllVariants = False,
    device: Annotated[
        str,
        typer.Option(
            "--device",
            metavar="DEVICE",
            help="auto, cpu, cuda, cuda:N, or meta (shapes alone: exact counts, no times).",
        ),
    ] = "auto",
    attention: Annotated[
        str, typer.Option("--attention", metavar="LIST", help="fused, unfused, or both.")
    ] = "fused,unfused",
    phase: training_options.PhaseOption = "prefill,decode",
    batch: options.Batch = "1",
    context: options.Context = None,
    new_tokens: options.NewTokens = None,
    source_tokens: options.SourceTokens = None,
    prefix_tokens: options.TrainedPrefixTokens = None,
    objective: options.ObjectiveOption = None,
    recompute: training_options.RecomputeOption = None,
    dropout: training_options.DropoutOption = None,
    logits: options.LogitsOption = None,
    dtype: options.Dtype = "bf16",
    weight_dtype: options.WeightDtype = None,
    kv_dtype: options.KvDtype = None,
    group_size: options.GroupSize = None,
    routing: routes.RoutingOption = None,
    latent: routes.LatentOption = None,
    mtp: options.MtpOption = False,
    unfused_reference: reference_option.UnfusedReferenceOption = "lean-eager",
    layers: Annotated[
        str | None,
        typer.Option(
            "--layers", metavar="N", help="Run N layers per stack, enough for one of each kind, and extrapolate."
        ),
    ] = None,
    seed: Annotated[str, typer.Option("--seed", metavar="N", help="Seed of the random weights and tokens.")] = "0",
    seconds: Annotated[
        str, typer.Option("--seconds", metavar="TIME", help="Time to spend on timing each pass; 0 times nothing.")
    ] = "10",
    referees: Annotated[
        bool, typer.Option("--referees/--no-referees", help="Also ask FlopCounterMode and fvcore.")
    ] = True,
    counters: gpu_counters.CountersOption = "auto",
    caches: gpu_counters.CachesOption = "cold",
    device_spec: memory_option.DeviceSpecOption = None,
    tensor_parallel: profile_sharded.TensorParallelOption = None,
    sequence_parallel: parallel_options.SequenceParallelOption = False,
    pipeline_parallel: parallel_options.PipelineParallelOption = None,
    pipeline_layers: parallel_options.PipelineLayersOption = None,
    data_parallel: parallel_options.DataParallelOption = None,
    expert_parallel: parallel_options.ExpertParallelOption = None,
    context_parallel: parallel_options.ContextParallelOption = None,
    device_profile: memory_option.DeviceProfileOption = None,
    compare: profile_sharded.CompareOption = None,
    rank_timeout: profile_sharded.RankTimeoutOption = None,
    output_format: options.FormatOption = "table",
    output: options.OutputOption = None,
) -> None:
    """Build SPEC with random weights, run it fused and unfused, and confirm the counts module by module.

    With --phase train or --objective: run a training step, its loss, gradients and optimiser included.
    With --tensor-parallel or another degree: spread the model over ranks, and confirm what each holds and sends.
    Exit 0 if everything is confirmed, 1 if a figure differs, 3 if something could not be measured.
    """
    from llmprof.profiling import Request, Result, require_torch
    from llmprof.profiling import profile as run_profile
    from llmprof.report.write import check_writable

    options.choice(output_format, ("table", "json", "csv", "markdown"), option="--format")
    attentions = tuple(cast("list[Attention]", options.choices(attention, ("fused", "unfused"), option="--attention")))
    depth = None if layers is None else options.length(layers, option="--layers")
    start, budget = options.seed(seed), options.seconds(seconds)
    check_writable(output)
    dtypes = options.parse_dtypes(dtype, weight_dtype, kv_dtype, group_size)
    step = training_options.parse_training(phase, objective, recompute, dropout)
    sharding = profile_sharded.parse(
        {
            "tensor_parallel": tensor_parallel,
            "sequence_parallel": sequence_parallel,
            "pipeline_parallel": pipeline_parallel,
            "data_parallel": data_parallel,
            "expert_parallel": expert_parallel,
            "context_parallel": context_parallel,
            "pipeline_layers": pipeline_layers,
        },
        training=step is not None,
        compare=compare,
        rank_timeout=rank_timeout,
        device=device,
        one_device={
            "--counters": (None if counters == "none" else counters, "auto"),
            "--caches": (caches, "cold"),
            "--device-spec": (device_spec, None),
            "--device-profile": (device_profile, None),
        },
    )
    if step is not None:
        given = {
            "phase": training_options.phase_beside(phase),
            "new_tokens": new_tokens,
            "source_tokens": source_tokens,
            "logits": logits,
            "kv_dtype": kv_dtype,
            "group_size": group_size,
            "latent": latent,
            "mtp": mtp,
            "seconds": seconds if budget else None,
            "counters": counters if counters != "none" else None,
            "caches": caches,
            "device_spec": device_spec,
            "device_profile": device_profile,
            "unfused_reference": unfused_reference,
        }
        defaults = {
            "phase": "prefill,decode",
            "seconds": "10",
            "counters": "auto",
            "caches": "cold",
            **reference_option.DEFAULTS,
        }
        training.refuse_what_has_no_effect(given, defaults)
        runs = training.training_runs(
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
        _train(runs, attentions, device=device, layers=depth, seed=start, output_format=output_format, output=output)
    reference = reference_option.parse_reference(unfused_reference)
    reference_option.refuse_fused(reference, attentions)
    question = gpu_counters.parse(counters, caches, device_spec, device)
    asked = options.parse_lengths(
        phase=phase,
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
    runs_of = [(arch, *asked.workloads(arch)) for arch in archs]
    options.refuse_idle_kv_dtype([(arch, workload) for arch, workloads, _ in runs_of for workload in workloads])
    if sharding is not None:
        profile_sharded.run(
            runs_of,
            sharding,
            attentions=attentions,
            reference=reference,
            device=device,
            layers=depth,
            seed=start,
            seconds=budget or None,
            compare=compare,
            rank_timeout=rank_timeout,
            output_format=output_format,
            output=output,
        )
    planned: list[tuple[Request | None, Result]] = []
    for arch, workloads, skipped in runs_of:
        if output_format == "csv":  # its rows have no place for this; the other formats say it themselves
            for reason in skipped:
                say(f"not applicable: {reason}")
        for group in group_workloads(workloads):
            request = Request(
                arch=arch,
                workloads=group,
                attentions=attentions,
                device=device,
                layers=depth,
                seed=start,
                time_seconds=budget or None,
                referees=referees,
                reference=reference,
                device_profile=device_profile,
            )
            result = Result(arch=arch, workloads=group, attentions=attentions, not_applicable=skipped)
            planned.append((request, result))
        if not workloads:
            planned.append((None, Result(arch=arch, not_applicable=skipped)))
    require_torch(referees=referees)
    below = memory_option.below_cache(run_profile, device_spec, counted=gpu_counters.reads(question.source, device))
    results = run_all(planned, gpu_counters.counting(below, question, device))
    report(results, device, output_format, output)
    raise typer.Exit(exit_code(results))


def _train(
    runs: list[tuple[ArchSpec, int, Workload]],
    attentions: tuple[Attention, ...],
    *,
    device: str,
    layers: int | None,
    seed: int,
    output_format: str,
    output: str | None,
) -> NoReturn:
    """Run the training passes `runs`, report them, and exit."""
    from llmprof.cli.profile_objective import plan
    from llmprof.profiling import require_torch
    from llmprof.profiling.objective import profile_objective

    planned = plan(runs, attentions, device=device, layers=layers, seed=seed)
    require_torch(referees=False)
    results = run_all(planned, profile_objective)
    report(results, device, output_format, output)
    raise typer.Exit(exit_code(results))
