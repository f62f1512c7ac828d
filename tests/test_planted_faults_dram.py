"""Faults planted in the reuse distances, and in the simulated cache: the join of what reaches memory must see each."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Literal

import pytest

from llmprof import catalog
from llmprof.measure import accesses as measured_accesses
from llmprof.measure import lru, lru_tiles
from llmprof.measure.tiles.problem import Tile
from llmprof.predict import cache as predicted_cache
from llmprof.predict import device_core, objects, reuse
from llmprof.spec.slice import slice_arch, smallest_slice
from llmprof.workload import Execution, Phase
from tests.confirming import workload
from tests.faults import planted
from tests.memory_levels import levels
from tests.planting import forget
from tests.rereading import both, problem


@dataclass(frozen=True)
class Fault:
    """`old` becomes `new` in `function`; a path that ends in `path` must then differ, below a cache of `capacity`."""

    function: Callable[..., Any]
    old: str
    new: str
    path: str
    spec: str = "gpt2"
    phase: Phase = "prefill"
    capacity: int | None = 20_000
    attention: Literal["fused", "unfused"] = "unfused"
    tokens: int = 16
    batch: int = 1


PREDICTED = [
    Fault(reuse.Read.moved, "self.distance > capacity", "self.distance > 2 * capacity", "attn.core", capacity=50_000),
    Fault(reuse._written_back, "min(stored.size, dirty)", "stored.size", "attn.core", "rwkv-4-169m"),
    Fault(reuse._Distances._kernel, "track.behind + track.size", "track.size", "attn.core", capacity=100_000),
    Fault(objects.Objects._part, "tensor.nbytes < whole", "False", "ffn.experts", "olmoe-1b-7b", capacity=None),
    Fault(objects.Objects.of, "if kind.cached", "if False", "attn.core", phase="decode", capacity=None),
    Fault(predicted_cache._parts, "slots - first % slots", "slots", "attn.cache", "mistral-7b-v0.1", tokens=5_000, attention="fused",
          capacity=20_000_000),
]  # fmt: skip

SIMULATED = [
    Fault(lru.LruCache._touch, "self._held.move_to_end(touch.key)", "pass", "attn.core", "rwkv-4-169m", capacity=100_000),
    Fault(lru.LruCache._touch, "held.dirty + written", "written", "attn.core", "rwkv-4-169m"),
    Fault(lru.LruCache.forget, "held is not None", "False", "attn.core", capacity=100_000),
    Fault(lru.LruCache.close, "held is not None", "False", "lm_head", capacity=None),
    Fault(lru.LruObserver._settled, "if touch.key in self._kv:", "if False:", "attn.core", phase="decode", capacity=None),
    Fault(lru.LruObserver._settled, "fetched=touch.size", "fetched=touch.read", "attn.core", "rwkv-4-169m", phase="decode", capacity=None),
    Fault(lru.LruObserver._touch, "part != size", "False", "ffn.experts", "olmoe-1b-7b", capacity=None),
    Fault(measured_accesses._accesses, "yield Access(target, moved, moved)", "yield Access(target, 2 * moved, 0)", "ffn.experts",
          "olmoe-1b-7b", capacity=300_000),
]  # fmt: skip


def found(fault: Fault) -> list[str]:
    """What the halves say differently, on the smallest slice of the spec."""
    (arch,) = catalog.resolve([fault.spec])
    small = slice_arch(arch, smallest_slice(arch)).arch
    work = workload(small, fault.phase, tokens=fault.tokens, batch=fault.batch)
    forget()
    return levels(small, work, Execution(attention=fault.attention), (fault.capacity,)).differences()


def check(fault: Fault) -> None:
    assert found(fault) == []
    with ExitStack() as pieces:
        pieces.enter_context(planted(fault.function, fault.old, fault.new))
        spoiled = found(fault)
    forget()
    assert any(line.partition(" ")[0].endswith(fault.path) for line in spoiled), spoiled


def name(fault: Fault) -> str:
    return f"{fault.function.__qualname__}: {fault.old}"


@pytest.mark.parametrize("fault", PREDICTED, ids=name)
def test_a_fault_in_the_reuse_distances_differs(fault: Fault) -> None:
    check(fault)


@pytest.mark.parametrize("fault", SIMULATED, ids=name)
def test_a_fault_in_the_simulated_cache_differs(fault: Fault) -> None:
    check(fault)


@pytest.mark.parametrize(
    ("function", "old", "new"),
    [
        (device_core._gone, "heads[1] * start", "heads[0] * start"),
        (device_core.reread, "if border % in_a_row", "if True"),
        (device_core.reread, "cycles + (number <= more)", "cycles + 1"),
        (lru_tiles._waves, "start + in_flight", "start + 1"),
        (lru_tiles.loaded_bytes, "for head in heads", "for head in heads[:1]"),
    ],
)
def test_a_fault_in_what_is_read_again_differs(function: Callable[..., Any], old: str, new: str) -> None:
    p = problem(queries=32, keys=12, kv_heads=3)
    cases = [(in_flight, 128 * tiles) for in_flight in (4, 6, 8, 12) for tiles in range(8)]
    assert all(len(set(both(p, Tile(4, 4), *case))) == 1 for case in cases)
    with planted(function, old, new):
        assert any(len(set(both(p, Tile(4, 4), *case))) == 2 for case in cases)
