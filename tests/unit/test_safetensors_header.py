"""Headers of safetensors files: what is read, and every way in which one can be wrong."""

from __future__ import annotations

import json
import re
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors import SafetensorError, safe_open

from llmprof.errors import SpecError
from llmprof.importing.headers.safetensors import BITS, MAX_HEADER, read_safetensors
from llmprof.importing.headers.shards import read_folder, read_index
from llmprof.importing.headers.tensor import MAX_ELEMENTS, MAX_TENSORS
from tests.weights import sparse, write_safetensors, write_shards


def written(path: Path, entries: Any, behind: int = 0) -> Path:
    """A file with any JSON for a header."""
    text = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    return sparse(path, struct.pack("<Q", len(text)) + text, behind)


def entry(dtype: Any = "F32", shape: Any = (2, 3), offsets: Any = (0, 24)) -> dict[str, Any]:
    """One tensor's entry."""
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def test_a_file_by_hand(tmp_path: Path) -> None:
    tensors = {"a.weight": ("BF16", [2, 3]), "b": ("F32", []), "empty": ("F32", [0, 4]), "c": ("F4", [6])}
    file = read_safetensors(write_safetensors(tmp_path / "x.safetensors", tensors, {"format": "pt"}))
    assert [(t.name, t.dtype, t.shape, t.nbytes) for t in file.tensors] == [
        ("a.weight", "BF16", (2, 3), 12),
        ("b", "F32", (), 4),
        ("empty", "F32", (0, 4), 0),
        ("c", "F4", (6,), 3),
    ]
    assert (file.elements, file.nbytes) == (6 + 1 + 0 + 6, 19)
    assert list(file.by_dtype()) == [("BF16", 1, 6, 12), ("F32", 2, 1, 4), ("F4", 1, 6, 3)]


def test_the_official_writer_s_files_are_read(tmp_path: Path) -> None:
    import torch

    path = tmp_path / "x.safetensors"
    made = {
        "b.bias": torch.zeros(5),
        "a.weight": torch.zeros(5, 2, dtype=torch.bfloat16),
        "n": torch.zeros((), dtype=torch.int64),
    }
    from safetensors.torch import save_file

    save_file(made, str(path))
    with safe_open(str(path), "pt") as official:
        theirs = {name: tuple(official.get_slice(name).get_shape()) for name in official.keys()}  # noqa: SIM118
    file = read_safetensors(path)
    assert {tensor.name: tensor.shape for tensor in file.tensors} == theirs
    assert {tensor.name: tensor.dtype for tensor in file.tensors} == {"b.bias": "F32", "a.weight": "BF16", "n": "I64"}


@pytest.mark.parametrize("dtype", BITS)
def test_the_official_reader_has_the_same_size_of_each_dtype(dtype: str, tmp_path: Path) -> None:
    """Eight values are whole bytes in each dtype; the official reader takes the file of that size alone."""
    path = tmp_path / "x.safetensors"
    written(path, {"x": entry(dtype, [8], [0, BITS[dtype]])}, BITS[dtype])
    assert read_safetensors(path).nbytes == BITS[dtype]
    with safe_open(str(path), "np") as official:
        assert list(official.keys()) == ["x"]
    written(path, {"x": entry(dtype, [8], [0, BITS[dtype] + 1])}, BITS[dtype] + 1)
    with pytest.raises(SpecError, match=r"the .* bytes of 8 values"):
        read_safetensors(path)
    with pytest.raises(SafetensorError):
        safe_open(str(path), "np")


def test_there_are_no_other_dtypes(tmp_path: Path) -> None:
    """The official reader lists those that it knows where it meets another."""
    path = written(tmp_path / "x.safetensors", {"x": entry("F5", [1], [0, 4])}, 4)
    with pytest.raises(SafetensorError) as caught:
        safe_open(str(path), "np")
    assert set(re.findall(r"`([A-Z0-9_]+)`", str(caught.value))) - {"F5"} == set(BITS)


WRONG: dict[str, tuple[Any, int, str]] = {
    "no object": ([1], 0, "does not begin with {"),
    "no JSON": (b'{"a": }', 0, "not JSON"),
    "NaN": (b'{"a": {"dtype": "F32", "shape": [NaN], "data_offsets": [0, 4]}}', 4, "NaN"),
    "a key twice": (b'{"a": 1, "a": 2}', 0, "stands twice"),
    "deep": (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, 0, "not JSON"),
    "no UTF-8": (b'{"\xff": 1}', 0, "UTF-8"),
    "half a surrogate": (b'{"a\\ud800": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]}}', 4, "surrogate"),
    "metadata of numbers": ({"__metadata__": {"a": 1}}, 0, "values are texts"),
    "metadata no object": ({"__metadata__": "a"}, 0, "values are texts"),
    "an entry that is a list": ({"a": [1]}, 0, "an object with dtype"),
    "an entry without offsets": ({"a": {"dtype": "F32", "shape": [1]}}, 4, "an object with dtype"),
    "an entry with more": ({"a": entry() | {"x": 1}}, 24, "an object with dtype"),
    "unknown dtype": ({"a": entry("F23")}, 24, "one of BOOL"),
    "dtype no text": ({"a": entry(7)}, 24, "one of BOOL"),
    "negative": ({"a": entry(shape=[-2, -3])}, 24, "whole numbers"),
    "a fraction": ({"a": entry(shape=[2.0, 3])}, 24, "whole numbers"),
    "a truth for a size": ({"a": entry(shape=[True, 6])}, 24, "whole numbers"),
    "too many axes": ({"a": entry(shape=[1] * 17)}, 24, "whole numbers"),
    "an overflow": ({"a": entry(shape=[2**32, 2**32])}, 24, f"at most {MAX_ELEMENTS:,} values"),
    "an overflow behind a zero": ({"a": entry(shape=[2**40, 2**40, 0], offsets=[0, 0])}, 0, "at most"),
    "a huge size": ({"a": entry(shape=[10**39])}, 24, "whole numbers"),
    "a number of many digits": (b'{"a": {"dtype": "F32", "shape": [1' + b"0" * 5000 + b"]}}", 0, "digits"),
    "offsets backwards": ({"a": entry(offsets=[24, 0])}, 24, "which are -24 bytes"),
    "three offsets": ({"a": entry(offsets=[0, 24, 24])}, 24, "two whole numbers"),
    "another number of bytes": ({"a": entry(offsets=[0, 20])}, 20, "the 24 bytes of 6 values"),
    "half a byte": ({"a": entry("F4", [3], [0, 1])}, 1, "whole bytes"),
    "an overlap": ({"a": entry(), "b": entry(offsets=[12, 36])}, 36, "overlaps"),
    "a hole": ({"a": entry(), "b": entry(offsets=[28, 52])}, 52, "leaves 4 bytes"),
    "a hole at the begin": ({"a": entry(offsets=[4, 28])}, 28, "leaves 4 bytes"),
    "beyond the file": ({"a": entry()}, 23, "may have been cut off"),
    "bytes of nobody": ({"a": entry()}, 25, "of which the tensors take 24"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_the_format_forbids_is_refused(case: str, tmp_path: Path) -> None:
    entries, behind, words = WRONG[case]
    path = written(tmp_path / "x.safetensors", entries, behind)
    with pytest.raises(SpecError) as caught:
        read_safetensors(path)
    assert words in str(caught.value)
    assert str(caught.value).startswith(str(path))
    assert len(str(caught.value)) < 1200


STRICTER = {"an entry with more", "too many axes", "half a surrogate", "a fraction", "an overflow behind a zero"}
"""What the official reader may take all the same: none of it is written by anybody."""


@pytest.mark.parametrize("case", sorted(set(WRONG) - STRICTER))
def test_the_official_reader_refuses_it_too(case: str, tmp_path: Path) -> None:
    entries, behind, _ = WRONG[case]
    path = written(tmp_path / "x.safetensors", entries, behind)
    with pytest.raises(SafetensorError):
        safe_open(str(path), "np")


@pytest.mark.parametrize(
    ("head", "size", "words"),
    [
        (b"", 0, "begins with a length"),
        (b"\x08\0\0", 3, "begins with a length"),
        (struct.pack("<Q", 2**63), 100, "9,223,372,036,854,775,808 bytes"),
        (struct.pack("<Q", 2**64 - 1), 100, "bytes"),
        (struct.pack("<Q", MAX_HEADER + 1), 10**9, "at most 100,000,000"),
        (struct.pack("<Q", 93), 100, "in a file of 100"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", 60, "git lfs pull"),
    ],
)
def test_a_lying_length_is_refused_before_anything_is_read(head: bytes, size: int, words: str, tmp_path: Path) -> None:
    path = sparse(tmp_path / "x.safetensors", head, size - len(head))
    with pytest.raises(SpecError, match=words):
        read_safetensors(path)


def test_a_million_keys_are_refused_at_once(tmp_path: Path) -> None:
    many = (
        b"{" + b",".join(b'"%d":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}' % i for i in range(1_100_000)) + b"}"
    )
    path = written(tmp_path / "x.safetensors", many)
    start = time.perf_counter()
    with pytest.raises(SpecError, match=f"at most {MAX_TENSORS:,} tensors"):
        read_safetensors(path)
    assert time.perf_counter() - start < 10


def test_no_file_and_no_regular_file(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no such file"):
        read_safetensors(tmp_path / "x.safetensors")
    with pytest.raises(SpecError, match="directory"):
        read_safetensors(tmp_path)
    with pytest.raises(SpecError, match="no regular file"):
        read_safetensors(Path("/dev/null"))
    with pytest.raises(SpecError, match="cannot be read"):
        read_safetensors(Path("a\0b"))


# --- an index and its shards ------------------------------------------------------------------------

SHARDS = [{"a": ("F32", [2]), "b": ("F32", [3])}, {"c": ("BF16", [4])}]


def test_an_index_is_its_shards(tmp_path: Path) -> None:
    file = read_index(write_shards(tmp_path / "m", SHARDS))
    assert [(tensor.name, tensor.file[:11]) for tensor in file.tensors] == [
        ("a", "model-00001"),
        ("b", "model-00001"),
        ("c", "model-00002"),
    ]
    assert file.nbytes == 8 + 12 + 8
    assert file.facts == ("the index states a total_size of 28 bytes, which the headers confirm",)
    assert read_folder(tmp_path / "m") == read_index(tmp_path / "m" / "model.safetensors.index.json")


@pytest.mark.parametrize(
    ("said", "fact"),
    [
        ({"total_size": 29}, "29, and the headers come to 28 bytes"),
        ({}, "no total_size"),
        ({"total_size": 28.0}, "28.0"),
    ],
)
def test_the_total_size_is_a_fact_and_not_trusted(said: dict[str, Any], fact: str, tmp_path: Path) -> None:
    file = read_index(write_shards(tmp_path / "m", SHARDS, metadata=said))
    assert fact in file.facts[0]
    assert file.nbytes == 28


FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


@pytest.mark.parametrize(
    ("weight_map", "words"),
    [
        (None, "an object of tensors"),
        ({}, "an object of tensors"),
        ({"a": FIRST, "c": SECOND}, r"weight_map\.b: not in the index"),
        ({"a": FIRST, "b": FIRST, "c": FIRST}, "not in the index|which is in none"),
        ({"a": FIRST, "b": SECOND, "c": SECOND}, f"which is in {FIRST}"),
        ({"a": FIRST, "b": FIRST, "c": SECOND, "d": SECOND}, "which is in none"),
        ({"a": FIRST, "b": FIRST, "c": "other.safetensors"}, "no such file"),
        ({"a": "../m/" + FIRST}, "a file beside the index"),
        ({"a": "/etc/passwd"}, "a file beside the index"),
        ({"a": "..\\" + FIRST}, "a file beside the index"),
        ({"a": "model.bin"}, "a file beside the index"),
        ({"a": 7}, "a file beside the index"),
    ],
)
def test_an_index_that_its_shards_deny(weight_map: Any, words: str, tmp_path: Path) -> None:
    index = write_shards(tmp_path / "m", SHARDS, weight_map=weight_map)
    with pytest.raises(SpecError, match=words):
        read_index(index)


def _shards(folder: Path) -> None:
    write_shards(folder, SHARDS)
    (folder / "model.safetensors.index.json").unlink()


def _both(folder: Path) -> None:
    write_shards(folder, [SHARDS[0], {"a": ("F32", [2])}])
    (folder / "model.safetensors.index.json").unlink()


def _one_missing(folder: Path) -> None:
    _shards(folder)
    (folder / FIRST).unlink()


def _and_another(folder: Path) -> None:
    _shards(folder)
    write_safetensors(folder / "adapter.safetensors", SHARDS[0])


def _two_indices(folder: Path) -> None:
    index = write_shards(folder, SHARDS)
    (folder / "other.safetensors.index.json").write_bytes(index.read_bytes())


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: folder.mkdir(), "without safetensors files"),
        (_both, f"found in {FIRST} and in {SECOND}"),
        (_one_missing, f"{FIRST} is missing"),
        (_and_another, "no one set"),
        (_two_indices, "several indices"),
    ],
)
def test_a_folder_that_is_no_one_release(make: Callable[[Path], None], words: str, tmp_path: Path) -> None:
    make(tmp_path / "m")
    with pytest.raises(SpecError, match=words):
        read_folder(tmp_path / "m")


def test_shards_without_an_index(tmp_path: Path) -> None:
    _shards(tmp_path / "m")
    assert read_folder(tmp_path / "m").nbytes == 28
