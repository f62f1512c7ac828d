"""Opening a file of weights and reading its beginning, with an error of ours for whatever goes wrong."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from llmprof.errors import Problem, SpecError
from llmprof.spec.nodes import short
from llmprof.spec.source import whole_file

LFS = b"version https://git-lfs"
"""How the pointer begins that Git LFS leaves in place of a large file (https://git-lfs.com/spec/v1, recalled)."""


@contextmanager
def opened(path: Path, expected: str) -> Iterator[tuple[BinaryIO, int]]:
    """The file and its size in bytes. SpecError where it cannot be read or is no regular file."""
    name = str(path)
    try:
        # Asked before it is opened too: to open a pipe is to wait for somebody who writes to it.
        if not stat.S_ISREG(os.stat(path).st_mode) and not os.path.isdir(path):
            raise whole_file(name, "this is no regular file", expected)
        with open(path, "rb") as stream:
            status = os.fstat(stream.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise whole_file(name, "this is no regular file", expected)
            yield stream, status.st_size
    except IsADirectoryError:
        raise whole_file(name, "this is a directory", expected) from None
    except FileNotFoundError:
        raise whole_file(name, "no such file", expected) from None
    except (OSError, ValueError) as error:
        if isinstance(error, SpecError):
            raise
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise whole_file(name, f"cannot be read: {reason}", expected) from None


def refuse_pointer(first: bytes, name: str, expected: str) -> None:
    """SpecError for a Git LFS pointer, whose first bytes would be read as a length."""
    if LFS.startswith(first) and first:
        raise whole_file(name, "a Git LFS pointer", expected, hint="fetch the file itself with git lfs pull")


def wrong(file: str, where: str, found: str, expected: str, hint: str | None = None) -> SpecError:
    """A SpecError about one tensor or one key of a file."""
    return SpecError(
        [Problem(file=file, line=None, column=None, path=short(where, 200), found=found, expected=expected, hint=hint)]
    )
