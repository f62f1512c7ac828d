"""Put a finished text or image where the user wants it: stdout, or a file that is either old or complete."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

from llmprof.errors import InputError

_ASCII = str.maketrans({"\u2500": "-", "\u00d7": "x", "\u2026": "...", "\u2588": "#", "\u2592": "-", "\u2591": "."})
"""Stand-ins for the characters of our own that an old encoding may lack."""


def check_writable(output: str | None) -> None:
    """Refuse an output path that cannot work before any long work starts. Raises InputError."""
    if output is None:
        return
    path = _target(output)
    try:
        if path.is_dir():
            raise InputError(f"--output {output}: this is a directory; name a file in it")
        if not path.parent.is_dir():
            raise InputError(f"--output {output}: there is no directory {path.parent}")
        writable = os.access(path.parent, os.W_OK) and (not path.exists() or os.access(path, os.W_OK))
    except OSError as error:  # a name that is too long, a parent that may not be searched
        raise InputError(f"--output {output}: {error.strerror}; choose another place") from error
    if not writable:
        raise InputError(f"--output {output}: not writable; choose another place")


def _target(output: str) -> Path:
    """The file that is meant, symbolic links followed."""
    if not output:
        raise InputError("--output: found an empty name; name a file, or leave the option out for stdout")
    try:
        return Path(output).resolve()
    except (OSError, RuntimeError) as error:  # links in a circle are a RuntimeError before Python 3.13
        raise InputError(f"--output {output}: {getattr(error, 'strerror', None) or error}") from error


def drop_stdout() -> None:
    """Send what stdout still holds to nowhere: nobody can take it, and the interpreter would complain at exit."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, sys.stdout.fileno())
        finally:
            os.close(nowhere)


def encodable(text: str, encoding: str | None) -> str:
    """`text` as an output of this encoding can hold it: rules become hyphens, and anything else an escape."""
    name = encoding or "ascii"
    try:
        text.encode(name)
    except UnicodeEncodeError:
        return text.translate(_ASCII).encode(name, "backslashreplace").decode(name)
    return text


def _write_stdout(text: str) -> None:
    if sys.stdout is None or sys.stdout.closed:
        raise InputError("stdout is closed; open it, or name a file with --output")
    try:
        sys.stdout.write(encodable(text, sys.stdout.encoding))
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has gone (`llmprof .. | head`). That is its business: the exit code stays that of the work.
        drop_stdout()
    except OSError as error:
        drop_stdout()
        raise InputError(f"stdout: {error.strerror}; the result could not be written") from error


def _replace(path: Path, data: bytes) -> None:
    """Write next to `path` and move into place, so that a reader sees the old file or the whole new one."""
    import tempfile  # it brings random and hashlib along, which a table on stdout need not wait for

    temporary = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".llmprof-", suffix=".part", delete=False) as file:
            temporary = file.name
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            os.chmod(temporary, path.stat().st_mode & 0o7777)
        else:
            umask = os.umask(0)
            os.umask(umask)
            os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException:  # Ctrl-C too: no half-written file stays behind
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        raise


def _put(path: Path, data: bytes) -> None:
    """Write a file atomically; a device or pipe is written through."""
    if path.exists() and not path.is_file() and not path.is_dir():
        with path.open("wb") as file:
            file.write(data)
    else:
        _replace(path, data)


def write_bytes(data: bytes, output: str) -> None:
    """Write an image to `output` atomically; a device or pipe is written through. InputError where that fails."""
    try:
        _put(_target(output), data)
    except OSError as error:
        raise InputError(f"--output {output}: {error.strerror}; nothing was written") from error


def write_text(text: str, output: str | None) -> None:
    """Write `text` to stdout, or to `output` atomically; a device or pipe is written through.

    Raises InputError where `output` cannot be written; the text then goes to stdout, so that no work is lost.
    """
    if output is None:
        _write_stdout(text)
        return
    path = _target(output)
    try:
        _put(path, text.encode("utf-8"))
    except OSError as error:
        _write_stdout(text)
        raise InputError(f"--output {output}: {error.strerror}; the result went to stdout instead") from error
