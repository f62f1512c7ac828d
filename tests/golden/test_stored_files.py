"""Totals of released files, from headers built of their shapes by their naming schemes, against what is published.

Sources, all read 2026-11-30 unless a line says otherwise:

- GPT-2 137,022,720, Qwen3-0.6B 751,632,384 and Llama-2-7B 6,738,417,664 values: ``safetensors.total`` of the hub's API
  (openai-community/gpt2, Qwen/Qwen3-0.6B, meta-llama/Llama-2-7b-hf), as several public repositories quote it; so are
  the 1,503,300,328 bytes of Qwen3-0.6B's one file.
- DeepSeek-V3: BF16 3,918,786,560, F8_E4M3 680,571,043,840 and F32 41,555,600 values are what the hub's API says of
  deepseek-ai/DeepSeek-V3 and DeepSeek-R1 (``safetensors.parameters``); three public repositories quote it. 688,586,727,753
  bytes are those of the 163 files: the size of deepseek-v3.1:671b in Ollama's listing, and the accounting of another
  repository ("creator_repository_weight_files_only"). The tensors alone are 688,574,839,360.
- GPT-OSS: ``total_size`` 13,761,264,768 of openai/gpt-oss-20b's index, in two public copies of it; 65,248,815,744 of
  openai/gpt-oss-120b's, in the tests of two public repositories.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from llmprof import catalog
from llmprof.importing.headers.safetensors import read_safetensors
from llmprof.importing.headers.shards import read_index
from llmprof.stored.join import join
from llmprof.stored.joined import Joined, Kind
from tests.released import LLAMA2_7B, QWEN3_06B, deepseek_v3, gpt2, gpt_oss
from tests.weights import write_safetensors, write_shards


def explained(ref: str, tensors: Mapping[str, Any], tmp_path: Path) -> Joined:
    """A release against the catalogue's spec; nothing may be left over on either side."""
    made = join(catalog.find(ref).base, read_safetensors(write_safetensors(tmp_path / "x.safetensors", tensors)))
    assert made.explained, made.lacking
    assert sum(values for _, values in made.balance()) == made.values
    assert sum(item.nbytes for item in made.items) == made.file.nbytes
    assert made.by_kind[Kind.PARAMETER][1] == made.params_total
    assert made.stated_bytes in (None, made.held_bytes)
    return made


def test_gpt2_with_its_masks(tmp_path: Path) -> None:
    made = explained("gpt2", gpt2(), tmp_path)
    assert (made.values, made.params_total) == (137_022_720, 124_439_808)
    assert made.by_kind[Kind.BUFFER] == (12, 12 * 1024 * 1024, 4 * 12 * 1024 * 1024)


def test_qwen3_with_a_copy_of_its_tied_table(tmp_path: Path) -> None:
    tensors = dict(sorted(QWEN3_06B.plain().items()))
    made = explained("qwen3-0.6b", tensors, tmp_path)
    assert (made.values, made.params_total) == (751_632_384, 596_049_920)
    assert made.by_kind[Kind.COPY][1] == 151_936 * 1_024
    # In the order of the release, and with the metadata that its writer adds, even the file has its published size.
    path = write_safetensors(tmp_path / "model.safetensors", tensors, {"format": "pt"})
    assert path.stat().st_size == sum(read_safetensors(path).files.values()) == 1_503_300_328


def test_llama_2_with_its_frequencies(tmp_path: Path) -> None:
    made = explained("llama-2-7b", LLAMA2_7B.plain(), tmp_path)
    assert (made.values, made.params_total) == (6_738_417_664, 6_738_415_616)
    assert made.by_kind[Kind.BUFFER][1] == 32 * 64


@pytest.mark.parametrize(
    ("form", "values", "nbytes"),
    [
        # the seven matrices of a layer have n = 202,375,168 values: n / 2 bytes of words, 2 n / 128 of scales and
        # n / 256 of zeros; g_idx are four bytes for each of 6 x 4,096 + 11,008 inputs
        ("awq", 6_738_415_616, 32 * (101_187_584 + 3_162_112 + 790_528) + 524_820_480),
        ("gptq", 6_738_415_616, 32 * (101_187_584 + 3_162_112 + 790_528 + 142_336) + 524_820_480),
    ],
)
def test_llama_2_in_four_bits(form: str, values: int, nbytes: int, tmp_path: Path) -> None:
    """524,820,480: both tables of 32,000 x 4,096, 65 norms of 4,096, in two bytes; no public total is known to us."""
    made = explained("llama-2-7b", LLAMA2_7B.packed(form), tmp_path)
    assert made.by_kind[Kind.PARAMETER][1] == values
    assert made.file.nbytes == nbytes + 32 * 64 * 4


def test_deepseek_v3(tmp_path: Path) -> None:
    tensors = deepseek_v3()
    names = list(tensors)
    halves = [names[:45_000], names[45_000:]]
    index = write_shards(tmp_path / "m", [{name: tensors[name] for name in half} for half in halves])
    file = read_index(index)
    by_dtype = {dtype: (count, elements, nbytes) for dtype, count, elements, nbytes in file.by_dtype()}
    assert by_dtype == {
        "F8_E4M3": (45_808, 680_571_043_840, 680_571_043_840),
        "BF16": (316, 3_918_786_560, 2 * 3_918_786_560),
        "F32": (45_867, 41_555_600, 4 * 41_555_600),
    }
    assert (len(file.tensors), file.elements, file.nbytes) == (91_991, 684_531_386_000, 688_574_839_360)
    # What the files have beside the tensors are their headers: between 100 and 150 bytes for each tensor.
    headers = 688_586_727_753 - file.nbytes
    assert 100 < headers / len(file.tensors) < 150
    made = join(catalog.find("deepseek-v3").base, file)
    assert made.explained, made.lacking
    assert (made.params_total, made.further_expected) == (671_026_404_352, 11_610_067_968)
    # 11,610,067,968 of the layer itself, by the spec; copies of both tables; its scales and its correction
    copies, scales = 2 * 129_280 * 7_168, made.by_kind[Kind.MTP][1] - made.further_expected - 2 * 129_280 * 7_168
    assert made.by_kind[Kind.BUFFER][1] == 59 * 256
    assert made.held_bytes == made.stated_bytes == 673_150_552_416
    assert made.by_kind[Kind.QUANTISATION][1] + scales + 59 * 256 == 41_555_600
    assert made.params_total + made.further_expected + copies + 41_555_600 == 684_531_386_000


@pytest.mark.parametrize(
    ("ref", "layers", "experts", "nbytes"),
    [("gpt-oss-20b", 24, 32, 13_761_264_768), ("gpt-oss-120b", 36, 128, 65_248_815_744)],
)
def test_gpt_oss(ref: str, layers: int, experts: int, nbytes: int, tmp_path: Path) -> None:
    made = explained(ref, gpt_oss(layers, experts), tmp_path)
    assert made.file.nbytes == nbytes
    scales = layers * experts * (2 * 2880 + 2880) * 90  # one for 32 values of each row of 2,880
    assert made.by_kind[Kind.QUANTISATION] == (2 * layers, scales, scales)
