"""Chunks of positions, and windows that reach both ways: what is seen, kept, and launched, by hand and by enumeration.

docs/reference-options.md, section 3.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from llmprof.predict.api import Prediction
from llmprof.predict.masks import sight
from llmprof.predict.sram import shared_memory
from llmprof.spec.arch import Alibi, Gqa, Mask
from llmprof.workload import Dtypes, Workload
from tests.predict_samples import FP32, FUSED, arch, decode, layer, prefill, run, single, stack

HEADS = Gqa(n_heads=6, n_kv_heads=2, head_dim=8)
CHUNKED = replace(HEADS, chunk=4)
CACHE, CORE = "layers.0.attn.cache", "layers.0.attn.core"
ROW = 2 * 8 * 2  # of keys or of values: K h values in bf16
OTHER = Dtypes(weights="bf16", activations="bf16", kv_cache="fp32")


def seen(t: int, s: int, visible: Callable[[int, int], bool]) -> set[tuple[int, int]]:
    """The pairs of query and key that a mask lets through."""
    return {(q, k) for q in range(s - t, s) for k in range(s) if visible(q, k)}


# --- what is seen -----------------------------------------------------------------------------


@pytest.mark.parametrize("s", range(1, 12))
@pytest.mark.parametrize("chunk", [1, 2, 3, 4, 7, 11])
def test_pairs_within_a_chunk_are_those_of_the_definition(s: int, chunk: int) -> None:
    for t in range(1, s + 1):
        pairs = seen(t, s, lambda q, k: k <= q and k // chunk == q // chunk)
        made = sight("causal", t, s, window=None, prefix=0, chunk=chunk)
        assert made.visible == len(pairs)
        # What the core reads holds all that any query sees, and begins with a chunk (or with the context).
        first = s - made.keys
        assert first <= min(k for _, k in pairs)
        assert first == (0 if s <= chunk else (s - t) // chunk * chunk)


@pytest.mark.parametrize(
    ("t", "s", "kind", "keys", "shared_by"),
    [
        (3, 4, "causal", 4, None),  # as without a chunk
        (4, 4, "causal", 4, None),
        (1, 4, "full", 4, None),
        (1, 5, "full", 1, None),  # the first token of a chunk sees itself
        (1, 7, "full", 3, None),
        (3, 7, "causal", 3, None),  # positions 4 .. 6: all of one chunk
        (2, 7, "causal", 3, None),
        (4, 7, "dense", 7, 4),  # position 3 is of another
        (8, 8, "dense", 8, 4),
        (6, 11, "dense", 7, 4),
    ],
)
def test_the_kind_of_a_chunks_mask(t: int, s: int, kind: str, keys: int, shared_by: int | None) -> None:
    made = sight("causal", t, s, window=None, prefix=0, chunk=4)
    assert (made.kind, made.keys, made.chunk, made.window) == (kind, keys, shared_by, None)


@pytest.mark.parametrize("s", range(1, 12))
def test_pairs_within_a_window_both_ways_are_those_of_the_definition(s: int) -> None:
    for window in range(1, 25):
        made = sight("bidirectional", s, s, window=window, prefix=0)
        pairs = seen(s, s, lambda q, k, half=window // 2: abs(q - k) <= half)  # type: ignore[misc]
        assert (made.visible, made.keys) == (len(pairs), s)
        assert made.kind == ("full" if window // 2 >= s - 1 else "dense")
        assert made.window == (None if made.kind == "full" else window)


# --- what is kept -----------------------------------------------------------------------------


def launched(prediction: Prediction, path: str = CACHE) -> list[tuple[str, int, int]]:
    return [(op.kind, op.read_bytes, op.write_bytes) for op in prediction.ops if op.path == path]


def twice(*kernels: tuple[str, int, int]) -> list[tuple[str, int, int]]:
    """k's kernels, then v's."""
    return [*kernels, *kernels]


@pytest.mark.parametrize(
    ("work", "kernels"),
    [
        (prefill(4), [("copy_", 4 * ROW, 4 * ROW)]),  # s <= c
        (prefill(2, context=3), [("copy_", 2 * ROW, 2 * ROW)]),
        (prefill(3, context=7), [("copy_", 3 * ROW, 3 * ROW)]),  # S <= c
        (decode(5), [("copy_", ROW, ROW)]),
        (decode(8), [("copy_", ROW, ROW)]),
        (prefill(8), [("copy_", 4 * ROW, 4 * ROW)]),  # f = 0, z = 4
        (prefill(10), [("copy_", 2 * ROW, 2 * ROW)]),  # f = 0, z = 2
        (prefill(5, context=9), [("copy_", ROW, ROW)]),  # f = 0 with a past, z = 1
        # f = 1: positions 5 .. 10, behind position 4; the last chunk has z = 3 rows
        (prefill(6, context=11), [("cat", 7 * ROW, 7 * ROW), ("copy_", 3 * ROW, 3 * ROW)]),
    ],
)
def test_a_cache_of_chunks(work: Workload, kernels: list[tuple[str, int, int]]) -> None:
    made = run(single(CHUNKED), work)
    assert launched(made) == twice(*kernels)
    assert made.kv_cache_bytes == 2 * min(4, work.context) * ROW


def test_the_batch_multiplies_all_of_it() -> None:
    one, three = run(single(CHUNKED), prefill(6, context=11)), run(single(CHUNKED), prefill(6, context=11, batch=3))
    assert launched(three) == [(kind, 3 * read, 3 * written) for kind, read, written in launched(one)]


def test_a_cache_in_another_dtype_is_cast_where_it_is_read() -> None:
    joined = run(single(CHUNKED), prefill(6, context=11, dtypes=OTHER))
    assert launched(joined) == twice(
        ("cast", 2 * ROW, ROW),  # the one row that stands before the new ones
        ("cat", 7 * ROW, 7 * ROW),
        ("copy_", 3 * ROW, 2 * 3 * ROW),
    )
    # Of a cache of 4 rows the 3 of this chunk are cast, and then expanded to all heads and flattened.
    viewed = run(single(CHUNKED), prefill(2, context=7, batch=2, dtypes=OTHER))
    keys = 2 * 3 * ROW
    assert [op for op in launched(viewed, CORE) if op[0] == "cast"] == [("cast", 2 * keys, keys)] * 2


def test_the_first_rows_of_a_cache_are_flattened_without_a_clone() -> None:
    """Multi-head, so that nothing is expanded: only q (more than one token) and the output are cloned."""
    heads = Gqa(n_heads=2, n_kv_heads=2, head_dim=8, chunk=4)
    kernels = [kind for kind, _, _ in launched(run(single(heads), prefill(2, context=7, batch=2)), CORE)]
    assert kernels == ["clone", "baddbmm", "softmax", "bmm", "clone"]
    one = launched(run(single(heads), decode(7)), CORE)
    assert one[1] == ("bmm", ROW + 3 * ROW, 2 * 3 * 2)


def test_a_token_more_takes_a_row_as_with_windows() -> None:
    assert (
        sum(row.nbytes for group in run(single(CHUNKED), decode(9)).program.groups for row, _ in group.growth.values())
        == 2 * ROW
    )


@pytest.mark.parametrize("kv_cache", ["fp8", "int8", "int4"])
@pytest.mark.parametrize("work", [prefill(8), prefill(6, context=11), decode(7)])
def test_a_packed_cache_is_read_as_it_lies(kv_cache: str, work: Workload) -> None:
    dtypes = Dtypes(weights="bf16", activations="bf16", kv_cache=kv_cache)  # type: ignore[arg-type]
    row = 2 * {"fp8": 8, "int8": 10, "int4": 6}[kv_cache]
    made = run(single(CHUNKED), replace(work, dtypes=dtypes))
    assert made.kv_cache_bytes == 2 * 4 * row
    assert "cast" not in [kind for kind, _, _ in launched(made)]
    if work.context == 11:
        assert launched(made)[0] == ("cat", row + 6 * ROW, 7 * ROW)


# --- what the core takes ----------------------------------------------------------------------


def test_a_chunk_within_which_all_tokens_stand_is_flagged_or_masked() -> None:
    inside = run(single(CHUNKED), prefill(3, context=7), FUSED)
    assert inside.kernel == "flash"
    assert run(single(CHUNKED), prefill(6), FUSED).kernel == "efficient"  # a mask that no flag can say
    assert run(single(CHUNKED), decode(7), FUSED).kernel == "flash"


def masks(*attentions: Gqa, work: Workload, mask: Mask = "causal") -> list[int]:
    """The bytes of the mask constants that layers with these attentions take."""
    structure = "encoder" if mask == "bidirectional" else "causal-decoder"
    spec = arch(stack([layer(each) for each in attentions], mask=mask), d=8, v=10, structure=structure)  # type: ignore[arg-type]
    made = run(spec, work).program.setting.constants
    return sorted(tensor.nbytes for key, tensor in made.items() if key[-1] == "mask")


def test_layers_share_a_mask_if_they_have_the_same_one() -> None:
    other = replace(HEADS, chunk=6)
    rows_of_8 = 2 * 8
    assert masks(CHUNKED, CHUNKED, work=prefill(8)) == [8 * rows_of_8]
    assert masks(CHUNKED, other, HEADS, work=prefill(8)) == [8 * rows_of_8] * 3
    # All three masks are causal here, over 3, 1 and 7 keys.
    assert masks(CHUNKED, HEADS, work=prefill(3, context=7)) == [3 * rows_of_8] * 2
    # A chunk that holds the whole context is the causal mask itself.
    assert masks(replace(HEADS, chunk=8), HEADS, work=prefill(8)) == [8 * rows_of_8]


def test_windows_both_ways_share_a_mask_if_they_are_equal() -> None:
    narrow, wide = replace(HEADS, window=3), replace(HEADS, window=4)
    assert masks(narrow, narrow, HEADS, work=prefill(6), mask="bidirectional") == [6 * 2 * 8]
    assert masks(narrow, wide, work=prefill(6), mask="bidirectional") == [6 * 2 * 8] * 2
    assert masks(replace(HEADS, window=10), work=prefill(6), mask="bidirectional") == []


def test_alibi_has_the_chunks_mask_in_it() -> None:
    made = run(single(CHUNKED, position=Alibi()), prefill(6)).program.setting.constants
    assert [(key[-1], tensor.nbytes) for key, tensor in made.items() if key[-1] != "token ids"] == [
        ("alibi", 6 * 6 * 8 * 2)
    ]


def test_flops_of_a_window_both_ways_and_of_chunks() -> None:
    s = 9
    windowed = run(single(replace(HEADS, window=4), mask="bidirectional"), prefill(s))
    pairs = s * 5 - 2 * 3  # two on either side, less what the ends cut off
    core = windowed.ledger.at(CORE, "matmul_flops_causal"), windowed.ledger.at(CORE, "matmul_flops")
    assert core == (2 * 2 * 6 * 8 * pairs, 2 * 2 * 6 * 8 * s * s)
    chunked = run(single(CHUNKED), prefill(s))
    within = 2 * (1 + 2 + 3 + 4) + 1
    assert chunked.ledger.at(CORE, "matmul_flops_causal") == 2 * 2 * 6 * 8 * within


# --- FlashAttention-2's tiles -------------------------------------------------------------------


def test_flashattention_has_windows_both_ways_and_no_chunks() -> None:
    windowed = run(single(replace(HEADS, window=200), mask="bidirectional"), prefill(1000), FUSED)
    whole = run(single(HEADS, mask="bidirectional"), prefill(1000), FUSED)
    narrow, wide = shared_memory(windowed.program), shared_memory(whole.program)
    assert narrow is not None
    assert wide is not None
    assert narrow.nbytes < wide.nbytes
    assert shared_memory(run(single(CHUNKED), prefill(1000), FUSED).program) is None
    assert shared_memory(run(single(CHUNKED), decode(1000), FUSED).program) is not None
    assert shared_memory(run(single(CHUNKED), prefill(1000, dtypes=FP32), FUSED).program) is None
