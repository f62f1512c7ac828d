"""`llmprof specs`: the catalogue and the spec language."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from llmprof.cli import options
from llmprof.cli.command import Command, Group
from llmprof.cli.messages import bold, say

if TYPE_CHECKING:
    from llmprof.report.tables import Table
    from llmprof.spec.arch import ArchSpec

app = typer.Typer(
    cls=Group, help="List, show and check specs, and print the language's JSON Schema.", no_args_is_help=True
)

ListFormat = Annotated[str, typer.Option("--format", metavar="FORMAT", help="table, json, csv or markdown.")]


@app.command(name="list", cls=Command)
def list_specs(
    family: Annotated[str | None, typer.Option("--family", help="Only this family, such as llama or t5.")] = None,
    structure: Annotated[str | None, typer.Option("--structure", help="Only this structure, such as encoder.")] = None,
    output_format: ListFormat = "table",
) -> None:
    """List the specs of the catalogue with their sizes, variants and aliases."""
    from llmprof import catalog
    from llmprof.errors import InputError
    from llmprof.predict.api import parameters
    from llmprof.report import tables
    from llmprof.report.write import write_text
    from llmprof.spec.arch import Structure

    options.choice(output_format, ("table", "json", "csv", "markdown"), option="--format")
    if family is not None:
        options.choice(family, sorted({entry.family for entry in catalog.entries()}), option="--family")
    if structure is not None:
        options.choice(structure, get_args(Structure), option="--structure")
    records: list[dict[str, Any]] = []
    for entry in catalog.entries():
        if family is not None and entry.family != family:
            continue
        spec = entry.load()
        if structure is not None and spec.base.structure != structure:
            continue
        records.append(
            {
                "name": spec.name,
                "family": entry.family,
                "structure": spec.base.structure,
                "n_layers": spec.base.n_layers,
                "params_total": parameters(spec.base).total,
                "variants": list(spec.variants),
                "aliases": list(spec.aliases),
            }
        )
    if not records:
        raise InputError(f"no spec of the family {family} has the structure {structure}")
    if output_format == "json":
        write_text(tables.to_json({"schema_version": 1, "specs": records}), None)
    elif output_format == "csv":
        write_text(tables.to_csv(records), None)
    else:
        table = _table(records, wrap=output_format == "table")
        markdown = output_format == "markdown"
        write_text(tables.to_markdown([table]) if markdown else tables.to_text([table], color=bold(None)), None)


VARIANTS_WIDTH = 44
"""Columns for the names of variants, so that the whole table fits in 120."""


def _table(records: list[dict[str, Any]], *, wrap: bool) -> Table:
    """The list for people; long lists of variants go on in further rows if `wrap`."""
    from llmprof.report.tables import Table
    from llmprof.units import format_exact

    rows: list[tuple[str, ...]] = []
    for r in records:
        names = ", ".join(r["variants"])
        lines = (textwrap.wrap(names, VARIANTS_WIDTH, break_on_hyphens=False) if wrap else [names]) or [""]
        rows.append((r["name"], r["structure"], lines[0], f"{r['n_layers']}", format_exact(r["params_total"])))
        rows += [("", "", line, "", "") for line in lines[1:]]
    return Table(
        title="",
        columns=("name", "structure", "variants", "layers", "parameters"),
        rows=tuple(rows),
        left=3,
        notes=("Layers and parameters are of the base. A variant is NAME:VARIANT; --format json has the aliases too.",),
    )


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

    (arch,) = catalog.resolve([spec])
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
    from llmprof.report.write import write_text

    lines: list[str] = []
    errors = differing = 0
    for name in spec or [entry.name for entry in catalog.entries()]:
        try:
            found = catalog.find(name)
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
