"""PaLM: parameters of its three sizes, and the model FLOPs utilisation of its training."""

from __future__ import annotations

from llmprof.claims.papers.figure import Figure, Outcome, Study, Tolerance, rounding
from llmprof.claims.papers.shapes import core_flops, matmul_flops, training_pass
from llmprof.claims.specs import attention, shipped
from llmprof.predict.parameters import parameters

PARAMETERS = {"palm-8b": 8.63, "palm-62b": 62.50, "palm-540b": 540.35}
"""Billions, as table 1 prints them."""

LAST_DIGIT = Tolerance(size=0.01, why="one unit of the last digit: the sizes of 540B make 540.356, printed as 540.35")

TOKENS = 2048
TOKENS_PER_S = 238_300
CHIPS = 6144
PEAK_FLOPS_PER_S = 275_000_000_000_000
"""Of one TPU v4 in bf16."""

WITHOUT_ATTENTION, WITH_ATTENTION = 45.7, 46.2
"""Per cent, as printed."""


def compute() -> Outcome:
    """Parameters from the specs; utilisation from the kernels of a training pass at the printed throughput."""
    figures = [
        Figure(
            of=f"{name}, parameters",
            printed=printed,
            ours=parameters(shipped(name)).total / 1e9,
            unit="billion",
            tolerance=LAST_DIGIT,
        )
        for name, printed in PARAMETERS.items()
    ]
    largest = shipped("palm-540b")
    heads = attention(largest)
    made = training_pass(largest, TOKENS)
    whole, core = matmul_flops(made), 3 * core_flops(made)
    for of, flops, printed in (
        ("utilisation without attention", whole - core, WITHOUT_ATTENTION),
        ("utilisation with attention", whole, WITH_ATTENTION),
    ):
        ours = 100 * flops / TOKENS * TOKENS_PER_S / (CHIPS * PEAK_FLOPS_PER_S)
        figures.append(Figure(of=of, printed=printed, ours=ours, unit="%", tolerance=rounding(0.1)))
    formula = 6 * parameters(largest).total
    formula += 12 * len(largest.main.layers) * heads.n_heads * heads.head_dim * TOKENS
    remark = (
        f"The paper's 6 N + 12 L H Q T per token is {formula:,}; kernels count "
        f"{whole // TOKENS:,}: the same but for the parameters of norms, which multiply no matrix."
    )
    return Outcome(figures=tuple(figures), remarks=(remark,))


STUDY = Study(
    key="palm",
    title="PaLM: parameters, and utilisation in training",
    subject="training",
    sources=("palm",),
    assumptions=(
        f"{TOKENS_PER_S:,} tokens per second on {CHIPS:,} chips of {PEAK_FLOPS_PER_S / 1e12:g} TFLOP/s, sequences of "
        f"{TOKENS:,}",
        "attention over the full square; backward twice forward; recomputation is not counted",
        "the output matrix is the token table, so that a pass multiplies every matrix once",
    ),
    compute=compute,
)
