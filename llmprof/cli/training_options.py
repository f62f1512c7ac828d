"""What asks for a training step, and how it is run: `--phase train`, `--objective`, `--recompute`, `--dropout`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, cast

import typer

from llmprof.cli import options
from llmprof.errors import InputError
from llmprof.workload import PHASES, RECOMPUTE, Recompute

PhaseOption = Annotated[
    str,
    typer.Option(
        "--phase",
        metavar="LIST",
        help="prefill, decode, or both; or train: a training step, under each structure's own objective.",
    ),
]
RecomputeOption = Annotated[
    str | None,
    typer.Option(
        "--recompute",
        metavar="WHAT",
        help="In training: what backward runs again rather than find it saved: none, selective (attention cores) or "
        "full (every layer). Default: none.",
    ),
]
DropoutOption = Annotated[
    str | None,
    typer.Option(
        "--dropout",
        metavar="P",
        help="In training: drop attention probabilities, embeddings and what each block puts out with this "
        "probability. Default: 0.",
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingAsked:
    """The training steps that a command line asks for. `objective` may be ``auto``."""

    objective: str
    recompute: Recompute
    dropout: float


def parse_training(
    phase: str, objective: str | None, recompute: str | None, dropout: str | None
) -> TrainingAsked | None:
    """What is asked of training, or None where passes of inference are meant.

    `--objective` alone means a training step too. InputError naming the option that is wrong or has no effect.
    """
    phases = options.choices(phase, (*PHASES, "train"), option="--phase")
    if "train" in phases and len(phases) > 1:
        raise InputError(
            f"--phase: found {phase!r}; train stands alone, its passes are no others' (prefill and decode go together)"
        )
    if "train" not in phases and objective is None:
        for option, given in (("--recompute", recompute), ("--dropout", dropout)):
            if given is not None:
                raise InputError(
                    f"{option} has no effect: it is of a training step; add --phase train, or leave it out"
                )
        return None
    return TrainingAsked(
        objective="auto" if objective is None else objective,
        recompute=cast(Recompute, options.choice(recompute or "none", RECOMPUTE, option="--recompute")),
        dropout=_probability(dropout),
    )


def phase_beside(phase: str) -> str | None:
    """The phases of inference that `--phase` names: None where it names training."""
    return None if {part.strip() for part in phase.split(",")} == {"train"} else phase


def _probability(text: str | None) -> float:
    """A probability below 1; InputError where it is none."""
    if text is None:
        return 0.0
    try:
        value = float(text) if re.fullmatch(r"[0-9.]{1,12}", text, re.ASCII) else 1.0
    except ValueError:
        value = 1.0
    if value >= 1.0:
        found = text if len(text) <= 64 else f"a text of {len(text):,} characters"
        raise InputError(f"--dropout: found {found!r}; expected a probability of at least 0 and below 1, such as 0.1")
    return value
