"""One architecture at very many batches and contexts at once: the lowerings of a single pass, run on arrays.

A grid is cut into blocks, and a block where its points would be lowered differently (`sizes.Undecided`): at a batch of
one, where a window is full, where another kernel becomes the busiest. Every part is then one call of `predict`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from llmprof.errors import InputError
from llmprof.predict.api import Prediction, predict
from llmprof.predict.sizes import Mask, Sizes, Undecided, Values
from llmprof.spec.arch import ArchSpec
from llmprof.workload import Dtypes, Execution, Logits, Workload, check_workload

GridPhase = Literal["prefill", "decode"]

BLOCK = 1 << 17
"""Points that are predicted at once: far more would leave a processor's cache, fewer are not worth a lowering."""

PARTS = 5_000
"""More parts than this are refused: a grid of which every point is lowered by itself is no grid."""

FIGURES = (
    "weight_bytes",
    "kv_cache_bytes",
    "recurrent_state_bytes",
    "peak_live_bytes",
    "matmul_flops",
    "matmul_flops_causal",
    "vector_flops",
    "hbm_bytes",
)


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """Figures of a pass at every batch (rows) and context (columns), as float64 of relative error 1e-12 at most.

    `parts` is how many different lowerings they took. Never used where something is confirmed: that takes integers.
    """

    arch: ArchSpec
    batches: tuple[int, ...]
    contexts: tuple[int, ...]
    figures: Mapping[str, Values]
    parts: int

    @property
    def total_bytes(self) -> Values:
        """Weights, what is kept between tokens, and the peak of what lives in the pass."""
        kept = self.figures["kv_cache_bytes"] + self.figures["recurrent_state_bytes"]
        return self.figures["weight_bytes"] + kept + self.figures["peak_live_bytes"]


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """Some points: their indices among the batches and the contexts, which broadcast to where the results belong."""

    rows: NDArray[np.intp]
    columns: NDArray[np.intp]

    def split(self, answers: Mask | Values) -> Iterator[_Part]:
        """The points of equal answers, for each of these."""
        different = np.unique(answers)
        for answer in different[: PARTS + 1]:  # the caller refuses as many
            chosen = answers == answer
            if chosen.ndim == 1:
                yield _Part(self.rows[chosen], self.columns[chosen])
            elif chosen.shape[1] == 1:
                yield _Part(self.rows[chosen[:, 0]], self.columns)
            elif chosen.shape[0] == 1:
                yield _Part(self.rows, self.columns[:, chosen[0]])
            else:
                row, column = np.nonzero(chosen)
                yield _Part(self.rows[row, 0], self.columns[0, column])


def predict_grid(
    arch: ArchSpec,
    batches: Sequence[int],
    contexts: Sequence[int],
    *,
    phase: GridPhase,
    dtypes: Dtypes | None = None,
    logits: Logits = "last",
    execution: Execution | None = None,
) -> Grid:
    """Predict decode at every batch and context, or prefill of whole prompts of every length in `contexts`.

    InputError: no lengths, one that the architecture cannot run (the message of `check_workload`), an encoder-decoder,
    whose source has a length of its own, or a grid that falls into too many parts, as balanced experts make it in a
    prefill. NotApplicable: the architecture has no such phase.
    """
    if arch.encoder is not None:
        raise InputError(f"{arch.label} is an encoder-decoder: a grid of batches and contexts leaves its source open")
    chosen = execution or Execution(attention="fused")
    asked = _Asked(arch, phase, dtypes or Dtypes(), logits, chosen)
    for batch in batches:
        asked.check(batch, min(contexts, default=1))
    for context in contexts:
        asked.check(min(batches, default=1), context)
    if not batches or not contexts:
        raise InputError("a grid needs at least one batch and one context")
    shape = (len(batches), len(contexts))
    found = {name: np.empty(shape) for name in FIGURES}
    at_batch, at_context = np.array(batches, dtype=np.float64), np.array(contexts, dtype=np.float64)
    waiting = list(_blocks(*shape))
    parts = 0
    while waiting:
        part = waiting.pop()
        try:
            made = asked.predict(Sizes(at_batch[part.rows]), Sizes(at_context[part.columns]))
            figures = {name: _figure(made, name) for name in FIGURES}
        except Undecided as undecided:
            waiting += part.split(undecided.answers)
            if parts + len(waiting) > PARTS:
                raise InputError(
                    f"{arch.label} in {phase}: the grid of {len(batches):,} x {len(contexts):,} points falls into more "
                    f"than {PARTS:,} parts that run different kernels; ask for fewer points"
                ) from None
            continue
        parts += 1
        for name, value in figures.items():
            found[name][part.rows, part.columns] = value
    return Grid(arch, tuple(batches), tuple(contexts), found, parts)


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    arch: ArchSpec
    phase: GridPhase
    dtypes: Dtypes
    logits: Logits
    execution: Execution

    def workload(self, batch: int, context: int) -> Workload:
        new_tokens = 1 if self.phase == "decode" else context
        return Workload(
            phase=self.phase,
            batch=batch,
            new_tokens=new_tokens,
            context=context,
            logits=self.logits,
            dtypes=self.dtypes,
        )

    def check(self, batch: int, context: int) -> None:
        check_workload(self.arch, self.workload(batch, context))

    def predict(self, batch: Sizes, context: Sizes) -> Prediction:
        return predict(self.arch, self.workload(cast(int, batch), cast(int, context)), self.execution)


def _blocks(rows: int, columns: int) -> Iterator[_Part]:
    """The grid in blocks of so many points: whole rows where they fit, as the batch decides more often."""
    across = min(columns, BLOCK)
    down = max(1, BLOCK // across)
    for top in range(0, rows, down):
        for left in range(0, columns, across):
            yield _Part(
                np.arange(top, min(top + down, rows))[:, None], np.arange(left, min(left + across, columns))[None, :]
            )


def _figure(made: Prediction, name: str) -> Any:
    value = getattr(made.cost, {"matmul_flops_causal": "causal_flops"}.get(name, name), None)
    value = getattr(made, name) if value is None else value
    return value.values if isinstance(value, Sizes) else float(value)
