"""The entry point: every failure becomes one message on stderr and a documented exit code.

Exit codes: 0 everything holds, 1 a check or confirmation failed, 2 the input is wrong, 3 the device or this
installation cannot do it, 70 a bug of ours, 130 interrupted.

Nothing but the standard library is imported at the top, so that Ctrl-C while the rest loads is caught like any other;
`tree.py` has the commands.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence

EXIT_BUG = 70
EXIT_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line on `arguments`, by default those of the process, and exit."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """The exit code of one run. Messages have been printed; nothing but SystemExit ever leaves."""
    try:
        code = _run(arguments)
        if code == EXIT_INTERRUPTED:
            _say("interrupted")
        return code
    except KeyboardInterrupt:
        _say("interrupted")
        return EXIT_INTERRUPTED


def _run(arguments: Sequence[str] | None) -> int:
    from llmprof.errors import LlmprofError

    try:
        import typer

        from llmprof.cli.tree import tree

        words = sys.argv[1:] if arguments is None else arguments
        command = typer.main.get_command(tree(words[0] if words else None))
        try:
            result = command.main(args=arguments, prog_name="llmprof", standalone_mode=False)
        except typer.Abort:  # what older releases of typer make of Ctrl-C
            return EXIT_INTERRUPTED
        except Exception as error:
            # What is wrong with the words themselves is a UsageError, which typer does not export by its name.
            if not isinstance(error, typer.BadParameter.__mro__[1]):
                raise
            error.show()  # type: ignore[attr-defined]
            return 2
        return result if isinstance(result, int) else 0
    except LlmprofError as error:
        _say(f"error: {error}")
        return error.exit_code
    except BrokenPipeError:
        # The reader of our output has gone (`llmprof .. | head`), and that is no failure of ours.
        _drop_stdout()
        return 0
    except Exception as error:
        if os.environ.get("LLMPROF_DEBUG"):
            raise
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            _drop_stdout()
            _say(f"error: {error.strerror}; the output is not complete")
            return 2
        _say(
            f"error: internal error, please report it: {type(error).__name__}: {error} "
            "(LLMPROF_DEBUG=1 shows the traceback)"
        )
        return EXIT_BUG


def _say(text: str) -> None:
    from llmprof.cli.messages import say

    say(text)


def _drop_stdout() -> None:
    from llmprof.report.write import drop_stdout

    drop_stdout()
