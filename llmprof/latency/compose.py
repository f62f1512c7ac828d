"""The time of one forward pass of a serving engine: its ops one after another, and what starting them costs the host.

Kernels of one pass depend on each other, so that their times add up. What overlaps is the host: a pass that is not
replayed as a CUDA graph takes as long as its kernels or as starting them, whichever is longer.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property

from llmprof.errors import InputError
from llmprof.latency.compose_attention import Attention, attention_ops
from llmprof.latency.compose_bounds import Kernels, Limit, limit_of
from llmprof.latency.compose_layers import Counted, Lowering, PartName, head_ops, layer_ops, of_tokens, outer_ops
from llmprof.latency.compose_pass import Chunk, Layout, Pass, Precision
from llmprof.latency.estimate import Basis, Estimate
from llmprof.latency.op import Launch, Op
from llmprof.spec.arch import ArchSpec, LayerSpec

__all__ = ["Chunk", "Composer", "Layout", "Part", "Pass", "PassTime", "Precision"]

ONE_DEVICE, SIXTEEN_BITS = Layout(), Precision()
MATTERS = 0.25
"""Of a pass: what less of its time rests on decides no label."""
WEAKEST: dict[Basis, int] = {"calibrated": 0, "family": 1, "datasheet": 2}

Ends = tuple[float, float, float]
"""Seconds, and the low and high ends of their interval."""


class _Term:
    """An op of one token or of one row of logits, or a kind of attention; how often it runs; its times so far."""

    __slots__ = ("by_rows", "chunks", "known", "op", "part", "steps", "times")

    def __init__(self, op: Op | Attention, part: PartName, by_rows: bool, times: int) -> None:
        self.op, self.part, self.by_rows, self.times = op, part, by_rows, times
        self.known: dict[int, Ends] = {}
        self.steps: dict[tuple[int, int], Ends] = {}
        self.chunks: dict[tuple[Chunk, int], Ends] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The seconds of a pass that one kind of op takes under one limit."""

    name: PartName
    limit: Limit
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PassTime:
    """`seconds` of one pass. `low` and `high` are sums of the ops' own: as if all missed on the same side.

    `basis` is the weakest of the ops that take a quarter of the time or more together. `floor` is the speed of light of
    its ops one after another: what each takes of compute or of memory at least.
    """

    seconds: float
    low: float
    high: float
    basis: Basis
    floor: float
    parts: tuple[Part, ...]

    @property
    def limits(self) -> dict[Limit, float]:
        """Seconds by what limits them, the longest first."""
        found: dict[Limit, float] = {}
        for part in self.parts:
            found[part.limit] = found.get(part.limit, 0.0) + part.seconds
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    @property
    def binding(self) -> tuple[Limit, float]:
        """What limits most of the time, and its share of it: ``("memory bandwidth", 0.81)``."""
        limit, seconds = next(iter(self.limits.items()))
        return limit, seconds / sum(part.seconds for part in self.parts)


class Composer:
    """Times passes of one architecture on one kind of device. Keeps the times of ops that it has met.

    `kernels` times ops; `graphs` says whether passes of decode alone are replayed as CUDA graphs.
    """

    def __init__(
        self,
        arch: ArchSpec,
        *,
        kernels: Kernels,
        layout: Layout = ONE_DEVICE,
        precision: Precision = SIXTEEN_BITS,
        engine: str | None = None,
        graphs: bool = True,
    ) -> None:
        if arch.structure != "causal-decoder":
            raise InputError(f"{arch.label} is of structure {arch.structure}: times are known of causal decoders")
        self.arch, self.layout, self.precision = arch, layout, precision
        self._engine, self._graphs, self._kernels = engine, graphs, kernels
        self._layers: list[tuple[LayerSpec, int]] = []
        for layers in _alike(arch.main.layers).values():
            self._layers.append((layers[0], len(layers)))
        self._known: dict[Op, Estimate] = {}
        self._launches: dict[tuple[int, bool], Estimate] = {}
        if layout.pipeline > len(arch.main.layers):
            raise InputError(f"{arch.label} has {len(arch.main.layers)} layers: {layout.pipeline} stages are too many")

    def ops(self, asked: Pass) -> tuple[Counted, ...]:
        """Every op of the pass, equal ones of equal layers together; InputError where one has no model."""
        found: list[Counted] = []
        tokens, rows = asked.tokens, asked.logit_rows
        for term in self._terms:
            if isinstance(term.op, Attention):
                for op, equal in Counter(attention_ops(term.op, asked)).items():
                    found.append(Counted(op=op, times=term.times * equal, part=term.part))
            else:
                whole = of_tokens(term.op, rows if term.by_rows else tokens)
                found.append(Counted(op=whole, times=term.times, part=term.part))
        return tuple(found)

    @cached_property
    def _terms(self) -> tuple[_Term, ...]:
        """What every pass runs. InputError where an op has no model."""
        low = Lowering(arch=self.arch, layout=self.layout, precision=self.precision, engine=self._engine)
        counts: Counter[tuple[Op | Attention, PartName, bool]] = Counter()
        for layer, times in self._layers:
            for each in layer_ops(layer, low):
                if isinstance(each, Counted):
                    counts[each.op, each.part, False] += each.times * times
                else:
                    counts[each, "attention", False] += times
        for by_rows, outside in ((False, outer_ops(low)), (True, head_ops(low))):
            for one in outside:
                counts[one.op, one.part, by_rows] += one.times
        return tuple(_Term(*key, times) for key, times in counts.items())

    def time(self, asked: Pass) -> PassTime:
        """How long `asked` takes. InputError for a pass of nothing."""
        if asked.tokens < 1:
            raise InputError("a pass needs at least one token")
        parts: dict[tuple[PartName, Limit], float] = {}
        seconds = low = high = floor = 0.0
        bases: dict[Basis, float] = {}
        counted = self.ops(asked)
        for each in counted:
            found = self._time(each.op)
            seconds += each.times * found.seconds
            low += each.times * found.low
            high += each.times * found.high
            floors = self._kernels.floors(each.op)
            floor += each.times * min(max(floors), found.seconds)  # of figures that may be another device's
            bases[found.basis] = bases.get(found.basis, 0.0) + each.times * found.seconds
            key = (each.part, limit_of(each.op, found.seconds, floors))
            parts[key] = parts.get(key, 0.0) + each.times * found.seconds
        late, spread = self._host(asked, sum(each.times for each in counted), seconds)
        if late:
            parts["host", "host"] = late
        ordered = sorted(parts.items(), key=lambda item: -item[1])
        return PassTime(
            seconds=seconds + late,
            low=low + late * spread[0],
            high=high + late * spread[1],
            basis=_weakest(bases),
            floor=floor,
            parts=tuple(Part(name=name, limit=limit, seconds=part) for (name, limit), part in ordered),
        )

    def ends(self, asked: Pass) -> Ends:
        """`seconds`, `low` and `high` of `time`, to the last bit and in a fraction of its time.

        All but attention is the same in passes of as many tokens, and attention in those of the same sequences.
        """
        if asked.tokens < 1:
            raise InputError("a pass needs at least one token")
        tokens, logits = asked.tokens, asked.logit_rows
        attending = bool(asked.decode_sequences) + len(asked.chunks)
        seconds = low = high = 0.0
        kernels = 0
        for term in self._terms:
            if isinstance(term.op, Attention):
                kernels += term.times * attending
                for row in self._attended(term.op, term, asked):  # one after another, as `time` adds them up
                    seconds += row[0]
                    low += row[1]
                    high += row[2]
                continue
            kernels += term.times
            of = logits if term.by_rows else tokens
            found = term.known.get(of)
            if found is None:
                found = term.known[of] = self._row(of_tokens(term.op, of), term.times)
            seconds += found[0]
            low += found[1]
            high += found[2]
        late, spread = self._host(asked, kernels, seconds)
        return seconds + late, low + late * spread[0], high + late * spread[1]

    def _row(self, op: Op, times: int) -> Ends:
        found = self._kernels.time(op)
        return times * found.seconds, times * found.low, times * found.high

    def _attended(self, attention: Attention, term: _Term, asked: Pass) -> list[Ends]:
        """The rows of one kind of attention, equal chunks as one."""
        found = []
        if asked.decode_sequences:
            step = (asked.decode_sequences, asked.decode_context)
            row = term.steps.get(step)
            if row is None:
                row = term.steps[step] = self._row(attention.decode(*step), term.times)
            found.append(row)
        chunks = asked.chunks
        for key in ((chunks[0], 1),) if len(chunks) == 1 else Counter(chunks).items():
            row = term.chunks.get(key)
            if row is None:
                row = term.chunks[key] = self._row(attention.prefill(key[0]), term.times * key[1])
            found.append(row)
        return found

    def _time(self, op: Op) -> Estimate:
        found = self._known.get(op)
        if found is None:
            found = self._known[op] = self._kernels.time(op)
        return found

    def _host(self, asked: Pass, kernels: int, seconds: float) -> tuple[float, tuple[float, float]]:
        """What starting the kernels adds to their `seconds`, and the factors of its interval.

        A graph is started and then runs; kernels that are started one by one run while the next is started.
        """
        replayed = self._graphs and not asked.chunks
        found = self._launches.get((kernels, replayed))
        if found is None:
            found = self._launches[kernels, replayed] = self._time(Launch(kernels=kernels, graph=replayed))
        late = found.seconds if replayed else max(0.0, found.seconds - seconds)
        return late, (found.low / found.seconds, found.high / found.seconds) if found.seconds else (1.0, 1.0)


def _alike(layers: tuple[LayerSpec, ...]) -> dict[LayerSpec, list[LayerSpec]]:
    """Layers put together that launch the same, whatever their groups are called and whoever borrows from them."""
    found: dict[LayerSpec, list[LayerSpec]] = {}
    for layer in layers:
        found.setdefault(replace(layer, group="", lends_kv=False), []).append(layer)
    return found


def _weakest(bases: dict[Basis, float]) -> Basis:
    """The weakest basis that carries a quarter of the time, with those that are weaker still."""
    carried, whole = 0.0, sum(bases.values())
    for basis in sorted(bases, key=WEAKEST.__getitem__, reverse=True):
        carried += bases[basis]
        if carried >= MATTERS * whole:
            return basis
    raise AssertionError("a pass has ops")
