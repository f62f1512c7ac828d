"""The time of one forward pass of a serving engine: its ops one after another, and what starting them costs the host.

Kernels of one pass depend on each other, so that their times add up. What overlaps is the host: a pass that is not
replayed as a CUDA graph takes as long as its kernels or as starting them, whichever is longer.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from llmprof.errors import InputError
from llmprof.latency.compose_attention import Attention, attention_ops
from llmprof.latency.compose_bounds import Kernels, Limit, limit_of
from llmprof.latency.compose_layers import Counted, Lowering, PartName, layer_ops, outer_ops
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
_Stretch = tuple[tuple[Ends, ...], int, Attention | None, int]
"""Of a pass: ops with the same times in all of as many tokens and how many kernels they are, or a kind of attention and
how many layers have it."""


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
        self._frames: dict[tuple[int, int], list[_Stretch]] = {}
        self._attentions: dict[tuple[Attention, int], dict[tuple[int | Chunk, int], Ends]] = {}
        if layout.pipeline > len(arch.main.layers):
            raise InputError(f"{arch.label} has {len(arch.main.layers)} layers: {layout.pipeline} stages are too many")

    def ops(self, asked: Pass) -> tuple[Counted, ...]:
        """Every op of the pass, equal ones of equal layers together; InputError where one has no model."""
        found: list[Counted] = []
        for (op, part), times in self._outline(asked.tokens, asked.logit_rows).items():
            if isinstance(op, Attention):
                for each, equal in Counter(attention_ops(op, asked)).items():
                    found.append(Counted(op=each, times=times * equal, part=part))
            else:
                found.append(Counted(op=op, times=times, part=part))
        return tuple(found)

    def _outline(self, tokens: int, rows: int) -> Counter[tuple[Op | Attention, PartName]]:
        """How often each op runs in a pass of so many tokens and rows of logits, whatever their contexts are."""
        low = Lowering(
            arch=self.arch, m=tokens, rows=rows, layout=self.layout, precision=self.precision, engine=self._engine
        )
        counts: Counter[tuple[Op | Attention, PartName]] = Counter()
        for layer, times in self._layers:
            for each in layer_ops(layer, low):
                if isinstance(each, Counted):
                    counts[each.op, each.part] += each.times * times
                else:
                    counts[each, "attention"] += times
        for one in outer_ops(low):
            counts[one.op, one.part] += one.times
        return counts

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
            floor += each.times * max(floors)
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
        key = (asked.tokens, asked.logit_rows)
        frame = self._frames.get(key)
        if frame is None:
            frame = self._frames[key] = self._frame(*key)
        seconds = low = high = 0.0
        kernels = 0
        for fixed, count, attention, times in frame:
            rows = fixed if attention is None else self._attended(attention, times, asked)
            for row in rows:  # one after another, as `time` adds them up
                seconds += row[0]
                low += row[1]
                high += row[2]
            kernels += count if attention is None else times * (bool(asked.decode_sequences) + len(asked.chunks))
        late, spread = self._host(asked, kernels, seconds)
        return seconds + late, low + late * spread[0], high + late * spread[1]

    def _frame(self, tokens: int, rows: int) -> list[_Stretch]:
        frame: list[_Stretch] = []
        for (op, _), times in self._outline(tokens, rows).items():
            if isinstance(op, Attention):
                frame.append(((), 0, op, times))
                continue
            before, count = ((), 0) if not frame or frame[-1][2] is not None else frame.pop()[:2]
            frame.append(((*before, self._row(op, times)), count + times, None, 0))
        return frame

    def _row(self, op: Op, times: int) -> Ends:
        found = self._time(op)
        return times * found.seconds, times * found.low, times * found.high

    def _attended(self, attention: Attention, times: int, asked: Pass) -> list[Ends]:
        """The rows of one kind of attention, equal chunks as one."""
        known = self._attentions.setdefault((attention, times), {})
        found = []
        if asked.decode_sequences:
            step = (asked.decode_sequences, asked.decode_context)
            row = known.get(step)
            if row is None:
                row = known[step] = self._row(attention.decode(*step), times)
            found.append(row)
        chunks = asked.chunks
        for chunk, equal in ((chunks[0], 1),) if len(chunks) == 1 else Counter(chunks).items():
            row = known.get((chunk, equal))
            if row is None:
                row = known[chunk, equal] = self._row(attention.prefill(chunk), times * equal)
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
