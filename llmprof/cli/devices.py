"""`llmprof devices`: the catalogue of accelerators, and what is in this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, get_args

import typer

from llmprof.cli import options
from llmprof.cli.command import Command, Group
from llmprof.cli.messages import bold

if TYPE_CHECKING:
    from llmprof.device import Device
    from llmprof.report.tables import Table

app = typer.Typer(
    cls=Group, help="List and show the accelerators of the catalogue, and detect those here.", no_args_is_help=True
)

ListFormat = Annotated[str, typer.Option("--format", metavar="FORMAT", help="table, json, csv or markdown.")]
Format = Annotated[str, typer.Option("--format", metavar="FORMAT", help="table, json or markdown.")]


@app.command(name="list", cls=Command)
def list_devices(
    vendor: Annotated[
        str | None, typer.Option("--vendor", help="Only this vendor: nvidia, amd, intel, google or apple.")
    ] = None,
    output_format: ListFormat = "table",
) -> None:
    """List the accelerators of the catalogue with the figures that two places confirm."""
    options.choice(output_format, ("table", "json", "csv", "markdown"), option="--format")
    from llmprof.device import entries
    from llmprof.device_figures import Vendor
    from llmprof.report import tables
    from llmprof.report.device_tables import list_table, record
    from llmprof.report.write import write_text

    if vendor is not None:
        options.choice(vendor, get_args(Vendor), option="--vendor")
    found = [device for device in entries() if vendor in (None, device.vendor)]
    if output_format == "json":
        text = tables.to_json({"schema_version": 1, "devices": [record(device) for device in found]})
    elif output_format == "csv":
        text = tables.to_csv([record(device) for device in found])
    else:
        text = _tables([list_table(found)], output_format)
    write_text(text, None)


@app.command(cls=Command)
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The exact name of a device, or an alias.")],
    output_format: Format = "table",
) -> None:
    """Show one accelerator: every figure, the places that say it, and what is left out and why."""
    options.choice(output_format, ("table", "json", "markdown"), option="--format")
    from llmprof.device import find
    from llmprof.report import tables
    from llmprof.report.device_tables import show_record, show_tables
    from llmprof.report.write import write_text

    device = find(name)
    if output_format == "json":
        text = tables.to_json({"schema_version": 1, **show_record(device)})
    else:
        text = _tables(show_tables(device), output_format)
    write_text(text, None)


@app.command(cls=Command)
def detect(output_format: Format = "table") -> None:
    """Detect the NVIDIA GPUs and the CPU of this machine: what drivers say, beside the catalogue.

    Exit 3 where nothing can be detected.
    """
    options.choice(output_format, ("table", "json", "markdown"), option="--format")
    from llmprof.errors import DeviceError
    from llmprof.measure.present import machine
    from llmprof.report import tables
    from llmprof.report.device_tables import detect_table, record
    from llmprof.report.write import write_text

    here = machine()
    if not here.devices:
        raise DeviceError(f"nothing is detected here: {'; '.join(here.notes)}")
    found = []
    for each in here.devices:
        said = {key: getattr(each, key) for key in ("kind", "name", "says", "fields", "missing")}
        found.append((said, _called(each.called)))
    if output_format == "json":
        devices = [{**said, "device": None if known is None else record(known)} for said, known in found]
        text = tables.to_json({"schema_version": 1, "devices": devices, "notes": list(here.notes)})
    else:
        shown = [detect_table(said, known) for said, known in found]
        text = _tables([*shown, *_remarks(here.notes)], output_format)
    write_text(text, None)


def _called(names: tuple[str, ...]) -> Device | None:
    """The device of the catalogue with the first of these names that it has: exactly, never a part of one."""
    from llmprof.device import called

    return next((device for name in names if (device := called(name)) is not None), None)


def _remarks(notes: tuple[str, ...]) -> list[Table]:
    from llmprof.report.tables import Table

    return [Table(title="", columns=(), rows=(), notes=notes)] if notes else []


def _tables(found: list[Table], output_format: str) -> str:
    from llmprof.report import tables

    return tables.to_markdown(found) if output_format == "markdown" else tables.to_text(found, color=bold(None))
