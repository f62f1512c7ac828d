"""`--unfused-reference` and `--grouping`: what unfused means, and whether the leaves around the cores share kernels.

docs/reference-unfused.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, cast, get_args

import typer

from llmprof.cli import options
from llmprof.errors import InputError
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


def refuse_without_peak(grouping: str, asked: Mapping[str, object]) -> None:
    """InputError where an option needs what grouped leaves do not have: lifetimes of tensors."""
    if parse_grouping(grouping) == "eager":
        return
    for name, value in asked.items():
        if value is not None:
            raise InputError(
                f"--{name.replace('_', '-')} needs to know what lives how long, which is not defined for leaves that "
                f"share kernels; leave out --grouping {grouping}"
            )


def refuse_fused(reference: UnfusedReference, attentions: Sequence[str]) -> None:
    """InputError where a reference was asked for and nothing runs unfused."""
    if reference != DEFAULTS["unfused_reference"] and "unfused" not in attentions:
        raise InputError(f"--unfused-reference {reference} has no effect: --attention is {','.join(attentions)}")
