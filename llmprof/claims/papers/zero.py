"""ZeRO's example: the states of 7.5 billion parameters on 64 devices."""

from __future__ import annotations

from llmprof.claims.papers.figure import Figure, Outcome, Study, Tolerance, rounding
from llmprof.claims.papers.shapes import gpt
from llmprof.predict.parameters import parameters
from llmprof.predict.training.sharded import Division, ValueBytes, shard_states, states

VALUES = 7_500_000_000
DEVICES = 64
GB = 10**9
EACH = ValueBytes(weight=2, gradient=2, optimizer=12)
"""Bytes per parameter: 16 bit stored and in gradients; Adam's two moments and a master copy in fp32 (section 3.1)."""

PRINTED: tuple[tuple[str, Division, float, Tolerance], ...] = (
    ("not divided", Division(data=DEVICES), 120, rounding(1)),
    ("stage 1", Division(zero=1, data=DEVICES), 31.4, rounding(0.1)),
    ("stage 2", Division(zero=2, data=DEVICES), 16.6, rounding(0.1)),
    ("stage 3", Division(zero=3, data=DEVICES), 1.9, rounding(0.1)),
)

LAYERS, D_MODEL, HEADS, TOKENS, VOCABULARY = 37, 4096, 32, 1024, 50_257
"""A decoder of GPT-2's kind of about as many parameters: the paper names none."""


def compute() -> Outcome:
    """The stages of figure 1."""
    figures = tuple(
        Figure(
            of=of, printed=printed, ours=shard_states(VALUES, division, EACH).total / GB, unit="GB", tolerance=tolerance
        )
        for of, division, printed, tolerance in PRINTED
    )
    arch = gpt("gpt-7.5b", "zero", layers=LAYERS, d_model=D_MODEL, heads=HEADS, vocab_size=VOCABULARY, tokens=TOKENS)
    real = [states(arch, division, EACH, parameters(arch).by_path) for _, division, _, _ in PRINTED]
    remark = (
        f"The paper's 7.5 billion is no model's count. A decoder of {LAYERS} layers of {D_MODEL:,} has "
        f"{real[0].parameters:,} parameters, and its fullest device keeps "
        f"{', '.join(f'{each.total / GB:.2f}' for each in real)} GB. Activations come on top."
    )
    return Outcome(figures=figures, remarks=(remark,))


STUDY = Study(
    key="zero",
    title="ZeRO, figure 1: states of 7.5 billion parameters on 64 devices",
    subject="training",
    sources=("zero", "zero-copy"),
    assumptions=(
        "2 bytes per parameter stored, 2 in its gradient, 12 in Adam's two moments and a master copy in fp32",
        f"what is divided is divided evenly among {DEVICES} data-parallel devices",
        "no sharded run has confirmed the division here",
    ),
    compute=compute,
)
