"""How FlashAttention-2 and 3 count FLOPs, against the products that the kernels make."""

from __future__ import annotations

from llmprof.claims.papers.figure import EXACT, Figure, Outcome, Study, Tolerance
from llmprof.claims.papers.shapes import causal_core_flops, core_flops, gpt, matmul_flops, training_pass
from llmprof.predict.api import Prediction
from llmprof.predict.parameters import parameters

D_MODEL = 2048
"""The width of the papers' benchmarks, whose heads are of 64 or of 128."""

TOKENS = 16_384
VOCABULARY = 50_257

TRAINED = (("GPT3-1.3B", 24, 2048, 16, 2048), ("GPT3-1.3B", 24, 2048, 16, 8192), ("GPT3-2.7B", 32, 2560, 32, 2048))
"""Table 1: the model, its layers, width and heads, and the tokens of a sequence."""


def compute() -> Outcome:
    """The formulas of both papers, and the counts of kernels beside them."""
    figures: list[Figure] = []
    for head_dim in (64, 128):
        heads = D_MODEL // head_dim
        arch = gpt(
            f"heads-of-{head_dim}",
            "flash-attention-2",
            layers=1,
            d_model=D_MODEL,
            heads=heads,
            vocab_size=VOCABULARY,
            tokens=TOKENS,
        )
        unfused, fused = (training_pass(arch, TOKENS, fused=fused) for fused in (False, True))
        formula = 4 * TOKENS**2 * head_dim * heads
        figures += [
            _flops(f"forward, heads of {head_dim}", formula, core_flops(fused), EXACT),
            _flops(
                f"forward, causal, heads of {head_dim}", formula / 2, causal_core_flops(fused), _diagonal(formula / 2)
            ),
            _flops(f"backward, heads of {head_dim}", 2.5 * formula, _core_backward(fused), EXACT),
            _flops(f"backward, unfused, heads of {head_dim}", 2 * formula, _core_backward(unfused), EXACT),
        ]
    idle = []
    for name, layers, width, heads, tokens in TRAINED:
        arch = gpt(
            name.lower(),
            "flash-attention-2",
            layers=layers,
            d_model=width,
            heads=heads,
            vocab_size=VOCABULARY,
            tokens=tokens,
        )
        matrices = sum(layers * width * width * share for share in (4, 8)) + VOCABULARY * width
        formula = 6 * tokens * matrices + 12 * layers * width * tokens**2
        made = training_pass(arch, tokens)
        figures.append(_flops(f"table 1, {name}, {tokens:,} tokens", formula, matmul_flops(made), EXACT))
        idle.append(f"{name} at {tokens:,} {(parameters(arch).total - matrices) / matrices:.2%}")
    remarks = (
        "The papers' FLOPs are those of dense products, causal ones half of them: ours are the same, but that a causal "
        "mask lets a query see itself: s (s + 1) / 2 pairs. Backward of a fused kernel makes the scores once more, "
        "five products for two; unfused it makes four.",
        "Table 1 says params and not which. Equal are the parameters that multiply: biases, norms and learned "
        f"positions are beside them ({', '.join(idle)}).",
    )
    return Outcome(figures=tuple(figures), remarks=remarks)


def _core_backward(made: Prediction) -> int:
    """What backward takes in the cores: all of it but the linear layers', whose two products are each as forward's."""
    return made.matmul_flops_backward - 2 * (made.cost.matmul_flops - core_flops(made))


def _flops(of: str, formula: float, ours: int, tolerance: Tolerance) -> Figure:
    return Figure(of=of, printed=formula / 1e9, ours=ours / 1e9, unit="GFLOP", tolerance=tolerance)


def _diagonal(formula: float) -> Tolerance:
    return Tolerance(size=formula / 1e9 / TOKENS, why="half the square against s (s + 1) / 2: 1/s more")


STUDY = Study(
    key="flash-attention-flops",
    title="FlashAttention-2 and 3: how FLOPs are counted",
    subject="training",
    sources=("flash-attention-2", "flash-attention-3"),
    assumptions=(
        "the printed side is a formula: 4 s^2 head_dim heads batch forward, half of it causal, 2.5 times it backward; "
        "6 s params + 12 layers d_model s^2 for a training step",
        f"benchmarks at {TOKENS:,} tokens and a width of {D_MODEL:,}; table 1 with GPT-3's sizes and a vocabulary of "
        f"{VOCABULARY:,}",
    ),
    compute=compute,
)
