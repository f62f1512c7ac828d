"""Headers of GGUF files: what is read, every way in which one can be wrong, and our table of types against gguf's."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from llmprof.errors import SpecError
from llmprof.importing.headers.ggml import TYPES
from llmprof.importing.headers.gguf import MAX_KEYS, Array, read_gguf
from llmprof.importing.headers.tensor import MAX_TENSORS
from tests.weights import Gguf, sparse


def small(order: str = "<", version: int = 3) -> Gguf:
    """A file of two tensors and keys of many kinds."""
    made = Gguf(order, version)
    made.key("general.architecture", "llama").key("llama.block_count", 2).key("a.u64", 2**40, "u64")
    made.key("a.float", 0.5).key("a.truth", True).key("a.negative", -3, "i32")
    made.key("a.list", [1, 2, 3]).key("a.words", ["x", "yz"]).key("a.nested", [[1, 2], [3]]).key(
        "a.truths", [True, False]
    )
    made.tensor("token_embd.weight", "Q4_K", [10, 256]).tensor("output_norm.weight", "F32", [3])
    return made


@pytest.mark.parametrize(("order", "version"), [("<", 3), ("<", 2), (">", 3)])
def test_a_file_by_hand(order: str, version: int, tmp_path: Path) -> None:
    file = read_gguf(small(order, version).write(tmp_path / "x.gguf"))
    # 10 rows of one block of 256 values in 144 bytes; then, aligned to 32, three values of four bytes
    assert [(t.name, t.dtype, t.shape, t.nbytes) for t in file.tensors] == [
        ("token_embd.weight", "Q4_K", (10, 256), 1440),
        ("output_norm.weight", "F32", (3,), 12),
    ]
    assert file.facts == (("the file is big-endian",) if order == ">" else ())
    assert file.metadata["llama.block_count"] == 2
    assert file.metadata["a.u64"] == 2**40
    assert file.metadata["a.float"] == 0.5
    assert file.metadata["a.truth"] is True
    assert file.metadata["a.negative"] == -3
    assert file.metadata["a.list"] == [1, 2, 3]
    assert file.metadata["a.truths"] == [True, False]
    assert file.metadata["a.nested"] == [[1, 2], [3]]
    words = file.metadata["a.words"]
    assert isinstance(words, Array)
    assert words.length == 2
    assert not words, "of texts only their number is kept"


def test_the_table_of_types_is_gguf_s() -> None:
    gguf = pytest.importorskip("gguf")
    theirs = {int(kind): (kind.name, *sizes) for kind, sizes in gguf.GGML_QUANT_SIZES.items()}
    assert {number: (kind.name, kind.block, kind.nbytes) for number, kind in TYPES.items()} == theirs


def test_the_official_reader_reads_the_same(tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    path = small().write(tmp_path / "x.gguf")
    theirs = {
        t.name: (t.tensor_type.name, tuple(int(n) for n in reversed(t.shape)), int(t.n_bytes))
        for t in gguf.GGUFReader(path).tensors
    }
    assert {t.name: (t.dtype, t.shape, t.nbytes) for t in read_gguf(path).tensors} == theirs


def test_another_alignment(tmp_path: Path) -> None:
    made = Gguf()
    made.alignment = 64
    made.key("general.alignment", 64).tensor("a", "F32", [3]).tensor("b", "F32", [3])
    assert [t.nbytes for t in read_gguf(made.write(tmp_path / "x.gguf")).tensors] == [12, 12]


def test_bytes_behind_the_last_tensor_are_a_fact(tmp_path: Path) -> None:
    made = small()
    path = sparse(tmp_path / "x.gguf", made.header(), made.end + 1000)
    assert read_gguf(path).facts[0].endswith("bytes stand behind the last tensor")


def whole(*keys: bytes, infos: tuple[bytes, ...] = (), counts: tuple[int, int] | None = None) -> bytes:
    """A header of these pieces; `counts` are of tensors and keys where they lie."""
    made = Gguf()
    made.keys, made.infos = list(keys), list(infos)
    head = made.header()
    return head if counts is None else head[:8] + struct.pack("<QQ", *counts) + head[24:]


G = Gguf()
KEY = G.text("k")


def key(kind: int, rest: bytes) -> bytes:
    """A key with a value of any type."""
    return KEY + struct.pack("<I", kind) + rest


def array(kind: int, length: int, rest: bytes = b"") -> bytes:
    """The value of an array, without its own type."""
    return struct.pack("<IQ", kind, length) + rest


INFO = G.info("t", [4], 0, 0)
WRONG = {
    "another magic": (b"GGML" + bytes(20), "begins with GGUF"),
    "an old version": (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "version 2 or 3"),
    "a future version": (b"GGUF" + struct.pack("<IQQ", 4, 0, 0), "version 2 or 3"),
    "many tensors": (whole(counts=(2**63, 0)), f"at most {MAX_TENSORS:,}"),
    "many keys": (whole(counts=(0, 2**63)), f"at most {MAX_KEYS:,}"),
    "keys that are not there": (whole(counts=(0, 5)), "holds its header"),
    "a key twice": (whole(key(4, bytes(4)), key(4, bytes(4))), "each key once"),
    "a long key": (whole(struct.pack("<Q", 2**62)), "at most 65,536"),
    "a key of no text": (whole(struct.pack("<Q", 1) + b"\xff" + struct.pack("<I", 4) + bytes(4)), "UTF-8"),
    "an unknown type": (whole(key(13, bytes(8))), "types 0 to 12"),
    "a truth of 2": (whole(key(7, b"\x02")), "0 or 1"),
    "a truth of 2 in a list": (whole(key(9, array(7, 1, b"\x02"))), "0 or 1"),
    "a long text": (whole(key(8, struct.pack("<Q", 2**63))), "at most 268,435,456"),
    "a long list": (whole(key(9, array(4, 2**62))), "values in all metadata"),
    "a long list of lists": (whole(key(9, array(9, 2**40))), "values in all metadata"),
    "a list that is not there": (whole(key(9, array(4, 1000))), "holds its header"),
    "a list of unknown things": (whole(key(9, array(99, 1, bytes(8)))), "types 0 to 12"),
    "a long text in a list": (whole(key(9, array(8, 1, struct.pack("<Q", 2**63)))), "holds its header"),
    "nested too deep": (
        whole(key(9, array(9, 1, array(9, 1, array(9, 1, array(9, 1, array(4, 0))))))),
        "nested deeper",
    ),
    "many axes": (whole(infos=(G.info("t", [1] * 5, 0, 0),)), "at most 4"),
    "an overflow": (whole(infos=(G.info("t", [2**40, 2**40], 0, 0),)), "values"),
    "a withdrawn type": (whole(infos=(G.info("t", [32], 4, 0),)), "type 4"),
    "an unknown tensor type": (whole(infos=(G.info("t", [32], 2**31, 0),)), "type 2147483648"),
    "half a block": (whole(infos=(G.info("t", [100], 12, 0),)), "whole blocks of 256"),
    "no alignment": (whole(infos=(INFO, G.info("u", [4], 0, 40))), "a multiple of 32"),
    "an overlap": (whole(infos=(INFO, G.info("u", [4], 0, 0))), "overlap"),
    "a hole": (whole(infos=(INFO, G.info("u", [4], 0, 64))), "no tensor has"),
    "a tensor twice": (whole(infos=(INFO, G.info("t", [4], 0, 32))), "each tensor once"),
    "beyond the file": (whole(infos=(G.info("t", [2**30], 0, 0),)), "may have been cut off"),
    "an odd alignment": (whole(G.text("general.alignment") + G.value(48, "u32")), "a power of two"),
    "no number for an alignment": (whole(G.text("general.alignment") + G.value("32", "u32")), "a power of two"),
    "a pointer": (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    "nothing": (b"", "begins with GGUF"),
    "a magic alone": (b"GGUF", "holds its header"),
}


IN_RANGE = {"an overlap", "a hole", "a tensor twice", "no alignment"}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_refused(case: str, tmp_path: Path) -> None:
    head, words = WRONG[case]
    path = sparse(tmp_path / "x.gguf", head, 64 if case in IN_RANGE else 0)
    with pytest.raises(SpecError) as caught:
        read_gguf(path)
    assert words in str(caught.value)
    assert str(caught.value).startswith(str(path))


def part(number: int, count: int, tensors: list[str]) -> Gguf:
    """One file of a set that was split."""
    made = Gguf().key("general.architecture", "llama")
    made.key("split.no", number, "u16").key("split.count", count, "u16")
    for name in tensors:
        made.tensor(name, "F32", [4])
    return made


def test_a_set_that_was_split(tmp_path: Path) -> None:
    part(0, 2, ["a"]).write(tmp_path / "m-00001-of-00002.gguf")
    second = tmp_path / "m-00002-of-00002.gguf"
    first = tmp_path / "m-00001-of-00002.gguf"
    with pytest.raises(SpecError, match="no such file"):
        read_gguf(first)
    part(1, 2, ["b", "c"]).write(second)
    assert [t.name for t in read_gguf(first).tensors] == ["a", "b", "c"]
    assert len(read_gguf(first).files) == 2
    with pytest.raises(SpecError, match="the first part"):
        read_gguf(second)
    part(1, 2, ["a"]).write(second)
    with pytest.raises(SpecError, match="each tensor once"):
        read_gguf(first)
    part(0, 2, ["b"]).write(second)
    with pytest.raises(SpecError, match=r"split\.no"):
        read_gguf(first)
    part(0, 2, ["b"]).write(tmp_path / "other.gguf")
    with pytest.raises(SpecError, match="a name that ends in"):
        read_gguf(tmp_path / "other.gguf")
