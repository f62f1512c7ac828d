"""The commands and how they hang together. One file per command; heavy imports happen inside the command.

A command line names one command, and what the others need would be half of what it takes to start: so only that one is
imported, and all of them where a name has to be looked for or listed.
"""

from __future__ import annotations

from importlib import import_module
from typing import Annotated, Any

import typer

from llmprof import __version__
from llmprof.cli.command import Command, Group

NAMES = (
    "count",
    "profile",
    "check",
    "plan",
    "sweep",
    "compare",
    "import",
    "verify",
    "mask",
    "claims",
    "calibrate",
)

COMMANDS = {name: f"{name}_" if name == "import" else name for name in NAMES}
"""Command -> its file, in which a function has the file's name."""

EXIT_CODES = "Exit codes: 0 holds, 1 a check failed, 2 wrong input, 3 cannot be done here, 70 a bug, 130 interrupted."

GROUPS = ("specs", "devices")
"""Commands with commands of their own; each file has them in an `app`."""


def tree(word: str | None) -> typer.Typer:
    """The command line with the command `word` alone, or with all commands where it is none of them."""
    app = typer.Typer(
        name="llmprof",
        cls=Group,
        help="Count what an LLM architecture costs, and prove the count by building and running it.",
        epilog=EXIT_CODES,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback()(root)
    one = word in COMMANDS or word in GROUPS
    for name, file in COMMANDS.items():
        if name == word or not one:
            app.command(name=name, cls=Command)(getattr(_file(file), file))
    for name in GROUPS:
        if name == word or not one:
            app.add_typer(_file(name).app, name=name)
    return app


def _file(name: str) -> Any:
    return import_module(f"llmprof.cli.{name}")


def _print_version(wanted: bool) -> None:
    if wanted:
        from llmprof.report.write import write_text

        write_text(f"llmprof {__version__}\n", None)
        raise typer.Exit


def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Count what an LLM architecture costs, and prove the count by building and running it."""
