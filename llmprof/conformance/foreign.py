"""A user's own code: imported and called only on demand, its failures told by their place and without a traceback."""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import sys
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from llmprof.errors import InputError

T = TypeVar("T")
_OURS = str(Path(__file__).resolve().parent.parent)
_WRITTEN = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*", re.ASCII)


def load(text: str) -> Callable[[], object]:
    """The factory that ``package.module:factory`` names; modules below the working directory are found too.

    Its code runs: this is for a caller who was allowed to. Raises InputError where there is no such thing.
    """
    if not _WRITTEN.fullmatch(text):
        raise InputError(f"--module: found {text!r}; expected package.module:factory, such as my_models.small:build")
    module_name, _, attribute = text.partition(":")
    with _working_directory_importable():
        module = guarded(f"--module {text}: importing {module_name}", lambda: importlib.import_module(module_name))
    found: object = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            near = get_close_matches(part, [name for name in dir(found) if not name.startswith("_")], n=1)
            guess = f"; did you mean {near[0]}?" if near else ""
            raise InputError(f"--module {text}: {module_name} has no {attribute}{guess}")
        found = getattr(found, part)
    if not callable(found):
        raise InputError(
            f"--module {text}: {attribute} is of type {type(found).__name__}; expected a function or class that takes "
            "no arguments and makes an nn.Module"
        )
    factory: Callable[[], object] = found
    return factory


def guarded(doing: str, call: Callable[[], T]) -> T:
    """What `call` returns. What it prints goes to stderr. InputError with its type, text and place where it raises."""
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return call()
    except (Exception, SystemExit) as error:
        raise InputError(f"{doing}: {described(error)}") from error


def described(error: BaseException) -> str:
    """The type and the text of an exception, and the last line of the user's own code that it came through."""
    lines = str(error).strip().splitlines() or [""]
    text = f"{type(error).__name__}: {lines[0]}" if lines[0] else type(error).__name__
    place = _place(error.__traceback__)
    return f"{text} ({place})" if place else text


def _place(trace: TracebackType | None) -> str:
    """``file:line`` of the innermost frame that is neither ours nor of an installed package."""
    found = ""
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if not file.startswith(("<", _OURS)) and "site-packages" not in file and not _is_standard(file):
            found = f"{_shown(file)}:{trace.tb_lineno}"
        trace = trace.tb_next
    return found


def _is_standard(file: str) -> bool:
    return file.startswith(os.path.dirname(os.__file__))


def _shown(file: str) -> str:
    """A file below the working directory by its path from there."""
    try:
        return str(Path(file).relative_to(Path.cwd()))
    except ValueError:
        return file


@contextlib.contextmanager
def _working_directory_importable() -> Iterator[None]:
    """As ``python -m`` has it. The path stays, for what the factory imports later."""
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    yield
