"""Faults planted in the closed forms of tiled kernels, and in the simulator: the join must see each of them."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from llmprof.measure.tiles import (
    arrays,
    fa1,
    fa1_backward,
    fa2_backward,
    gradients,
    memory,
    problem,
    row_block,
    split_kv,
)
from llmprof.measure.tiles.paged import PageReader
from llmprof.measure.tiles.problem import Mask, Problem, Tile
from llmprof.predict.tiles import backward, floors, forward, paper, shape, split, table, visits
from tests.faults import planted
from tests.tile_variants import VARIANTS, Case, disagreements, mask


@dataclass(frozen=True)
class Fault:
    """`old` becomes `new` in `function`; `variant` must then differ in `quantity`."""

    function: Callable[..., Any]
    old: str
    new: str
    variant: str
    quantity: str


PREDICTED = [
    Fault(visits.Visits._low.fget, "- (self.mask.before or 0)", "- 0", "FlashAttention 2", "visited_tiles"),  # type: ignore[attr-defined]
    Fault(visits.Visits.key_loads.fget, "missing * ", "0 * ", "FlashAttention 2", "global_loads"),  # type: ignore[attr-defined]
    Fault(visits.Visits.active_rows.fget, "self._reach(1)", "0", "FlashAttention 3", "attention.loads"),  # type: ignore[attr-defined]
    Fault(visits.Visits._first_pages, "return 0", "return 1", "flash-decoding", "attention.loads"),
    Fault(visits.Visits._ends, "self._low_limit - 1", "-1", "FlashAttention 1", "visited_tiles"),
    Fault(floors.ceil_div, "-(-a // b)", "a // b", "FlashAttention 2", "visited_tiles"),
    Fault(forward.on_chip, "tile.readers * tiles", "tiles", "FlashAttention 2", "smem_reads"),
    Fault(table.Tile.footprint, "self.stages * ", "", "FlashAttention 3", "footprint_bytes"),
    Fault(split.packed_shape, "shape.group == 1", "True", "flash-decoding", "executed_flops"),
    Fault(split.split_kv, "(shape.value_dim + 1) * 4", "shape.value_dim * 4", "flash-decoding", "combine.loads"),
    Fault(backward.fa2_backward, "3 * tile.head_dim", "2 * tile.head_dim", "FlashAttention 2 backward", "executed_flops"),
    Fault(backward.summed, "shape.group == 1", "True", "FlashAttention 2 backward", "kernels"),
    Fault(paper.fa1_forward, "heads * visits.row_loads * partial", "0", "FlashAttention 1", "global_stores"),
    Fault(paper.paper_tile, "4 * shape.head_dim", "shape.head_dim", "FlashAttention 1 backward", "visited_tiles"),
    Fault(shape.Shape.seen_keys.fget, "self.queries + before", "self.queries", "FlashAttention 2", "compulsory_bytes"),  # type: ignore[attr-defined]
]  # fmt: skip

SIMULATED = [
    Fault(Mask.visible, "key > position - self.size", "key >= position - self.size", "FlashAttention 2", "visited_tiles"),
    Fault(problem.visits, ".any(dim=3).any(dim=1)", ".all(dim=3).any(dim=1)", "FlashAttention 2", "visited_tiles"),
    Fault(memory.Array.load, "min(stop, self.rows)", "stop", "FlashAttention 2", "global_loads"),
    Fault(memory.Array.store, "min(stop, self.rows)", "stop", "FlashAttention 2 backward", "convert.stores"),
    Fault(arrays.heads, "range(p.heads)", "range(p.kv_heads)", "FlashAttention 2", "executed_flops"),
    Fault(row_block.walk, "keys.read(form.readers)", "keys.read()", "FlashAttention 2", "smem_reads"),
    Fault(row_block._through_shared, "buffer.read()", "None", "FlashAttention 3", "smem_reads"),
    Fault(split_kv.decode, "if own:", "if True:", "flash-decoding", "attention.loads"),
    Fault(split_kv._packed, "p.group > 1", "False", "flash-decoding", "global_loads"),
    Fault(PageReader._load, "if page not in self._known:", "if True:", "flash-decoding", "attention.loads"),
    Fault(fa1.forward, "maximum.store(at, *block, new[1])", "pass", "FlashAttention 1", "global_stores"),
    Fault(fa1_backward.backward, " if rows else (None, None)", "", "FlashAttention 1 backward", "global_loads"),
    Fault(fa2_backward._main, "accumulator.add(at, ", "accumulator.store(at, ", "FlashAttention 2 backward", "main.loads"),
    Fault(gradients.sum_over_groups, "p.group == 1", "True", "FlashAttention 1 backward", "global_loads"),
]  # fmt: skip


def sizes() -> list[Case]:
    """Fifty small attentions of every kind."""
    draw = random.Random(0)
    kinds = ["full", "causal", "window", "both ways", "prefix"]
    return [
        Case(
            problem=Problem(
                batch=draw.choice([1, 2]),
                queries=draw.choice([1, 3, 10, 13, 70]),
                keys=draw.choice([3, 9, 20, 33]),
                heads=draw.choice([2, 4]),
                kv_heads=draw.choice([1, 2]),
                head_dim=(dim := draw.choice([8, 40])),
                value_dim=dim,
                mask=mask(kinds[number % len(kinds)], draw.choice([2, 5, 17])),
            ),
            tile=Tile(*draw.choice([(4, 4), (6, 4), (4, 12)])),
            sram_elements=draw.choice([100, 600]),
            splits=draw.choice([1, 2, 5]),
            page_tokens=draw.choice([None, 3, 8]),
        )
        for number in range(50)
    ]


def check(fault: Fault) -> None:
    with planted(fault.function, fault.old, fault.new):
        found = [line for case in sizes() for line in disagreements(case, [fault.variant])]
    assert any(line.startswith(f"{fault.variant}: {fault.quantity}:") for line in found), found


@pytest.mark.parametrize("variant", VARIANTS)
def test_without_a_fault_nothing_differs(variant: str) -> None:
    assert [line for case in sizes() for line in disagreements(case, [variant])] == []


@pytest.mark.parametrize("fault", PREDICTED, ids=lambda fault: f"{fault.function.__qualname__}: {fault.old.strip()}")
def test_a_fault_in_the_closed_forms_differs(fault: Fault) -> None:
    check(fault)


@pytest.mark.parametrize("fault", SIMULATED, ids=lambda fault: f"{fault.function.__qualname__}: {fault.old.strip()}")
def test_a_fault_in_the_simulator_differs(fault: Fault) -> None:
    check(fault)
