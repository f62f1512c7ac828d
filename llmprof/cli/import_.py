"""`llmprof import`: a spec from what the world ships. Torch is never imported."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llmprof.cli import options
from llmprof.cli.messages import say


def import_(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE", help="A Hugging Face config.json or the folder that has it, or a GGUF file; local alone."
        ),
    ],
    name: Annotated[
        str | None, typer.Option("--name", help="What the spec is called. Default: as the file or its folder.")
    ] = None,
    output: options.OutputOption = None,
) -> None:
    """Write the spec that FILE describes, as YAML: comments say what the file does not, and why.

    A field that may decide a shape and is not understood stops it. Nothing is downloaded, and no code of a model is
    run. Every command takes FILE itself where it takes a SPEC.
    """
    from llmprof.errors import InputError
    from llmprof.importing.files import read_file
    from llmprof.report.write import check_writable, write_text

    if not file:
        raise InputError("FILE: found an empty name; expected a config.json, its folder, or a GGUF file")
    check_writable(output)
    if output is not None:
        _refuse_to_overwrite(file, output)
    found = read_file(Path(file), name=_valid(name))
    write_text(found.text, output)
    say(f"{file}: {found.summary}")


def _refuse_to_overwrite(file: str, output: str) -> None:
    """InputError where the spec would take the place of what it is read from."""
    import os

    from llmprof.errors import InputError
    from llmprof.importing import CONFIG

    for source in (file, os.path.join(file, CONFIG)):
        if os.path.isfile(source) and os.path.exists(output) and os.path.samefile(source, output):
            raise InputError(f"--output {output}: this is the file that is read; name another, such as spec.yaml")


def _valid(name: str | None) -> str | None:
    """`name`, if the spec language takes it; InputError otherwise."""
    from llmprof.errors import InputError
    from llmprof.importing.read import slug
    from llmprof.spec.nodes import short

    if name is not None and (not name or slug(name) != name):
        near = slug(name)
        raise InputError(
            f"--name: found {short(name)!r}; expected lower case letters, digits, '.', '_' and '-'"
            + (f", such as {near}" if near else "")
        )
    return name
