"""A grid of batches and contexts against single passes: the same lowerings, and figures equal to 1e-12."""

from __future__ import annotations

import random
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmprof import catalog
from llmprof.errors import InputError
from llmprof.predict.api import predict
from llmprof.predict.grid import FIGURES, GridPhase, predict_grid
from llmprof.predict.sizes import Sizes, Undecided
from llmprof.spec.arch import ArchSpec
from llmprof.workload import Execution, NotApplicable, Workload
from tests.importing import EVERYTHING
from tests.predict_samples import llama_2_70b
from tests.stopwatch import cpu_seconds

FUSED = Execution(attention="fused")


def named(name: str) -> ArchSpec:
    (entry,) = (each for each in catalog.entries() if each.name == name)
    return entry.load().base


def single(arch: ArchSpec, phase: GridPhase, batch: int, context: int) -> dict[str, int]:
    new_tokens = 1 if phase == "decode" else context
    workload = Workload(phase=phase, batch=batch, new_tokens=new_tokens, context=context, logits="last")
    made = predict(arch, workload, FUSED)
    in_cost = {"matmul_flops", "matmul_flops_causal", "vector_flops", "hbm_bytes"}
    names = {name: name.replace("matmul_flops_causal", "causal_flops") for name in FIGURES}
    return {name: getattr(made.cost if name in in_cost else made, called) for name, called in names.items()}


# One of every way in which a length decides: windows, chunks, latents, states, experts, positions that are stored,
# values of another width, a mask with a prefix, layers without attention.
ARCHITECTURES = (
    "llama-3-8b", "gpt2", "gemma-3-1b", "deepseek-v2-lite", "mamba-130m", "mixtral-8x7b", "falcon-7b",
    "chatglm-6b", "bloom-560m", "llama-4-scout-17b-16e", "jamba-v0.1", "qwen3-next-80b-a3b",
)  # fmt: skip


@pytest.mark.parametrize("name", ARCHITECTURES)
@settings(max_examples=40 if EVERYTHING else 5, deadline=None)
@given(data=st.data())
def test_every_point_is_a_single_pass(name: str, data: st.DataObject) -> None:
    arch = named(name)
    phase: GridPhase = data.draw(st.sampled_from(("prefill", "decode")))
    longest = min(arch.max_context or 10_000, 10_000) if name == "gpt2" else 10_000
    batches = data.draw(st.lists(st.integers(1, 40), min_size=1, max_size=3, unique=True))
    contexts = data.draw(st.lists(st.integers(1, longest), min_size=1, max_size=3, unique=True))
    grid = predict_grid(arch, batches, contexts, phase=phase)
    for row, batch in enumerate(batches):
        for column, context in enumerate(contexts):
            for figure, expected in single(arch, phase, batch, context).items():
                assert abs(grid.figures[figure][row, column] - expected) <= 1e-12 * expected, (batch, context, figure)


def test_a_million_points_cost_no_more_than_a_few_hundred_passes_and_less_than_a_gigabyte() -> None:
    """0.1 s of CPU where one pass takes 0.7 ms, on 2026-11-30: a bound of seconds would measure the machine."""
    arch, lengths = llama_2_70b(), range(1, 1001)
    one = cpu_seconds(lambda: single(arch, "decode", 7, 777))
    assert cpu_seconds(lambda: predict_grid(arch, lengths, lengths, phase="decode"), tries=1) < 2_000 * one
    tracemalloc.start()
    try:
        grid = predict_grid(arch, lengths, lengths, phase="prefill")
        assert tracemalloc.get_traced_memory()[1] < 10**9
    finally:
        tracemalloc.stop()
    assert grid.total_bytes.shape == (1000, 1000)
    assert grid.parts < 100
    for _ in range(20):
        row, column = random.randrange(1000), random.randrange(1000)
        expected = single(arch, "prefill", row + 1, column + 1)
        assert grid.figures["hbm_bytes"][row, column] == pytest.approx(expected["hbm_bytes"], rel=1e-12)


def test_more_than_an_integer_array_could_hold() -> None:
    """405B at a million tokens and a batch of 1,024 takes more FLOPs than 2^63."""
    arch = named("llama-3.1-405b")
    grid = predict_grid(arch, [1024], [2**20], phase="prefill")
    expected = single(arch, "prefill", 1024, 2**20)["matmul_flops"]
    assert expected > 2**63
    assert grid.figures["matmul_flops"][0, 0] == pytest.approx(expected, rel=1e-12)


def test_parts_are_what_runs_differently() -> None:
    """A batch of one or more, times a context of one token or more: three of the four are lowered differently."""
    assert predict_grid(llama_2_70b(), [1, 2, 3], [1, 2, 3], phase="decode").parts >= 2
    assert predict_grid(llama_2_70b(), [2, 3], [1000, 1001], phase="decode").parts == 1


@pytest.mark.parametrize(
    ("name", "phase", "batches", "contexts", "words"),
    [
        ("gpt2", "decode", [1], [1, 1025], "gpt2 has 1024 learned positions"),
        ("llama-3-8b", "decode", [0], [1], "batch is 0; it must be at least 1"),
        ("llama-3-8b", "decode", [1], [], "at least one batch and one context"),
        ("llama-3-8b", "decode", [], [1], "at least one batch and one context"),
        ("t5-small", "decode", [1], [1], "t5-small is an encoder-decoder"),
    ],
)
def test_what_is_no_grid(name: str, phase: GridPhase, batches: list[int], contexts: list[int], words: str) -> None:
    with pytest.raises(InputError, match=words):
        predict_grid(named(name), batches, contexts, phase=phase)


def test_a_grid_that_falls_into_single_passes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Balanced experts get their tokens by division, so that each number of tokens is lowered by itself."""
    arch = named("mixtral-8x7b")
    monkeypatch.setattr("llmprof.predict.grid.PARTS", 20)
    assert predict_grid(arch, range(1, 11), range(2, 31), phase="decode").parts == 10
    with pytest.raises(InputError, match="10 x 29 points falls into more than 20 parts"):
        predict_grid(arch, range(1, 11), range(2, 31), phase="prefill")


def test_an_encoder_has_no_decode() -> None:
    with pytest.raises(NotApplicable):
        predict_grid(named("bert-base-uncased"), [1], [1], phase="decode")


# --- the numbers themselves ---------------------------------------------------------------------


def sizes(*numbers: float) -> Sizes:
    return Sizes(np.array(numbers, dtype=np.float64))


def test_arithmetic_is_that_of_integers() -> None:
    rows, columns = Sizes(np.array([[2.0], [3.0]])), Sizes(np.array([[5.0, 7.0]]))
    made = (rows * columns * 3 - rows + 1) // 2 + (-columns) % 4 + 10 // rows
    for row, b in enumerate((2, 3)):
        for column, s in enumerate((5, 7)):
            assert made.values[row, column] == (b * s * 3 - b + 1) // 2 + (-s) % 4 + 10 // b


def test_what_all_points_say_is_decided_and_what_they_do_not_is_not() -> None:
    few = sizes(3, 4)
    assert few < 5
    assert not few > 4
    assert few >= 3
    assert few != 5
    with pytest.raises(Undecided) as undecided:
        bool(few <= 3)
    assert undecided.value.answers.tolist() == [True, False]
    with pytest.raises(Undecided) as undecided:
        range(few)  # type: ignore[call-overload]
    assert undecided.value.answers.tolist() == [3, 4]
    assert (1, 2) * sizes(2, 2) == (1, 2, 1, 2)  # type: ignore[comparison-overlap, operator]
    assert f"{sizes(7):,}" == "7"


def test_numbers_that_differ_by_their_rounding_alone_are_equal_and_neighbours_are_not() -> None:
    large = 10.0**11
    assert sizes(0.1 * 3 * 10) == sizes(3.0)
    assert sizes(large) != sizes(large + 1)
    assert sizes(large) < large + 1
    assert sizes(large + 1) > large
