"""Megatron with sequence parallelism and selective recomputation: utilisation from 22B to 1T parameters."""

from __future__ import annotations

from dataclasses import dataclass

from llmprof.claims.papers.figure import Figure, Outcome, Study, Tolerance
from llmprof.claims.papers.shapes import gpt, matmul_flops, training_pass

TOKENS = 2048
VOCABULARY = 51_200
PEAK_FLOPS_PER_S = 312_000_000_000_000
"""Of one A100 in 16 bit."""

SECONDS_ARE_ROUNDED = 0.005
"""Seconds: half of the last digit of a printed iteration."""


@dataclass(frozen=True, slots=True)
class Run:
    """A row of tables 3 and 5: the model, the run, the seconds of an iteration, and the utilisation in per cent."""

    name: str
    layers: int
    d_model: int
    heads: int
    batch: int
    gpus: int
    seconds: float
    utilisation: float

    def flops(self) -> int:
        """FLOPs of the contractions of an iteration, forward and backward."""
        arch = gpt(
            f"megatron-{self.name.lower()}",
            "megatron-recompute",
            layers=self.layers,
            d_model=self.d_model,
            heads=self.heads,
            vocab_size=VOCABULARY,
            tokens=TOKENS,
        )
        return matmul_flops(training_pass(arch, TOKENS, batch=self.batch))

    def ours(self) -> float:
        """The utilisation, in per cent."""
        return 100 * self.flops() / (self.seconds * self.gpus * PEAK_FLOPS_PER_S)

    def tolerance(self) -> Tolerance:
        """What the rounding of both printed figures allows."""
        size = 0.05 + self.ours() * SECONDS_ARE_ROUNDED / self.seconds
        return Tolerance(size=size, why="the rounding of the printed figure, and of the seconds it is made of")


RUNS = (
    Run("22B", 48, 6144, 64, 4, 8, 1.10, 41.5),
    Run("175B", 96, 12288, 96, 64, 64, 13.75, 51.4),
    Run("530B", 105, 20480, 128, 280, 280, 37.83, 56.0),
    Run("1T", 128, 25600, 160, 512, 512, 71.49, 56.3),
)


def compute() -> Outcome:
    """The column of utilisations."""
    figures = tuple(
        Figure(of=run.name, printed=run.utilisation, ours=run.ours(), unit="%", tolerance=run.tolerance())
        for run in RUNS
    )
    return Outcome(figures=figures)


STUDY = Study(
    key="megatron-utilisation",
    title="Megatron, table 5: utilisation with sequence parallelism and selective recomputation",
    subject="training",
    sources=("megatron-recompute", "megatron-readme"),
    assumptions=(
        f"sequences of {TOKENS:,} tokens, a vocabulary of {VOCABULARY:,}, A100 of {PEAK_FLOPS_PER_S / 1e12:g} TFLOP/s",
        "seconds of an iteration, batch and GPUs as printed; GPT-2's layer with a feed-forward part of 4 d_model",
        "attention over the full square, logits at all positions; what is recomputed does not count",
    ),
    compute=compute,
)
