"""What the program says about its work: on stderr, never on stdout, which is for data."""

from __future__ import annotations

import contextlib
import os
import sys

from llmprof.report.tables import printable

_silent = False


def be_silent(silent: bool = True) -> None:
    """Say nothing from now on: this process is one of several that would all say the same."""
    global _silent
    _silent = silent


def say(text: str) -> None:
    """One message on stderr; control characters, which a file name or an exception's text may hold, are escaped."""
    if _silent or sys.stderr is None:  # closed by the caller; print() would fall back to stdout
        return
    lines = "\n".join(printable(line) for line in text.split("\n"))
    with contextlib.suppress(OSError, ValueError):  # nobody listens, but the exit code still tells
        print(f"llmprof: {lines}", file=sys.stderr, flush=True)


def progress(text: str) -> None:
    """A line about work that takes long, for somebody who watches."""
    if sys.stderr is not None and sys.stderr.isatty():
        say(f"{text} ..")


def bold(output: str | None) -> bool:
    """Whether headings may be bold: on a terminal that wants it (https://no-color.org)."""
    if output is not None or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return sys.stdout is not None and sys.stdout.isatty()
