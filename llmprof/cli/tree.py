"""The commands and how they hang together. One file per command; heavy imports happen inside the command."""

from __future__ import annotations

from typing import Annotated

import typer

from llmprof import __version__
from llmprof.cli import check, claims, compare, count, devices, import_, mask, profile, specs, verify
from llmprof.cli.command import Command, Group

app = typer.Typer(
    name="llmprof",
    cls=Group,
    help="Count what an LLM architecture costs, and prove the count by building and running it.",
    epilog="Exit codes: 0 holds, 1 a check failed, 2 wrong input, 3 cannot be done here, 70 a bug, 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command(name="count", cls=Command)(count.count)
app.command(name="profile", cls=Command)(profile.profile)
app.command(name="check", cls=Command)(check.check)
app.command(name="compare", cls=Command)(compare.compare)
app.command(name="import", cls=Command)(import_.import_)
app.command(name="verify", cls=Command)(verify.verify)
app.command(name="mask", cls=Command)(mask.mask)
app.command(name="claims", cls=Command)(claims.claims)
app.add_typer(specs.app, name="specs")
app.add_typer(devices.app, name="devices")


def _print_version(wanted: bool) -> None:
    if wanted:
        from llmprof.report.write import write_text

        write_text(f"llmprof {__version__}\n", None)
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Count what an LLM architecture costs, and prove the count by building and running it."""
