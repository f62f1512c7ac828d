"""What is live while a deployment computes: the peaks of the passes that it may meet, on a device of each stage.

The figures are those of the reference execution with fused attention (docs/reference-execution.md, section 3), as the
twin confirms them; what an engine's own kernels hold differs (docs/planning.md). A pass of an engine mixes prompts and
steps of decoding; three passes stand for it, none of which needs less when anything grows:

- `one`: as much of one prompt as a pass takes, behind all of its context;
- `many`: the same number of tokens as a pass takes at most, in pieces of `PIECE` tokens of as many sequences;
- `step`: a token of every sequence.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from llmprof.errors import InputError
from llmprof.lengths import default_source
from llmprof.planning.steps import Steps
from llmprof.predict.api import Prediction, predict
from llmprof.predict.sharding.api import RankTotals, sharded_as
from llmprof.sharding import Sharding, check_sharding
from llmprof.spec.arch import ArchSpec, Compressed, Learned, NoHead, Sinusoidal, Sparse
from llmprof.workload import Dtypes, Execution, Logits, Phase, Workload, check_workload

PIECE = 256
"""Tokens of a sequence in `many`: what depends on the length of a sequence is that of `one`."""

Peaks = tuple[int, ...]
"""Bytes, one figure for each pipeline stage."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """What decides the passes of one replica's device: the sharding of a replica, and the dtypes."""

    sharding: Sharding
    dtypes: Dtypes

    @property
    def alone(self) -> bool:
        """Whether a device has the whole model, so that any architecture will do."""
        s = self.sharding
        return s.ranks == s.data_parallel and s.expert_parallel == 1

    @property
    def stages(self) -> int:
        """How many devices of a replica differ."""
        return self.sharding.pipeline_parallel


class Passes:
    """The passes of `arch`, spread so, of which each computes at most `chunk` tokens; predicted when asked for.

    `source`: the tokens of the source of an encoder-decoder; as many as those of the target where it is None.
    """

    def __init__(self, arch: ArchSpec, spread: Spread, chunk: int, source: int | None) -> None:
        self.arch, self.spread, self.chunk, self.source = arch, spread, chunk, source
        self._one = Steps(self._peaks_of_one)
        self._many = Steps(self._peaks_of_many)
        self._headed = Steps(lambda rows: self._pieces("prefill", rows, "all"))
        self._steps: dict[tuple[int, int], Peaks] = {}
        self._sampling: dict[tuple[int, int], Peaks] = {}
        self._bound: tuple[int, int] | None = None

    # --- the peaks ------------------------------------------------------------------------------

    def peaks(self, sequences: int, tokens: int) -> Peaks:
        """What is live in the layers at most, the head aside, at `tokens` of each of `sequences`."""
        prompt = self._one(tokens)
        packed = self._many(self.rows(sequences, tokens))
        found = tuple(map(max, prompt, packed))
        if self.arch.structure == "encoder":
            return found
        batch = min(sequences, self.chunk)
        if self.within(batch, tokens):
            assert self._bound is not None
            most = self._step(*self._bound)
            if all(step <= other for step, other in zip(most, found, strict=True)):
                return found
        return tuple(map(max, found, self._step(batch, tokens)))

    def bound(self, sequences: int, tokens: int) -> None:
        """Say that nothing beyond `sequences` and `tokens` will be asked for: the largest step may rule out all."""
        self._bound = min(sequences, self.chunk), tokens

    def within(self, batch: int, tokens: int) -> bool:
        """Whether what was said to be the most (`bound`) is at least so much."""
        return self._bound is not None and batch <= self._bound[0] and tokens <= self._bound[1]

    def rows(self, sequences: int, tokens: int) -> int:
        """Tokens of the largest pass: the chunk, or what there is; a whole prompt where prompts cannot be cut."""
        there = sequences * self.longest(tokens)
        return min(there, self.chunk if self.chunked else max(self.chunk, self.longest(tokens)))

    @cached_property
    def chunked(self) -> bool:
        """Whether a prompt may be read in pieces.

        Not where tokens see in both directions, nor where attention groups keys by their place in a whole prompt.
        """
        grouped = any(isinstance(layer.attention, Sparse | Compressed) for layer in self.arch.main.layers)
        return self.arch.structure == "causal-decoder" and not grouped

    def sampled(self, sequences: int) -> int:
        """Rows of logits of the largest pass."""
        return min(sequences, self.chunk)

    def longest(self, tokens: int) -> int:
        """The tokens of a sequence that go through the layers: of its source, where that is longer."""
        return max(tokens, self.source_tokens(tokens))

    def source_tokens(self, tokens: int) -> int:
        """The tokens of the source of a sequence; 0 where it has none."""
        if self.arch.structure != "encoder-decoder":
            return 0
        return default_source(self.arch, tokens) if self.source is None else self.source

    def with_logits(self, sequences: int, tokens: int) -> Peaks:
        """The peaks where the reference's head runs too: on every token of an encoder, elsewhere in a step."""
        if isinstance(self.arch.head, NoHead):
            return (0,) * self.spread.stages
        if self.arch.structure == "encoder":
            return self._headed(self.rows(sequences, tokens))
        key = self.sampled(sequences), tokens
        found = self._sampling.get(key)
        if found is None:
            found = self._sampling[key] = self._peaks("decode", key[0], 1, tokens, logits="last")
        return found

    def headless(self, layers: Peaks) -> bool:
        """Whether the head never needs more than `layers` do, up to what was said to be the most (`bound`)."""
        if self._bound is None or self.arch.structure == "encoder":
            return False
        most = self.with_logits(*self._bound)
        return all(head <= other for head, other in zip(most, layers, strict=True))

    # --- the passes -----------------------------------------------------------------------------

    def _peaks_of_one(self, tokens: int) -> Peaks:
        new = min(self.chunk, tokens) if self.chunked else tokens
        return self._peaks("prefill", 1, self._even(new), max(tokens, self._even(new)))

    def _peaks_of_many(self, rows: int) -> Peaks:
        return self._pieces("prefill", rows, "none")

    def _pieces(self, phase: Phase, rows: int, logits: Logits) -> Peaks:
        piece = self._even(min(PIECE, rows, *self.limits()))
        return self._peaks(phase, -(-rows // piece), piece, piece, logits=logits, source=piece)

    def _step(self, batch: int, tokens: int) -> Peaks:
        found = self._steps.get((batch, tokens))
        if found is None:
            found = self._steps[batch, tokens] = self._peaks("decode", batch, 1, tokens)
        return found

    def _peaks(
        self, phase: Phase, batch: int, new: int, context: int, *, logits: Logits = "none", source: int | None = None
    ) -> Peaks:
        workload = self.workload(phase, batch, new, context, logits=logits, source=source)
        if self.spread.alone:
            return (self.predicted(workload).peak_live_bytes,)
        return tuple(rank.peak_live_bytes for rank in self.ranks(workload))

    def workload(
        self, phase: Phase, batch: int, new: int, context: int, *, logits: Logits = "none", source: int | None = None
    ) -> Workload:
        """A pass of one replica."""
        has_source = self.arch.structure == "encoder-decoder"
        prefix = (context if phase == "prefill" else context - 1) if self.arch.structure == "prefix-decoder" else 0
        return Workload(
            phase=phase,
            batch=batch,
            new_tokens=new,
            context=context,
            source_tokens=(source or self.source_tokens(context)) if has_source else 0,
            prefix_tokens=prefix,
            logits=logits,
            dtypes=self.spread.dtypes,
        )

    def check(self, tokens: int) -> None:
        """Raise InputError where the model cannot take `tokens`, or cannot be spread so."""
        workload = self.at_rest(tokens)
        if self.spread.alone:
            check_workload(self.arch, workload)
        else:
            sharding = self.spread.sharding
            if sharding.sends_tokens and sharding.tensor_parallel > 1:
                # They send different ones with sequence parallelism alone, which a step of decoding has no tokens for.
                raise InputError(
                    f"expert_parallel is {sharding.expert_parallel}, all ranks of {sharding.data_parallel} replicas, "
                    f"but in decode the {sharding.tensor_parallel} of a replica would send the same tokens; use "
                    f"tensor_parallel 1, or let {sharding.tensor_parallel} ranks share the experts"
                )
            check_sharding(self.arch, replace(workload, batch=sharding.data_parallel), self._in_decode(sharding))

    def at_rest(self, tokens: int) -> Workload:
        """A pass after which a sequence keeps what it keeps at `tokens`: the one that makes the fewest."""
        if self.arch.structure == "encoder":
            return self.workload("prefill", 1, tokens, tokens)
        return self.workload("decode", 1, 1, tokens)

    def predicted(self, workload: Workload) -> Prediction:
        """The pass of the whole model, with fused attention."""
        return predict(self.arch, workload, Execution(attention="fused"))

    def ranks(self, workload: Workload) -> tuple[RankTotals, ...]:
        """The same of a replica's devices, one of each stage; `workload` is of one replica."""
        sharding = self.spread.sharding
        if workload.phase == "decode":
            sharding = self._in_decode(sharding)
        whole = replace(workload, batch=workload.batch * sharding.data_parallel)
        return sharded_as(self.arch, whole, sharding).ranks

    @staticmethod
    def _in_decode(sharding: Sharding) -> Sharding:
        """One token has no rows that could be shared (docs/reference-sharding.md)."""
        return replace(sharding, sequence_parallel=False)

    def _even(self, tokens: int) -> int:
        """As many tokens as the ranks that share rows can divide."""
        ranks = self.spread.sharding.tensor_parallel if self.spread.sharding.splits_rows else 1
        return -(-tokens // ranks) * ranks

    def limits(self) -> tuple[int, ...]:
        """How many tokens the stacks have positions for, where they end."""
        found = []
        for stack in self.arch.stacks:
            match stack.embedded_position:
                case Learned(rows=rows) | Sinusoidal(stored_rows=int(rows)):
                    found.append(rows)
        return tuple(found)
