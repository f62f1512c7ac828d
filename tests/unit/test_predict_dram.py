"""Bytes below a last-level cache, on lists of kernels that can be followed by hand (docs/reference-dram.md)."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmprof.catalog import resolve
from llmprof.predict.api import predict
from llmprof.predict.dram import memory
from llmprof.predict.reuse import reuse
from llmprof.predict.touches import Mark, Step, Stored, laid_out
from llmprof.workload import Execution
from tests.predict_samples import FUSED, UNFUSED, decode, gpt2, llama_2_70b, prefill
from tests.stopwatch import cpu_seconds


def step(path: str, *touches: tuple[Stored, int, int], streamed: int = 0, dead: Sequence[Stored] = ()) -> Step:
    return Step(path, touches, streamed, tuple(dead), 1)


def read(stored: Stored) -> tuple[Stored, int, int]:
    return stored, stored.size, 0


def write(stored: Stored) -> tuple[Stored, int, int]:
    return stored, 0, stored.size


def objects(*sizes: int) -> list[Stored]:
    return [Stored(size) for size in sizes]


def moved(steps: Sequence[Step | Mark], capacity: int | None) -> dict[str, int]:
    """Path -> bytes, where there are any."""
    return dict(+Counter(reuse(steps).moved(capacity)))


def test_a_second_read_is_free_where_all_that_was_touched_since_fits_beside_it() -> None:
    """A of 10, then B of 20, then A: A and B together are 30."""
    a, b = objects(10, 20)
    steps = [step("x", read(a)), step("y", read(b)), step("z", read(a))]
    assert moved(steps, 30) == {"x": 10, "y": 20}
    assert moved(steps, 29) == {"x": 10, "y": 20, "z": 10}
    assert moved(steps, None) == moved(steps, 30)


def test_an_op_has_its_own_objects_in_the_cache_in_the_order_in_which_it_touches_them() -> None:
    """A and B of 10 in one kernel, 10 fit: B alone is left, and a kernel that reads B, then A, finds B alone."""
    a, b = objects(10, 10)
    steps = [step("x", read(a), read(b)), step("y", read(b), read(a))]
    assert moved(steps, 10) == {"x": 20, "y": 10}
    assert moved(steps, 20) == {"x": 20}


def test_what_has_been_evicted_stays_out_when_a_death_gives_room() -> None:
    """A of 10, T of 20 made and dead: at 20 A is driven out before T dies, at 30 it stays.

    T is dead before it is written to memory, and moves nothing at 20; at 19 it passes the cache by: 20 bytes.
    """
    a, t = objects(10, 20)
    steps = [step("x", read(a)), step("y", write(t), dead=[t]), step("z", read(a))]
    assert moved(steps, 30) == {"x": 10}
    assert moved(steps, 20) == {"x": 10, "z": 10}
    assert moved(steps, 19) == {"x": 10, "y": 20, "z": 10}


def test_a_death_gives_room_to_what_comes_after() -> None:
    """A of 10, T of 20 dead before U of 20 is made: A, T and A, U are 30 each; were T alive, 50."""
    a, t, u = objects(10, 20, 20)
    dying = [step("v", read(a)), step("w", write(t), dead=[t]), step("x", write(u), dead=[u]), step("y", read(a))]
    living = [step("v", read(a)), step("w", write(t)), step("x", write(u), dead=[u, t]), step("y", read(a))]
    assert "y" not in moved(dying, 30)
    assert moved(living, 49)["y"] == 10
    assert "y" not in moved(living, 50)


def test_what_is_dirty_is_written_when_it_is_evicted_and_charged_to_its_last_writer() -> None:
    """A of 10 is written by x and y, driven out by B of 20, read by z: at 29 10 written back and 10 read."""
    a, b = objects(10, 20)
    steps = [step("x", write(a)), step("y", (a, 10, 10)), step("o", read(b)), step("z", read(a), dead=[a])]
    assert moved(steps, 30) == {"o": 20}
    assert moved(steps, 29) == {"y": 10, "o": 20, "z": 10}


def test_dead_activations_are_never_written_and_survivors_once() -> None:
    """T of 10 dies, R of 5 is returned."""
    t, r = objects(10, 5)
    steps = [step("x", write(t)), step("y", read(t), write(r), dead=[t])]
    assert moved(steps, None) == {"y": 5}
    assert moved(steps, 15) == {"y": 5}
    assert moved(steps, 14) == {"x": 10, "y": 5}, "T is driven out by R, dirty, before it dies"


def test_an_object_filled_row_by_row_moves_its_rows() -> None:
    """Rows of 4 and 3 of an object of 10; evicted in between they are written apart, at the end together.

    Written twice over, 8 + 7 are no more than the 10 that there are.
    """
    a, b = objects(10, 20)
    rows = [step("x", (a, 0, 4)), step("o", read(b)), step("y", (a, 0, 3))]
    assert moved(rows, None) == {"o": 20, "y": 7}
    assert moved(rows, 29) == {"x": 4, "o": 20, "y": 3}
    assert moved([step("x", (a, 0, 8)), step("y", (a, 0, 7))], None) == {"y": 10}


def test_a_whole_object_is_read_whole_where_it_misses() -> None:
    state, b = Stored(10, whole=True), Stored(20)
    steps = [step("x", (state, 4, 0)), step("o", read(b)), step("y", (state, 4, 0))]
    assert moved(steps, 30) == {"x": 10, "o": 20}
    assert moved(steps, 29) == {"x": 10, "o": 20, "y": 10}
    assert moved(steps, 9) == {"x": 4, "o": 20, "y": 4}, "it passes by, and moves what is used"


def test_what_is_larger_than_the_cache_passes_it_by_and_drives_out_what_was_before_it() -> None:
    """B of 20 above a cache of 15: A of 10, touched before it, is gone; C of 10, after it in its kernel, is there."""
    a, b, c = objects(10, 20, 10)
    steps = [step("x", read(a)), step("y", read(b), read(c)), step("z", read(c)), step("w", read(a))]
    assert moved(steps, 15) == {"x": 10, "y": 30, "w": 10}
    assert moved(steps, 40) == {"x": 10, "y": 30}


def test_streamed_bytes_move_always_and_leave_the_cache_as_it_is() -> None:
    (a,) = objects(10)
    steps = [step("x", read(a)), step("y", streamed=1000), step("z", read(a))]
    assert moved(steps, 10) == moved(steps, None) == {"x": 10, "y": 1000}


def test_rounds_stand_for_each_other() -> None:
    """Ten rounds read A of 10 and an E of 100, each its own: A is found again where both fit, 110.

    X of 5, read before the rounds and after them, then has ten of E and A above it: 5 + 1000 + 10.
    """
    a, x = objects(10, 5)
    each = [Stored(100) for _ in range(10)]
    plain: list[Step | Mark] = [step("e", read(x)), *(step("r", read(a), read(e)) for e in each), step("f", read(x))]
    short: list[Step | Mark] = [
        step("e", read(x)),
        step("r", read(a), read(each[0])),
        Mark(),
        Step("r", (read(a), read(each[1])), 0, (), 8),
        Mark(7 * 100),
        step("r", read(a), read(each[2])),
        step("f", read(x)),
    ]
    for capacity in (1, 10, 104, 105, 109, 110, 500, 1014, 1015, 2000, None):
        assert moved(short, capacity) == moved(plain, capacity), capacity
    assert moved(plain, 110)["r"] == 1000 + 10
    assert moved(plain, 109)["r"] == 1000 + 100
    assert moved(plain, 1014)["f"] == 5
    assert "f" not in moved(plain, 1015)


def simulated(steps: Sequence[Step], capacity: int) -> Counter[str]:
    """The policy of the page, step by step: a cache of objects, oldest first, with what is dirty and whose it is."""
    cache: OrderedDict[Stored, None] = OrderedDict()
    dirty: dict[Stored, tuple[int, str]] = {}
    moved: Counter[str] = Counter()

    def clean(stored: Stored) -> None:
        nbytes, path = dirty.pop(stored, (0, ""))
        moved[path] += nbytes

    for each in steps:
        moved[each.path] += each.streamed
        for stored, read_bytes, written in each.touches:
            if stored.size > capacity:
                moved[each.path] += read_bytes + written
            elif read_bytes and stored not in cache:
                moved[each.path] += stored.size if stored.whole else read_bytes
            cache[stored] = None
            cache.move_to_end(stored)
            if written and stored.size <= capacity:
                dirty[stored] = min(stored.size, dirty.get(stored, (0, ""))[0] + written), each.path
        held = sum(stored.size for stored in cache)
        while held > capacity:
            stored, _ = cache.popitem(last=False)
            held -= stored.size
            clean(stored)
        for stored in each.dead:
            cache.pop(stored, None)
            dirty.pop(stored, None)
    for stored in list(dirty):
        clean(stored)
    return +moved


@st.composite
def passes(draw: st.DrawFn) -> list[Step]:
    """Lists of kernels over up to six objects, some of which die after their last touch."""
    pool = [Stored(draw(st.integers(1, 12)), whole=draw(st.booleans())) for _ in range(draw(st.integers(1, 6)))]
    dying = {stored for stored in pool if draw(st.booleans())}
    touches = []
    for _ in range(draw(st.integers(1, 10))):
        chosen = draw(st.lists(st.sampled_from(pool), unique=True, max_size=3))
        kernel = []
        for stored in chosen:
            read_bytes, written = draw(st.integers(0, stored.size)), draw(st.integers(0, stored.size))
            if read_bytes or written:
                kernel.append((stored, read_bytes, written))
        touches.append(kernel)
    last = {stored: index for index, kernel in enumerate(touches) for stored, _, _ in kernel}
    return [
        step(
            draw(st.sampled_from("abc")),
            *kernel,
            streamed=draw(st.sampled_from((0, 0, 7))),
            dead=[stored for stored in last if stored in dying and last[stored] == index],
        )
        for index, kernel in enumerate(touches)
    ]


@settings(max_examples=80)
@given(passes(), st.integers(0, 60))
def test_distances_say_what_the_policy_step_by_step_does(steps: list[Step], capacity: int) -> None:
    assert +Counter(reuse(steps).moved(capacity)) == simulated(steps, capacity)
    assert +Counter(reuse(steps).moved(None)) == simulated(steps, 10**9)


def test_a_pass_of_a_model_is_laid_out_call_by_call() -> None:
    """Every layer has its own weights: the q_proj of 32 layers are 32 objects of 4096 x 4096 values."""
    program = predict(resolve(["llama-2-7b"])[0], decode(64), FUSED).program
    kernels = [each for each in laid_out(program) if isinstance(each, Step) and each.path.endswith("attn.q_proj")]
    assert len({each.path for each in kernels}) == len(kernels) == 32
    matrices = {stored for each in kernels for stored, _, _ in each.touches if stored.size == 4096 * 4096 * 2}
    assert len(matrices) == 32


def test_a_decode_step_reads_weights_and_cache_once() -> None:
    """A layer of Llama-2-7B at a context of 64, all that comes from memory where the cache has no bounds.

    Matrices q, k, v, o of 4096 x 4096, gate, up, down of 4096 x 11008, two norms of 4096; 64 rows of 4096 keys and as
    many values, the new row of which was written past the cache just before; all of 2 bytes.
    """
    moved = memory(predict(resolve(["llama-2-7b"])[0], decode(64), FUSED).program).moved(None)
    layer = {path.removeprefix("layers.5."): n for path, n in moved.items() if path.startswith("layers.5.")}
    assert layer["attn.cache"] == 2 * 4096 * 2
    assert layer["attn.core"] == 2 * 64 * 4096 * 2
    rest = sum(layer.values()) - layer["attn.cache"] - layer["attn.core"]
    assert rest == 2 * (4 * 4096**2 + 3 * 4096 * 11008 + 2 * 4096)


def test_a_tied_matrix_is_one_object() -> None:
    """A decode of GPT-2: the rows of the table pass by, the head reads all 50257 x 768 values once."""
    moved = memory(predict(gpt2(), decode(9), FUSED).program).moved(None)
    assert moved["lm_head"] == 50257 * 768 * 2 + 50264 * 2 - 7 * 2, "its matrix, and the logits that it returns"


@pytest.mark.parametrize("execution", [FUSED, UNFUSED])
@pytest.mark.parametrize("phase", ["prefill", "decode"])
@pytest.mark.parametrize("name", ["llama-3-8b", "gemma-2-9b", "t5-small", "mixtral-8x7b", "mamba-2.8b"])
def test_levels_are_in_order_and_fall_with_the_capacity(name: str, phase: str, execution: Execution) -> None:
    source = 64 if name.startswith("t5") else 0
    workload = prefill(512, source=source) if phase == "prefill" else decode(512, source=source)
    prediction = predict(resolve([name])[0], workload, execution)
    found = memory(prediction.program)
    totals = [sum(found.moved(size).values()) for size in (0, 2**16, 2**20, 2**23, 2**26, 2**29, 2**40)]
    assert totals[0] == sum(op.times * op.hbm_bytes for op in prediction.program.ops) + sum(
        group.count * op.times * op.hbm_bytes for group in prediction.program.groups for op in group.ops
    )
    assert all(larger >= smaller for larger, smaller in pairwise(totals))
    assert found.moved(2**40) == found.moved(None)


def test_a_model_of_eighty_layers_takes_no_time() -> None:
    program = predict(llama_2_70b(), decode(4096), UNFUSED).program
    assert cpu_seconds(lambda: memory(program).moved(50 * 10**6)) < 0.3
