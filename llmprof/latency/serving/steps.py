"""Times of passes for a simulation: close passes share one, so that thousands of steps need some hundred times."""

from __future__ import annotations

from copy import copy

from llmprof.latency.compose import Chunk, Composer, Ends, Pass, PassTime
from llmprof.latency.serving.simulate import StepTime
from llmprof.sharding_stages import depths

COARSE = 32
"""A length is rounded to a 32nd of the power of two below it: to 3% at most, half of which is off at either side."""


def rounded(value: float) -> int:
    """`value` to the nearest multiple of a 32nd of the power of two below it; small ones to the nearest integer."""
    whole = round(value)
    if whole < 2 * COARSE:
        return max(1, whole)
    unit = (1 << (whole.bit_length() - 1)) // COARSE
    return round(whole / unit) * unit


class _Step:
    """A pass of rounded lengths, with its times once somebody has asked for them."""

    __slots__ = ("asked", "ends", "time")

    def __init__(self, asked: Pass) -> None:
        self.asked = asked
        self.ends: Ends | None = None
        self.time: PassTime | None = None


class Steps:
    """Passes of one composer, each timed once. `pipeline_layers`: of each stage; () is as evenly as can be.

    `slack`: while all stages work, each for a group of sequences, a group's passes begin as often as the deepest stage
    is through with those of all groups: so many times as long apart as a pass takes, were its time spread evenly over
    the layers. 1 where stages have equally many, and where so few groups are under way that none has to wait.
    """

    def __init__(self, composer: Composer, pipeline_layers: tuple[int, ...] = ()) -> None:
        self.composer = composer
        layers, stages = len(composer.arch.main.layers), composer.layout.pipeline
        self.deepest = max(depths(layers, stages, pipeline_layers)) / layers
        self.slack = stages * self.deepest
        self._known: dict[tuple[int, int, tuple[Chunk, ...]], _Step] = {}
        self._asked: dict[tuple[int, int, tuple[Chunk, ...]], _Step] = {}

    def of_groups(self, groups: int) -> Steps:
        """The same passes where so many groups of sequences are under way, no more than there are stages."""
        made = copy(self)
        made.slack = max(1.0, min(groups, self.composer.layout.pipeline) * self.deepest)
        return made

    def time(self, decoding: int, context: float, chunks: tuple[Chunk, ...] = ()) -> PassTime:
        """The pass of `decoding` sequences with `context` tokens each on average, beside `chunks` of prompts."""
        step = self._step(decoding, context, chunks)
        if step.time is None:
            step.time = self.composer.time(step.asked)
        return step.time

    def _step(self, decoding: int, context: float, chunks: tuple[Chunk, ...]) -> _Step:
        asked = (decoding, int(context), chunks)
        found = self._asked.get(asked)
        if found is None:
            found = self._asked[asked] = self._rounded(decoding, context, chunks)
        return found

    def _rounded(self, decoding: int, context: float, chunks: tuple[Chunk, ...]) -> _Step:
        key = (rounded(decoding) if decoding else 0, rounded(context) if decoding else 0, gathered(chunks))
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = _Step(Pass(decode_sequences=key[0], decode_context=key[1], chunks=key[2]))
        return found

    def seconds(self) -> StepTime:
        """As the simulation asks: the times themselves, `slack` included."""
        return self._of(0)

    def low(self) -> StepTime:
        """The low ends of the passes' intervals."""
        return self._of(1)

    def high(self) -> StepTime:
        """The high ends."""
        return self._of(2)

    def _of(self, end: int) -> StepTime:
        find, ends, slack = self._step, self.composer.ends, self.slack

        def step(decoding: int, context: float, chunks: tuple[Chunk, ...]) -> float:
            found = find(decoding, context, chunks)
            if found.ends is None:
                found.ends = ends(found.asked)
            return slack * found.ends[end]

        return step


def gathered(chunks: tuple[Chunk, ...]) -> tuple[Chunk, ...]:
    """Chunks of equal rounded lengths as one entry of several sequences, the order of the queue kept."""
    found: list[Chunk] = []
    last, sequences = (0, 0), 0
    before = None
    for chunk in chunks:
        if chunk is before:
            sequences += chunk.sequences
            continue
        before = chunk
        near = (rounded(chunk.tokens), rounded(chunk.prefix) if chunk.prefix else 0)
        if near == last:
            sequences += chunk.sequences
            continue
        if sequences:
            found.append(Chunk(tokens=last[0], prefix=last[1], sequences=sequences))
        last, sequences = near, chunk.sequences
    if sequences:
        found.append(Chunk(tokens=last[0], prefix=last[1], sequences=sequences))
    return tuple(found)
