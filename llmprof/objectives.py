"""Training objectives: what a model reads under each and which positions carry loss (docs/objectives.md, section 1).

Symbols: n tokens of text per sequence, T new tokens, M source tokens, p prefix tokens, m positions with loss.
Torch-free, and shared by both halves: lengths are part of the workload, what they cost is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from llmprof.errors import InputError
from llmprof.spec.arch import ArchSpec
from llmprof.workload import STRUCTURES, Dtypes, Objective, Recompute, Workload, check_workload
from llmprof.workload_rules import UnfitLength


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceLengths:
    """What one sequence of an objective is made of, in tokens."""

    new_tokens: int
    source_tokens: int = 0
    prefix_tokens: int = 0
    loss_tokens: int


def training_workload(
    arch: ArchSpec,
    objective: Objective,
    *,
    text: int,
    batch: int,
    prefix_tokens: int | None,
    dtypes: Dtypes,
    dropout: float = 0.0,
    recompute: Recompute = "none",
) -> Workload:
    """The training pass of `arch` over `batch` sequences of `text` tokens.

    `prefix_tokens` is for prefix-lm alone; None is half of the text there. Raises InputError where the objective does
    not go with the structure, `text` is below 2, the vocabulary has no room for the special tokens, or
    `check_workload` refuses the pass: a model without a head, quantised formats, learned positions that are too few,
    lengths that an attention cannot take, dropout or recomputation that no rule is about.
    """
    if text < 2:
        raise InputError(f"an objective needs at least 2 tokens of text per sequence, but {text} are asked for")
    made = sequence_lengths(objective, text, prefix_tokens)
    workload = Workload(
        phase="train",
        batch=batch,
        new_tokens=made.new_tokens,
        context=made.new_tokens,
        source_tokens=made.source_tokens,
        prefix_tokens=made.prefix_tokens,
        dtypes=dtypes,
        objective=objective,
        loss_tokens=made.loss_tokens,
        dropout=dropout,
        recompute=recompute,
    )
    try:
        check_workload(arch, workload)
    except UnfitLength as refusal:
        if refusal.length == text:
            raise
        raise InputError(f"{refusal}; {_where_from(arch, refusal, objective, text)}") from None
    _check_vocabulary(arch, objective, text)
    return workload


def _where_from(arch: ArchSpec, refusal: UnfitLength, objective: Objective, text: int) -> str:
    """What a length is that nobody has asked for by its number."""
    stack = "encoder" if refusal.stack is arch.encoder else "decoder"
    reader = "model" if arch.encoder is None else stack
    return f"{refusal.length} tokens are what the {reader} reads of a text of {text} tokens under {objective}"


def default_objective(arch: ArchSpec) -> Objective:
    """The objective of a structure: the first that `STRUCTURES` has for it."""
    return next(objective for objective, structure in STRUCTURES.items() if structure == arch.structure)


def sequence_lengths(objective: Objective, text: int, prefix_tokens: int | None = None) -> SequenceLengths:
    """What a sequence of `text` >= 2 tokens becomes under `objective`.

    Raises InputError where `prefix_tokens` is given to another objective than prefix-lm, or exceeds the text.
    """
    if prefix_tokens is not None and objective != "prefix-lm":
        raise InputError(f"prefix tokens are given, but {objective} takes none; prefix-lm alone does")
    noise, spans = noise_tokens(text), noise_spans(text)
    match objective:
        case "causal-lm":
            return SequenceLengths(new_tokens=text, loss_tokens=text)
        case "prefix-lm":
            prefix = text // 2 if prefix_tokens is None else prefix_tokens
            if not 0 <= prefix <= text:
                raise InputError(f"prefix tokens are {prefix}; they must lie between 0 and the text ({text})")
            # The last of the prefix predicts the first token of the output; without a prefix, the first token does.
            return SequenceLengths(new_tokens=text, prefix_tokens=prefix, loss_tokens=text - max(prefix, 1) + 1)
        case "span-corruption":
            target = noise + spans + 1  # a sentinel before each run, an end after the last
            return SequenceLengths(new_tokens=target, source_tokens=text - noise + spans + 1, loss_tokens=target)
        case "blank-infilling":
            return SequenceLengths(
                new_tokens=text + 2 * spans,  # a mask for each run in part A, a start before each in part B
                prefix_tokens=text - noise + spans,
                loss_tokens=noise + spans,
            )
        case "masked-lm":
            return SequenceLengths(new_tokens=text, loss_tokens=noise)
    assert_never(objective)


def noise_tokens(text: int) -> int:
    """How many tokens of `text` >= 2 are taken out or masked: 15%, to the nearest, at least one, never all."""
    return min(max((3 * text + 10) // 20, 1), text - 1)


def noise_spans(text: int) -> int:
    """In how many runs they are taken out: of three tokens on average, and no two runs side by side."""
    noise = noise_tokens(text)
    return min(max((2 * noise + 3) // 6, 1), text - noise)


def special_tokens(objective: Objective, text: int) -> int:
    """How many of the last tokens of a vocabulary an objective keeps for itself.

    End, start and mask are the last three wherever one of them is used; the sentinels stand before them.
    """
    match objective:
        case "causal-lm" | "prefix-lm":
            return 0
        case "blank-infilling" | "masked-lm":
            return 3
        case "span-corruption":
            return 3 + noise_spans(text)
    assert_never(objective)


def _check_vocabulary(arch: ArchSpec, objective: Objective, text: int) -> None:
    """Raise InputError where no token is left to draw text from; masked-lm also puts another in its place: two."""
    special = special_tokens(objective, text)
    need = special + (2 if objective == "masked-lm" else 1)
    if arch.vocab_size < need:
        raise InputError(
            f"{objective} over {text} tokens keeps {special} special tokens and needs a vocabulary of at least {need}, "
            f"but {arch.label} has {arch.vocab_size}"
        )
