"""What the files of a release hold, packing by packing, by hand; and releases whose totals are public."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llmprof import catalog
from llmprof.errors import InputError
from llmprof.predict.record import count_record
from llmprof.predict.released import Released, matrix_bytes, released
from llmprof.spec.release import Awq, Fp8, Fp8Blocks, Gptq, Integers, Mxfp4, Nvfp4, Packing, Release
from tests.predict_samples import decode, llama_3_8b

R, C = 192, 320  # rows (outputs) and columns (inputs)


@pytest.mark.parametrize(
    ("packing", "expected"),
    [
        # 192 x 320 bytes; blocks of 128 x 128: 2 x 3 scales
        (Fp8Blocks(rows=128, columns=128), R * C + 6 * 4),
        (Fp8Blocks(rows=128, columns=128, scale="bf16"), R * C + 6 * 2),
        (Fp8Blocks(rows=128, columns=128, scale="e8m0"), R * C + 6),
        (Fp8(per="matrix"), R * C + 4),
        (Fp8(per="matrix", input_scale=True), R * C + 4 + 4),
        (Fp8(per="row", scale="bf16"), R * C + R * 2),
        # 320 columns in groups of 64: 5; values, zero points, scales in 16 bit, a 32-bit group of each column
        (Gptq(bits=4, group=64), R * C // 2 + 5 * R // 2 + 2 * 5 * R + 4 * C),
        (Gptq(bits=8), R * C + R + 2 * R + 4 * C),
        (Gptq(bits=3, group=128), (R * C + 3 * R) * 3 // 8 + 2 * 3 * R + 4 * C),
        (Awq(group=64), R * C // 2 + 5 * R // 2 + 2 * 5 * R),
        (Mxfp4(), R * C // 2 + R * 10),
        (Nvfp4(), R * C // 2 + R * 20 + 8),
        (Nvfp4(input_scale=False), R * C // 2 + R * 20 + 4),
        # 8-bit values lie as they are; 4-bit ones in 40 words a row, their zero points in 24 words a group
        (Integers(bits=8), R * C + 2 * R),
        (Integers(bits=4, group=32, shape=True), R * 40 * 4 + 2 * 10 * R + 16),
        (Integers(bits=4, group=32, shape=True, zero_point=True), R * 40 * 4 + 2 * 10 * R + 10 * 24 * 4 + 16),
    ],
    ids=lambda value: getattr(value, "kind", None),
)
def test_a_matrix(packing: Packing, expected: int) -> None:
    assert matrix_bytes(packing, R, C) == expected


@pytest.mark.parametrize("packing", [Gptq(bits=4), Awq(group=4), Mxfp4(), Nvfp4()], ids=lambda p: p.kind)
def test_what_does_not_fill_words_has_no_layout(packing: Packing) -> None:
    assert matrix_bytes(packing, 4, 12) is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # ``total_size`` of the index (stored copies of it at two places, read 2026-11-30)
        ("gpt-oss-20b", Released(model=13_761_264_768, mtp=0)),
        ("gpt-oss-120b", Released(model=65_248_815_744, mtp=0)),
    ],
)
def test_a_release_whose_total_is_public(name: str, expected: Released) -> None:
    assert released(catalog.find(name).arch()) == expected


def test_deepseek_v3_by_the_hubs_account_of_its_values() -> None:
    """680,571,043,840 values in 8 bit, 3,918,786,560 in bf16, 41,555,600 in fp32, of all files together.

    Beside parameters they hold the mtp layer's copies of both tables, in bf16, and 256 corrections of each of the 59
    routers, in fp32.
    """
    arch = catalog.find("deepseek-v3").arch()
    found = released(arch)
    assert found is not None
    beside = 2 * 2 * 129_280 * 7168 + 4 * 59 * 256
    assert found.model + found.mtp + beside == 680_571_043_840 + 2 * 3_918_786_560 + 4 * 41_555_600


def test_of_two_bytes_each_where_nothing_is_packed() -> None:
    arch = replace(llama_3_8b(), release=Release(dtype="bf16"))
    assert released(arch) == Released(model=2 * 8_030_261_248, mtp=0)
    assert released(llama_3_8b()) is None


def test_spared_matrices_keep_their_dtype() -> None:
    """Per layer of Llama-3-8B: 2 x 4096 x 4096 + 2 x 1024 x 4096 of attention, 3 x 14336 x 4096 of feed-forward."""
    attention, ffn = 2 * 4096 * 4096 + 2 * 1024 * 4096, 3 * 14336 * 4096
    rest = 8_030_261_248 - 32 * (attention + ffn)

    def of(*spared: str) -> int:
        found = released(replace(llama_3_8b(), release=Release(dtype="bf16", packing=Fp8(per="matrix"), spared=spared)))
        assert found is not None
        return found.model

    assert of() == 2 * rest + 32 * (attention + ffn + 7 * 4)
    assert of("layers.*.attn.*") == 2 * rest + 32 * (2 * attention + ffn + 3 * 4)
    assert of("layers.3.ffn.down") == of() + 14336 * 4096 - 4


@pytest.mark.parametrize(
    ("release", "words"),
    [
        (Release(dtype="bf16", packing=Mxfp4(), spared=("layers.*.mlp.*",)), "is no matrix of attention or feed-for"),
        (Release(dtype="bf16", packing=Mxfp4(), spared=("lm_head",)), "is no matrix of attention or feed-forward"),
        (Release(dtype="bf16", packing=Mxfp4(), spared=("layers.?.attn.*",)), "is no matrix of attention or feed-"),
    ],
)
def test_a_pattern_that_spares_nothing(release: Release, words: str) -> None:
    with pytest.raises(InputError, match=words):
        released(replace(llama_3_8b(), release=release))


def test_the_record_says_that_the_layout_is_not_confirmed() -> None:
    arch = replace(llama_3_8b(), release=Release(dtype="fp32"))
    record = count_record(arch, decode(8))
    assert record["weight_bytes_released"] == 4 * 8_030_261_248
    assert "llmprof compare" in record["unconfirmed"]["weight_bytes_released"]
    plain = count_record(llama_3_8b(), decode(8))
    assert plain["weight_bytes_released"] is None
    assert "weight_bytes_released" not in plain["unconfirmed"]
