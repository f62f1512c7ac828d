"""`llmprof sweep`: one figure of a pass over very many batches and contexts at once, by formulas alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, cast

import typer

from llmprof.cli import options
from llmprof.cli.messages import bold, say
from llmprof.errors import InputError
from llmprof.report.sweep_tables import TITLES

if TYPE_CHECKING:
    from llmprof.predict.grid import GridPhase
    from llmprof.report.sweep_tables import Swept
    from llmprof.workload import Logits

SCHEMA_VERSION = 1

EXIT_NOT_APPLICABLE = 3

MOST_POINTS = 4_000_000
"""Of one grid: its arrays take 8 bytes a point and figure."""

TOTAL = "total_bytes_fused"


def sweep(
    spec: options.Specs,
    variant: options.Variant = None,
    all_variants: options.AllVariants = False,
    phase: Annotated[str, typer.Option("--phase", metavar="PHASE", help="prefill or decode.")] = "decode",
    batch: Annotated[
        str,
        typer.Option("--batch", metavar="RANGES", help="Sequences at once: 1,2,8, 1..256, 1..4096:x2 or 8..64:8."),
    ] = "1..128:x2",
    context: Annotated[
        str, typer.Option("--context", metavar="RANGES", help="Positions attended to, new tokens included.")
    ] = "1Ki..128Ki:x2",
    quantity: Annotated[
        str,
        typer.Option("--quantity", metavar="NAME", help=f"What a table shows: {', '.join(TITLES)}."),
    ] = TOTAL,
    memory: Annotated[
        str | None,
        typer.Option(
            "--memory",
            metavar="SIZE",
            help="Memory of a device, such as 80GB: the largest batch that fits it, by context.",
        ),
    ] = None,
    logits: Annotated[
        str, typer.Option("--logits", metavar="WHICH", help="Positions that get logits: all, last or none.")
    ] = "last",
    dtype: options.Dtype = "bf16",
    weight_dtype: options.WeightDtype = None,
    kv_dtype: options.KvDtype = None,
    group_size: options.GroupSize = None,
    output_format: options.FormatOption = "table",
    output: options.OutputOption = None,
) -> None:
    """Show how a figure of SPEC grows with batch and context: a map of it, and where memory ends.

    A million points take about a second: the formulas of `llmprof count` run on arrays. CSV and JSON have every point
    and every figure; a table has some of them. Attention is fused.
    """
    from llmprof.predict.grid import predict_grid
    from llmprof.report import sweep_tables, tables
    from llmprof.report.write import check_writable, write_text
    from llmprof.workload import NotApplicable

    options.choice(output_format, ("table", "json", "csv", "markdown"), option="--format")
    chosen = cast("GridPhase", options.choice(phase, ("prefill", "decode"), option="--phase"))
    options.choice(quantity, TITLES, option="--quantity")
    asked = options.choice(logits, ("all", "last", "none"), option="--logits")
    memory_bytes = None if memory is None else options.size(memory, option="--memory")
    batches, contexts = _ranges(batch, "--batch"), _ranges(context, "--context")
    if len(batches) * len(contexts) > MOST_POINTS:
        raise InputError(
            f"--batch and --context: {len(batches):,} x {len(contexts):,} points; expected at most {MOST_POINTS:,}: "
            "take steps, as 1..4096:8 or 1..4096:x2"
        )
    dtypes = options.parse_dtypes(dtype, weight_dtype, kv_dtype, group_size)
    check_writable(output)
    archs = options.architectures(spec, variant, all_variants)
    found: list[Swept] = []
    for arch in archs:
        fitting = [each for each in contexts if arch.max_context is None or each <= arch.max_context]
        if not fitting:
            raise InputError(
                f"--context: {arch.label} was made for {arch.max_context:,} positions, and the shortest that is asked "
                f"for is {min(contexts):,}"
            )
        if len(fitting) < len(contexts):
            say(f"{arch.label} was made for {arch.max_context:,} positions: longer contexts are left out")
        head = "none" if arch.head.kind == "none" else asked
        try:
            grid = predict_grid(arch, batches, fitting, phase=chosen, dtypes=dtypes, logits=cast("Logits", head))
        except NotApplicable as reason:
            say(f"not applicable: {reason}")
            continue
        found.append(sweep_tables.Swept(grid=grid, phase=chosen, quantity=quantity, memory_bytes=memory_bytes))
    if not found:
        raise typer.Exit(EXIT_NOT_APPLICABLE)
    if output_format == "csv":
        text = sweep_tables.to_csv(found)
    elif output_format == "json":
        text = tables.to_json({"schema_version": SCHEMA_VERSION, "results": [each.record for each in found]})
    else:
        pages = [page for each in found for page in sweep_tables.pages(each)]
        text = tables.to_markdown(pages) if output_format == "markdown" else tables.to_text(pages, color=bold(output))
    write_text(text, output)


def _ranges(text: str, option: str) -> list[int]:
    """The lengths of a comma list of numbers and ranges, in order and without repeats."""
    found: dict[int, None] = {}
    for part in text.split(","):
        for each in _range(part.strip(), option):
            found[each] = None
            if len(found) > MOST_POINTS:
                raise InputError(f"{option}: more than {MOST_POINTS:,} lengths; take steps, as 1..4096:8 or 1..4096:x2")
    return sorted(found)


def _range(text: str, option: str) -> Iterator[int]:
    """The lengths of ``4096``, ``1..256``, ``8..64:8`` or ``1..4096:x2``."""
    ends, _, by = text.partition(":")
    first, dots, last = ends.partition("..")
    begin = options.length(first, option=option)
    if not dots:
        if by:
            raise InputError(f"{option}: found {text!r}; a step needs a range, as 1..4096:{by}")
        yield begin
        return
    end = options.length(last, option=option)
    if end < begin:
        raise InputError(f"{option}: found {text!r}, which ends before it begins")
    if by.startswith("x"):
        factor = options.length(by[1:], option=option, least=2)
        while begin <= end:
            yield begin
            begin *= factor
        return
    yield from range(begin, end + 1, options.length(by, option=option) if by else 1)
