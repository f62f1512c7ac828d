"""`llmprof specs`: the catalogue and the spec language."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, get_args

import typer

from llmprof.cli import options
from llmprof.cli.command import Command, Group
from llmprof.cli.messages import bold, say

if TYPE_CHECKING:
    from llmprof.spec.arch import ArchSpec

app = typer.Typer(
    cls=Group, help="List, show and check specs, and print the language's JSON Schema.", no_args_is_help=True
)

ListFormat = Annotated[str, typer.Option("--format", metavar="FORMAT", help="table, json, csv or markdown.")]


@app.command(name="list", cls=Command)
def list_specs(
    text: Annotated[
        str | None, typer.Argument(metavar="[TEXT]", help="Only those with this in their name or in an alias.")
    ] = None,
    family: Annotated[str | None, typer.Option("--family", help="Only this family, such as llama or t5.")] = None,
    structure: Annotated[str | None, typer.Option("--structure", help="Only this structure, such as encoder.")] = None,
    size: Annotated[
        str | None,
        typer.Option("--size", metavar="RANGE", help="Only this many parameters: 1B..10B, ..7B, 70B.., ends included."),
    ] = None,
    attention: Annotated[
        str | None,
        typer.Option(
            "--attention",
            metavar="NAMES",
            help="Only those with a layer of each of these: mha, gqa, mqa, mla, windowed, recurrent, or a kind of the "
            "language.",
        ),
    ] = None,
    variants: Annotated[bool, typer.Option("--variants", help="Their variants too, each in a row of its own.")] = False,
    output_format: ListFormat = "table",
) -> None:
    """List the specs of the catalogue with their sizes, caches and attention."""
    from llmprof import catalog
    from llmprof.cli import listing
    from llmprof.report import tables
    from llmprof.report.list_table import list_table
    from llmprof.report.write import write_text
    from llmprof.spec.arch import Structure

    options.choice(output_format, ("table", "json", "csv", "markdown"), option="--format")
    filters: list[listing.Filter] = []
    if text is not None:
        filters.append(listing.by_text(text))
    if family is not None:
        options.choice(family, sorted({entry.family for entry in catalog.entries()}), option="--family")
        filters.append(listing.Filter(f"--family {family}", lambda row: row.entry.family == family))
    if structure is not None:
        options.choice(structure, get_args(Structure), option="--structure")
        filters.append(listing.Filter(f"--structure {structure}", lambda row: row.arch.structure == structure))
    if size is not None:
        filters.append(listing.by_size(size))
    if attention is not None:
        filters.append(listing.by_attention(attention))
    found = list(listing.rows(catalog.entries(), variants=variants))
    records = [listing.record(row) for row in listing.narrowed(found, filters)]
    if output_format == "json":
        write_text(tables.to_json({"schema_version": 1, "specs": records}), None)
    elif output_format == "csv":
        write_text(tables.to_csv(records), None)
    elif output_format == "markdown":
        write_text(tables.to_markdown([list_table(records, wide=True)]), None)
    else:
        write_text(tables.to_text([list_table(records, wide=False)], color=bold(None)), None)


@app.command(cls=Command)
def show(
    spec: Annotated[
        str, typer.Argument(metavar="SPEC", help="A name, an alias, a path or -; NAME:VARIANT picks a variant.")
    ],
) -> None:
    """Print one spec as YAML that loads: every default written out, a variant resolved."""
    from llmprof import catalog
    from llmprof.report.write import write_text
    from llmprof.spec.dump import dump

    (arch,) = catalog.resolve([spec], tell=say)
    write_text(dump(arch), None)


@app.command(cls=Command)
def check(
    spec: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SPEC...]", help="Names, paths or -; without any, the whole catalogue."),
    ] = None,
) -> None:
    """Load specs strictly, and hold each published parameter count against ours.

    Exit 2 where a file is wrong, 1 where an exact published figure differs.
    """
    from llmprof import catalog
    from llmprof.errors import InputError
    from llmprof.predict.api import parameters
    from llmprof.predict.released import released
    from llmprof.report.write import write_text

    lines: list[str] = []
    errors = differing = 0
    for name in spec or [entry.name for entry in catalog.entries()]:
        try:
            found = catalog.find(name, tell=say)
            for arch in found.archs():
                released(arch)  # what cannot be packed as it is stated is wrong too
        except InputError as error:
            errors += 1
            say(f"error: {error}")
            continue
        for arch in found.archs():
            verdict, text = _against_published(arch, parameters(arch).total)
            differing += not verdict
            lines.append(f"{arch.label}: {text}\n")
    write_text("".join(lines), None)
    if errors:
        raise typer.Exit(2)
    if differing:
        raise typer.Exit(1)


def _against_published(arch: ArchSpec, total: int) -> tuple[bool, str]:
    """Whether the published figure, if there is an exact one, is ours; and the same in words."""
    published = arch.published
    if published is None or published.params_total is None:
        return True, f"loads; {total:,} parameters; no published figure to hold them against"
    figure = published.params_total
    read = f"{published.source.url}, read {published.source.read}"
    if total == figure:
        return True, f"loads; {total:,} parameters, as published ({read})"
    if published.rounded:
        return True, f"loads; {total:,} parameters; published rounded: {figure:,} ({read})"
    return False, f"DIFFERS: {total:,} parameters; published: {figure:,} ({read})"


@app.command(cls=Command)
def schema() -> None:
    """Print the JSON Schema of the spec language, for editors."""
    from llmprof.report.tables import to_json
    from llmprof.report.write import write_text
    from llmprof.spec.schema import json_schema

    write_text(to_json(json_schema()), None)
