"""Attention's accesses over sizes of shared memory, by hand; and points on logarithmic axes."""

from __future__ import annotations

from itertools import pairwise

import pytest

from llmprof.errors import InputError
from llmprof.predict.sram_sweep import Sweep, sweeps
from llmprof.report.log_plot import Series, log_plot
from llmprof.spec.arch import Gqa, Mla, NoAttention, RmsNorm, Rope
from tests.predict_samples import FP32, UNFUSED, arch, layer, llama_3_8b, prefill, run, single, stack, t5_small

HEAD = single(Gqa(n_heads=1, n_kv_heads=1, head_dim=64), mask="bidirectional")


def swept(*sizes: int, tokens: int = 64) -> Sweep:
    (found,) = sweeps(HEAD, prefill(tokens), UNFUSED, sizes)
    return found


def test_flash_attention_1_by_hand() -> None:
    """2 KiB are M = 1024 elements: Bc = Br = 1024 / (4 x 64) = 4, 16 x 16 tiles of 64 tokens.

    K and V once: 64 x 128 x 2. A visit loads Q, O, l and m of 4 rows, 2 x 512 + 32 bytes, and stores O, l and m, 544.
    O, l and m are first stored empty, 64 x 64 x 2 + 8 x 64.
    """
    (point,) = swept(2048).points
    assert point.elements == 1024
    assert point.fa1_tile == (4, 4)
    assert point.fa1_bytes == 16_384 + 256 * (1056 + 544) + 8704 == 434_688
    assert point.fa1_constant == pytest.approx(434_688 * 1024 / (2 * 64 * 64 * 64**2))
    assert point.range_note == ""


def test_flash_attention_2_by_hand() -> None:
    """M = 4096: 16 keys and values take 2048, which leaves 32 rows of 64.

    Two row tiles load all keys and values, 2 x 64 x 128 x 2; Q and O are 8192 each, the log-sum-exp 4 x 64.
    """
    (point,) = swept(8192).points
    assert point.fa2_tile == (32, 16)
    assert point.fa2_bytes == 32_768 + 2 * 8192 + 256
    assert point.fa2_constant == pytest.approx(49_408 * 4096 / (2 * 64 * 64 * 64**2))


def test_a_tile_that_does_not_fit() -> None:
    """16 rows of 64 beside 16 keys and values are 3072 elements."""
    less, just = swept(2 * 3071, 2 * 3072).points
    assert (less.fa2_tile, less.fa2_bytes, less.fa2_constant) == (None, None, None)
    assert just.fa2_tile == (16, 16)


def test_rows_of_a_tile_are_no_more_than_there_are() -> None:
    (point,) = swept(2**20).points
    assert point.fa2_tile == (64, 16)


def test_the_range_of_the_theorem() -> None:
    """d <= M <= N d: from 64 to 64 x 64 elements of 2 bytes."""
    points = swept(2 * 63, 2 * 64, 2 * 4096, 2 * 4097).points
    assert [point.range_note for point in points] == ["M < d", "", "", "M > N d"]


def test_what_stands_beside() -> None:
    prediction = run(HEAD, prefill(64), UNFUSED)
    sweep = swept(2048)
    assert sweep.standard_bytes == prediction.ledger.at("layers.0.attn.core", "hbm_bytes")
    assert sweep.compulsory_bytes == 4 * 64 * 64 * 2 + 4 * 64, "q, k, v and o, and the log-sum-exp"
    assert (sweep.path, sweep.layers, sweep.reference) == ("layers.0.attn.core", 1, prediction.kernel)


def test_the_law_shows_where_heads_are_short_of_memory() -> None:
    """Halving M doubles accesses, but for K, V and what is stored empty: the constant tends to a number."""
    constants = [point.fa1_constant for point in swept(*(2**n for n in range(9, 14)), tokens=4096).points]
    ratios = [larger / smaller for smaller, larger in pairwise(constants)]
    assert all(1 <= ratio < 1.06 for ratio in ratios), ratios


def test_elements_are_those_that_the_pass_computes_in() -> None:
    (found,) = sweeps(HEAD, prefill(64, dtypes=FP32), UNFUSED, (4096,))
    assert found.points[0].elements == 1024
    assert found.shape.element_bytes == 4


def test_every_kind_of_core_of_a_layer() -> None:
    attention = Gqa(n_heads=2, n_kv_heads=2, head_dim=32)
    side = stack([layer(attention)] * 2, prefix="encoder.", mask="bidirectional")
    other = stack([layer(attention, cross=attention)] * 3, prefix="decoder.")
    spec = arch(side, other, d=64, v=100, structure="encoder-decoder")
    found = sweeps(spec, prefill(48, source=32), UNFUSED, (4096,))
    assert [(each.path, each.layers, each.shape.queries, each.shape.keys) for each in found] == [
        ("encoder.layers.{0-1}.attn.core", 2, 32, 32),
        ("decoder.layers.{0-2}.attn.core", 3, 48, 48),
        ("decoder.layers.{0-2}.cross_attn.core", 3, 48, 32),
    ]


def test_a_layer_without_attention_has_no_core() -> None:
    spec = arch(stack([layer(NoAttention()), layer(Gqa(n_heads=1, n_kv_heads=1, head_dim=64))]), d=64, v=10)
    assert [each.path for each in sweeps(spec, prefill(9), UNFUSED, (4096,))] == ["layers.1.attn.core"]


def test_refusals() -> None:
    with pytest.raises(InputError, match=r"encoder.layers.\{0-5\}.attn.core of sample has a mask or a bias"):
        sweeps(t5_small(), prefill(9, source=9), UNFUSED, (4096,))
    latent = Mla(n_heads=2, kv_rank=8, nope_dim=8, rope_dim=4, value_dim=8, norm=RmsNorm())
    with pytest.raises(InputError, match=r"of softmax attention .* but layers.0 of sample has mla"):
        sweeps(single(latent, position=Rope(theta=10000.0)), prefill(9), UNFUSED, (4096,))
    with pytest.raises(InputError, match="1 bytes do not hold one value of 2 bytes"):
        sweeps(llama_3_8b(), prefill(9), UNFUSED, (1,))


def drawn(*series: Series, encoding: str | None) -> list[str]:
    return log_plot(series, x_text=str, y_text=str, encoding=encoding, columns=9, lines=3)


def test_a_plot_by_hand() -> None:
    """1 to 16 over nine cells, two a doubling; 10 to 1000 over three lines. The first series is on top."""
    down = Series(name="down", points=((1, 1000), (4, 100), (16, 10)))
    flat = Series(name="flat", points=((1, 10), (16, 10)))
    assert drawn(down, flat, encoding="utf-8") == [
        " 1000 │●",
        "      │    ●",
        "   10 │○       ●",
        "      └─────────",
        "       1      16",
        "       ● down   ○ flat",
    ]
    assert drawn(down, flat, encoding="ascii") == drawn(down, flat, encoding=None)
    assert drawn(down, flat, encoding="ascii") == [
        " 1000 |*",
        "      |    *",
        "   10 |o       *",
        "      +---------",
        "       1      16",
        "       * down   o flat",
    ]


def test_a_plot_of_one_point() -> None:
    """An axis of no length has one end."""
    one = drawn(Series(name="one", points=((8, 8),)), encoding="ascii")
    assert one == ["   |", "   |", " 8 |*", "   +---------", "    8", "    * one"]


def test_the_ends_of_a_narrow_axis_do_not_run_into_each_other() -> None:
    lines = drawn(Series(name="far", points=((10_000, 1), (90_000, 2))), encoding="ascii")
    assert lines[-2].split() == ["10000", "90000"]
