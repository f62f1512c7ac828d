"""Chinchilla's table A4: its own count of training FLOPs against 6 N D."""

from __future__ import annotations

from dataclasses import dataclass

from llmprof.claims.papers.figure import Figure, Outcome, Study, Tolerance
from llmprof.claims.papers.shapes import architecture, by_leaf, training_pass
from llmprof.predict.api import Prediction
from llmprof.predict.parameters import parameters
from llmprof.spec.arch import ArchSpec

TOKENS = 2048
VOCABULARY = 32_000
SOFTMAX = 3
"""FLOPs of a softmax per score (appendix F)."""

WITHIN = Tolerance(size=0.005, why="the rounding of the printed ratio, to two digits")


@dataclass(frozen=True, slots=True)
class Size:
    """A row of tables A4 and A9. `ratio` is printed."""

    name: str
    layers: int
    d_model: int
    d_ff: int
    heads: int
    head_dim: int
    ratio: float

    def architecture(self) -> ArchSpec:
        """The decoder of these sizes, with RMSNorm, no biases and one table of tokens, as Gopher's."""
        return architecture(
            f"chinchilla-{self.name.lower()}",
            "chinchilla",
            vocab_size=VOCABULARY,
            d_model=self.d_model,
            max_context=TOKENS,
            position={"kind": "rope", "theta": 10000},
            layers={
                "count": self.layers,
                "norm": {"kind": "rmsnorm", "placement": "pre"},
                "attention": {
                    "kind": "gqa",
                    "n_heads": self.heads,
                    "n_kv_heads": self.heads,
                    "head_dim": self.head_dim,
                },
                "ffn": {"kind": "gelu", "d_ff": self.d_ff},
            },
        )


SIZES = (
    Size("73M", 10, 640, 2560, 10, 64, 1.03),
    Size("305M", 20, 1024, 4096, 16, 64, 1.10),
    Size("552M", 24, 1280, 5120, 10, 128, 1.08),
    Size("1.1B", 26, 1792, 7168, 14, 128, 1.04),
    Size("1.6B", 28, 2048, 8192, 16, 128, 1.03),
    Size("6.8B", 40, 3584, 14336, 28, 128, 0.99),
)


def ratio(size: Size, *, outside: int = 0) -> float:
    """Training FLOPs of one sequence, counted by kernels, over 6 N D.

    `outside`: how often the product with the table of tokens counts: once for the logits, once more for a look-up
    that is counted as a product.
    """
    arch = size.architecture()
    made = training_pass(arch, TOKENS)
    leaves = by_leaf(made)
    forward = sum(flops for path, flops in leaves.items() if path.startswith("layers.")) + SOFTMAX * _scores(made)
    forward += outside * leaves["lm_head"]
    relative = size.layers * size.d_model * size.d_model
    return 3 * forward / (6 * (parameters(arch).total + relative) * TOKENS)


def _scores(made: Prediction) -> int:
    """Elements that the softmax goes over in the forward pass: the full square."""
    return sum(
        group.count * op.times * op.vector_over.elements
        for group in made.program.groups
        for op in group.ops
        if op.kind == "softmax" and op.vector_over is not None
    )


def compute() -> Outcome:
    """The table's column of ratios."""
    figures = tuple(
        Figure(of=size.name, printed=size.ratio, ours=ratio(size), unit="x 6ND", tolerance=WITHIN) for size in SIZES
    )
    listed = ", ".join(f"{size.name} {ratio(size, outside=2):.2f}" for size in SIZES)
    remark = (
        "Appendix F also lists the logits, and the look-up of tokens as a product of the same size. With both the "
        f"ratios are {listed}: the table was counted without."
    )
    return Outcome(figures=figures, remarks=(remark,))


STUDY = Study(
    key="chinchilla-table-a4",
    title="Chinchilla, table A4: counted training FLOPs against 6 N D",
    subject="training",
    sources=("chinchilla",),
    assumptions=(
        f"sequences of {TOKENS:,} tokens; attention over the full square, {SOFTMAX} FLOPs of softmax per score; "
        "backward twice forward",
        "neither the token table's look-up nor the output matrix is counted as FLOPs",
        f"N has the layers' matrices, a matrix of relative positions per layer (d_model^2, no FLOPs), and "
        f"{VOCABULARY:,} rows of the one token table",
    ),
    compute=compute,
)
