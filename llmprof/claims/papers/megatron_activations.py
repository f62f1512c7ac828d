"""Megatron's table of activation memory: what one layer keeps for its backward, divided and computed again.

Ours comes out of the tensors that a training pass saves, one by one; the table's formulas stand here as what it is held
to.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from llmprof.claims.papers.figure import EXACT, Figure, Line, Outcome, Sheet, Study
from llmprof.claims.papers.shapes import gpt, training_pass
from llmprof.predict.training.saved import SavedTensor
from llmprof.predict.training.sharded import Division, saved_part
from llmprof.spec.arch import ArchSpec
from llmprof.workload import Recompute

DROPOUT = 0.1
STATISTICS = ("mean", "rstd")
"""What LayerNorm keeps of each row beside its input, in fp32."""

LAYER = "layers.0"
OUTSIDE = ("embed_dropout", "final_norm", "lm_head", "loss")


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A row of table 3 (`tensor`: its devices of tensor parallelism), and sequences of 2,048 tokens."""

    name: str
    layers: int
    d_model: int
    heads: int
    tensor: int = 8
    batch: int = 1
    tokens: int = 2048
    vocab_size: int = 51_200


@dataclass(frozen=True, slots=True)
class Technique:
    """A row of table 2. `printed` is its formula of a model's s tokens, b sequences, width h, a heads, t devices."""

    name: str
    tensor: bool
    sequence: bool
    recompute: Recompute
    printed: Callable[[int, int, int, int, int], int]

    def division(self, model: Model) -> Division:
        """How the step is divided."""
        return Division(tensor=model.tensor if self.tensor else 1, sequence=self.sequence)


GPT3 = Model(name="175B", layers=96, d_model=12_288, heads=96)
TECHNIQUES = (
    Technique("no parallelism", False, False, "none", lambda s, b, h, a, t: s * b * (34 * h + 5 * a * s)),
    Technique(
        "tensor parallel", True, False, "none", lambda s, b, h, a, t: s * b * (10 * h + (24 * h + 5 * a * s) // t)
    ),
    Technique(
        "tensor and sequence parallel", True, True, "none", lambda s, b, h, a, t: s * b * (34 * h + 5 * a * s) // t
    ),
    Technique(
        "tensor parallel, selective", True, False, "selective", lambda s, b, h, a, t: s * b * (10 * h + 24 * h // t)
    ),
    Technique(
        "tensor and sequence parallel, selective", True, True, "selective", lambda s, b, h, a, t: 34 * s * b * h // t
    ),
    Technique("full", False, False, "full", lambda s, b, h, a, t: 2 * s * b * h),
)


@cache
def saved(model: Model, recompute: Recompute) -> tuple[SavedTensor, ...]:
    """What a pass keeps, of the first layer and outside of the layers."""
    made = training_pass(_one_layer(model), model.tokens, batch=model.batch, dropout=DROPOUT, recompute=recompute)
    return made.training.saved


def _one_layer(model: Model) -> ArchSpec:
    return gpt(
        f"megatron-{model.name.lower()}",
        "megatron-recompute",
        layers=1,
        d_model=model.d_model,
        heads=model.heads,
        vocab_size=model.vocab_size,
        tokens=model.tokens,
    )


def of_layer(model: Model, technique: Technique) -> int:
    """Bytes that one device keeps of one layer, the statistics of its norms left out."""
    division = technique.division(model)
    return sum(saved_part(each, division) for each in _layer(model, technique.recompute) if not _is_statistic(each))


def statistics_of_layer(model: Model) -> int:
    """Bytes of those statistics, on a device that has all of them."""
    return sum(each.nbytes for each in _layer(model, "none") if _is_statistic(each))


def outside(model: Model) -> int:
    """Bytes that the pass keeps outside of the layers, the norm's statistics and the loss' weight left out."""
    kept = (each for each in saved(model, "none") if each.path in OUTSIDE and each.axes)
    return sum(each.nbytes for each in kept if not _is_statistic(each))


def _layer(model: Model, recompute: Recompute) -> list[SavedTensor]:
    return [each for each in saved(model, recompute) if each.path == LAYER or each.path.startswith(f"{LAYER}.")]


def _is_statistic(each: SavedTensor) -> bool:
    return each.name in STATISTICS


def figures(model: Model) -> tuple[Figure, ...]:
    """The table of one model, and what stands beside its layers."""
    s, b, h, a, t, v = model.tokens, model.batch, model.d_model, model.heads, model.tensor, model.vocab_size
    rows = [(row.name, row.printed(s, b, h, a, t), of_layer(model, row)) for row in TECHNIQUES]
    # Section 4.3: a mask of dropout behind the embedding, the last norm, the output matrix, and logits in fp32.
    rows.append(("outside of the layers, no parallelism", s * b * (h + 2 * h + 2 * h + 4 * v), outside(model)))
    return tuple(
        Figure(of=of, printed=printed / 1e6, ours=ours / 1e6, unit="MB", tolerance=EXACT) for of, printed, ours in rows
    )


def compute() -> Outcome:
    """The table for GPT-3, with the tensors behind its first row."""
    lines = tuple(
        Line(of=each.path.removeprefix(f"{LAYER}."), what=_described(each), value=each.nbytes)
        for each in _layer(GPT3, "none")
    )
    kept, fused = of_layer(GPT3, TECHNIQUES[0]), _fused(GPT3)
    remarks = (
        f"Beside the table each of two norms keeps a mean and a root per row in fp32, {statistics_of_layer(GPT3):,} "
        f"bytes a layer against {kept:,}; sequence parallelism divides them too.",
        f"With a fused kernel a layer keeps {fused / 1e6:,.1f} MB in place of {kept / 1e6:,.1f}: neither scores, nor "
        "probabilities, nor their mask, which selective recomputation makes again.",
    )
    return Outcome(
        figures=figures(GPT3), sheets=(Sheet(title="What one layer keeps", unit="B", lines=lines),), remarks=remarks
    )


def _described(each: SavedTensor) -> str:
    axes = " ".join(f"{name}={size}" for name, size in each.axes.items())
    return f"{each.name} [{axes}], {each.format.name}"


def _fused(model: Model) -> int:
    made = training_pass(_one_layer(model), model.tokens, batch=model.batch, dropout=DROPOUT, fused=True)
    return sum(each.nbytes for each in made.training.saved if each.path.startswith(f"{LAYER}."))


STUDY = Study(
    key="megatron-activations",
    title="Megatron, table 2: what one layer of GPT-3 keeps for backward",
    subject="training",
    sources=("megatron-recompute",),
    assumptions=(
        f"16 bit, one sequence of {GPT3.tokens:,} tokens, unfused attention, dropout of probabilities and behind both "
        f"blocks; {GPT3.tensor} devices",
        "the printed side is the table's formula; ours is the sum of the tensors that a pass saves, statistics of "
        "norms left out and named",
        "no sharded run has confirmed the division here; what one device saves is confirmed by autograd's own hooks",
    ),
    compute=compute,
)
