"""`--unfused-reference` and `--grouping`: what unfused means, and whether the leaves around the cores share kernels.

docs/reference-unfused.md.
"""

from __future__ import annotations

from typing import Annotated, cast, get_args

import typer

from llmprof.cli import options
from llmprof.workload import UNFUSED_REFERENCES, Execution, Grouping, UnfusedReference

UnfusedReferenceOption = Annotated[
    str,
    typer.Option(
        "--unfused-reference",
        metavar="NAME",
        help="Whose kernels the unfused cores are: lean-eager, hf-eager (transformers) or sdpa-math (torch).",
    ),
]
GroupingOption = Annotated[
    str,
    typer.Option(
        "--grouping",
        metavar="PLAN",
        help="Leaves around the cores: eager, or compiled, as torch.compile lets them share kernels.",
    ),
]
DEFAULTS = {"unfused_reference": "lean-eager", "grouping": "eager"}


def parse_reference(text: str) -> UnfusedReference:
    """The reference of that name; InputError where there is none."""
    return cast(UnfusedReference, options.choice(text, UNFUSED_REFERENCES, option="--unfused-reference"))


def parse_grouping(text: str) -> Grouping:
    """The grouping of that name; InputError where there is none."""
    return cast(Grouping, options.choice(text, get_args(Grouping), option="--grouping"))


def unfused_execution(reference: str, grouping: str = "eager") -> Execution:
    """The unfused execution that both options mean, on a CUDA device."""
    return Execution(attention="unfused", reference=parse_reference(reference), grouping=parse_grouping(grouping))
