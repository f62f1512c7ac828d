"""What `count` says of its figures beside them: `--by`, `--explain`, `--memory`."""

from __future__ import annotations

from typing import Annotated

import typer

ByOption = Annotated[
    str | None,
    typer.Option("--by", metavar="LEVEL", help="Break the figures down by module, op or layer."),
]
ExplainOption = Annotated[
    bool, typer.Option("--explain", help="Each figure's formula, with the numbers in it and its source.")
]
MemoryOption = Annotated[
    str | None,
    typer.Option("--memory", metavar="SIZE", help="Say whether it fits in, say, 80GiB; exit 1 where fused does not."),
]
