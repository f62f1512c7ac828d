"""Over random shapes, the closed forms of the tiled kernels equal the simulator that walks the tiles, and it is right.

The simulator finds out which tiles a mask leaves by looking at every entry; the closed forms never look at one.
LLMPROF_EVERY=1 tries twenty times as many shapes.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from llmprof.measure.tiles import fa1, fa1_backward, fa2, fa2_backward, fa3, split_kv
from llmprof.measure.tiles.gradients import Gradients
from llmprof.measure.tiles.problem import Problem, Tile, Values
from llmprof.predict import tiles as predicted
from tests.importing import EVERYTHING
from tests.tile_variants import Case, disagreements, mask

MORE = 20 if EVERYTHING else 1

TILES = [(4, 4), (8, 4), (4, 12), (6, 4), (3, 5), (5, 3), (2, 9), (1, 1)]
"""Small tiles, square and not; neither side is always a multiple of the other. Outputs in fp32 fit where operands were."""

KINDS = ["full", "causal", "window", "both ways", "prefix"]

DIMS = [1, 7, 8, 16, 32, 33, 64, 100, 128, 192, 256]


@st.composite
def cases(draw: st.DrawFn, *, rows: int = 40, keys: int = 40, dims: list[int] = DIMS, same: bool = False) -> Case:
    """One query often, fewer keys than queries sometimes; groups, windows below a tile, splits beyond the tiles."""
    kv_heads, group = draw(st.sampled_from([(1, 1), (1, 2), (2, 1), (1, 3), (2, 2)]))
    head_dim = draw(st.sampled_from(dims))
    problem = Problem(
        batch=draw(st.sampled_from([1, 1, 2])),
        queries=draw(st.one_of(st.just(1), st.integers(2, rows))),
        keys=draw(st.integers(1, keys)),
        heads=kv_heads * group,
        kv_heads=kv_heads,
        head_dim=head_dim,
        value_dim=head_dim if same else draw(st.sampled_from(dims)),
        element_bytes=draw(st.sampled_from([2, 2, 4])),
        mask=mask(draw(st.sampled_from(KINDS)), draw(st.one_of(st.integers(1, 5), st.integers(6, 50)))),
    )
    return Case(
        problem=problem,
        tile=Tile(*draw(st.sampled_from(TILES)), warps=draw(st.sampled_from([4, 8]))),
        sram_elements=draw(st.integers(1, 40 * head_dim)),
        partial_bytes=draw(st.sampled_from([None, 4])),
        warpgroups=draw(st.integers(1, 3)),
        scores_in_shared=draw(st.booleans()),
        splits=draw(st.integers(1, 12)),
        page_tokens=draw(st.sampled_from([None, 1, 3, 4, 7, 16])),
        query_buffers=draw(st.sampled_from([1, 2])),
        values_in_registers=draw(st.booleans()),
    )


@settings(max_examples=800 * MORE)
@given(case=cases())
def test_forward_passes(case: Case) -> None:
    assert disagreements(case, ["FlashAttention 1", "FlashAttention 2", "flash-decoding"]) == []


@settings(max_examples=600 * MORE)
@given(case=cases(same=True))
def test_backward_passes(case: Case) -> None:
    assert disagreements(case, ["FlashAttention 1 backward", "FlashAttention 2 backward"]) == []


@settings(max_examples=300 * MORE)
@given(case=cases(rows=500))
def test_flash_attention_3_whose_tiles_have_64_rows_or_more(case: Case) -> None:
    assert disagreements(case, ["FlashAttention 3"]) == []


def plain(problem: Problem, values: Values) -> tuple[Tensor, Tensor, Gradients]:
    """Softmax attention as it is defined: outputs, log-sum-exp and autograd's gradients; zeros where nothing is seen."""
    q, k, v = (tensor.clone().requires_grad_() for tensor in (values.queries, values.keys, values.values))
    keys, vals = (tensor.repeat_interleave(problem.group, dim=1) for tensor in (k, v))
    visible = problem.mask.visible(problem.queries, problem.keys)
    some = visible.any(dim=1, keepdim=True)
    scores = (q @ keys.mT * problem.head_dim**-0.5).masked_fill(~visible, -torch.inf)
    outputs = torch.softmax(scores.masked_fill(~some, 0), dim=-1) * some @ vals
    gradients = torch.autograd.grad(outputs, (q, k, v), values.gradient)
    log_sum = scores.detach().logsumexp(dim=-1, keepdim=True).masked_fill(~some, torch.inf)
    return outputs.detach(), log_sum, Gradients({}, *gradients)


def same(found: Tensor | None, expected: Tensor) -> None:
    """Both are in float64 and differ by the order of sums alone: over at most 40 terms that is below 1e-9 by far."""
    assert found is not None
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


Answer = tuple[Tensor | None, Tensor | None]

FORWARD: dict[str, Callable[[Case, Values], Answer]] = {
    "FlashAttention 2": lambda case, values: _answer(fa2.forward(case.problem, case.tile, values)),
    "FlashAttention 3": lambda case, values: _answer(
        fa3.forward(case.problem, Tile(64, case.tile.keys), values, scores_in_shared=case.scores_in_shared)
    ),
    "flash-decoding": lambda case, values: _answer(
        split_kv.decode(case.problem, case.tile, case.splits, case.page_tokens, values)
    ),
    "FlashAttention 1": lambda case, values: (
        fa1.forward(case.problem, case.sram_elements, values=values).outputs,
        None,
    ),
}


def _answer(found: fa2.Forward | split_kv.Decoded) -> Answer:
    return found.outputs, found.log_sum


small = cases(rows=14, keys=20, dims=[1, 4, 8, 13])


@settings(max_examples=60 * MORE)
@given(case=small, seed=st.integers(0, 2**31))
def test_the_simulator_computes_attention(case: Case, seed: int) -> None:
    values = Values.drawn(case.problem, seed)
    outputs, log_sum, _ = plain(case.problem, values)
    for run in FORWARD.values():
        found, found_log_sum = run(case, values)
        same(found, outputs)
        if found_log_sum is not None:
            same(found_log_sum, log_sum)


@settings(max_examples=40 * MORE)
@given(case=small, seed=st.integers(0, 2**31))
def test_the_simulator_computes_gradients(case: Case, seed: int) -> None:
    values = Values.drawn(case.problem, seed)
    _, _, gradients = plain(case.problem, values)
    for found in (
        fa1_backward.backward(case.problem, case.sram_elements, values=values),
        fa2_backward.backward(case.problem, case.tile, values),
    ):
        for name in ("queries", "keys", "values"):
            same(getattr(found, name), getattr(gradients, name))


@settings(max_examples=20 * MORE)
@given(case=small)
def test_what_is_counted_does_not_depend_on_whether_values_move(case: Case) -> None:
    p, values = case.problem, Values.drawn(case.problem)
    assert fa2.forward(p, case.tile).counts == fa2.forward(p, case.tile, values).counts
    assert fa1.forward(p, case.sram_elements).counts == fa1.forward(p, case.sram_elements, values=values).counts
    one, other = (split_kv.decode(p, case.tile, case.splits, case.page_tokens, v) for v in (None, values))
    assert (one.attending, one.combining) == (other.attending, other.combining)
    assert fa2_backward.backward(p, case.tile).kernels == fa2_backward.backward(p, case.tile, values).kernels
    assert (
        fa1_backward.backward(p, case.sram_elements).kernels
        == fa1_backward.backward(p, case.sram_elements, values=values).kernels
    )


@settings(max_examples=150 * MORE)
@given(
    ctas=st.integers(1, 400), processors=st.sampled_from([1, 2, 7, 108, 132, 216, 264]), key_tiles=st.integers(1, 1100)
)
def test_the_number_of_splits(ctas: int, processors: int, key_tiles: int) -> None:
    expected = split_kv.number_of_splits(ctas, processors, key_tiles)
    assert predicted.splits_heuristic(ctas, processors, key_tiles) == expected


def test_the_number_of_splits_by_hand() -> None:
    """8 CTAs on 264 half SMs, 64 tiles: 33 splits are 8 x 33 / 264 = one full wave, but 33 cuts 64 tiles as 32 does
    (2 tiles each), so 32 is the most that is eligible below it: 256 / 264 = 97% of a wave. 85% of that are 0.824, which
    27 splits would reach, but 22 to 31 all give 3 tiles, and of them 22 alone is eligible: 67%. So 32."""
    assert split_kv.number_of_splits(8, 264, 64) == 32


@pytest.mark.parametrize("kind", KINDS)
def test_one_attention_by_hand(kind: str) -> None:
    """Two row tiles of 4, three key tiles of 4; window 4, both ways 4 (2 on each side), prefix 9.

    Row tile 0 has positions 4..7 of the 12, row tile 1 8..11. Full: 3 + 3. Causal: 2 + 3. Window: keys 1..7 and 5..11:
    2 + 2. Both ways: keys 2..9 and 6..11: 3 + 2. Prefix: keys 0..8 by the prefix: 3 + 3.
    """
    visited = {"full": 6, "causal": 5, "window": 4, "both ways": 5, "prefix": 6}[kind]
    size = {"window": 4, "both ways": 4, "prefix": 9}.get(kind, 0)
    problem = Problem(batch=1, queries=8, keys=12, heads=2, kv_heads=1, head_dim=8, value_dim=8, mask=mask(kind, size))
    counts = fa2.forward(problem, Tile(4, 4, 4)).counts
    assert counts.visited_tiles == 2 * visited
    assert counts.global_loads == 2 * (8 * 8 * 2 + visited * 4 * 16 * 2)
    assert counts.global_stores == 2 * (8 * 8 * 2 + 8 * 4)
    assert counts.smem_writes == 2 * (2 * 4 * 32 * 2 + visited * 4 * 64 * 2 + 2 * 4 * 32 * 2)
    assert counts.smem_reads == 2 * (visited * (4 * 4 * 64 + 4 * 32) * 2 + 2 * 4 * 32 * 2)
    assert counts.executed_flops == 2 * visited * 2 * 4 * 4 * 64
    assert counts.footprint_bytes == (4 * 32 + 4 * 64) * 2
