"""Headers that lie: whatever the bytes, one of our own errors leaves or nothing does, in bounded time and memory.

``LLMPROF_FUZZ_SECONDS=600`` tries for so long instead of for a few seconds, and prints how many inputs it tried.
"""

from __future__ import annotations

import json
import os
import random
import struct
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmprof.errors import LlmprofError
from llmprof.importing.gguf.read import config_of, import_gguf
from llmprof.importing.headers.gguf import read_gguf
from llmprof.importing.headers.safetensors import BITS, read_safetensors
from llmprof.importing.headers.shards import read_index
from llmprof.importing.headers.tensor import StoredFile
from llmprof.spec.load import load_text
from llmprof.stored.join import join
from tests.small_gguf import small_llama
from tests.unit.test_stored_join import DENSE, SPEC
from tests.weights import Gguf, header, write_shards

SECONDS = float(os.environ.get("LLMPROF_FUZZ_SECONDS", "2"))
"""For each of the two formats."""
SLOWEST = 5.0
LARGEST = 64 << 20
"""Bytes that reading one of these small headers may take."""

SMALL: dict[str, tuple[str, list[int]]] = {
    "lm_head.weight": ("BF16", [512, 128]),
    "model.layers.0.mlp.up_proj.qweight": ("I32", [16, 256]),
    "model.layers.0.mlp.up_proj.qzeros": ("I32", [2, 32]),
    "model.layers.0.mlp.up_proj.scales": ("F16", [2, 256]),
    "model.layers.0.mlp.experts.1.w1.weight": ("F8_E4M3", [4]),
}
SAFETENSORS, DATA = header(SMALL, {"format": "pt"})
MADE = small_llama(**{"general.tags": ["a", "b"], "tokenizer.nested": [[1], [2, 3]]})
GGUF = MADE.header()
ARCH = load_text(SPEC.format(tied="false", ffn=DENSE)).base

LENGTHS = (0, 1, 7, 8, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**53, 2**62, 2**63 - 1, 2**63, 2**64 - 1)
"""Numbers that overflow something somewhere."""


def _safetensors(path: Path) -> StoredFile:
    file = read_safetensors(path)
    made = join(ARCH, file)
    assert sum(item.nbytes for item in made.items) == file.nbytes
    assert sum(values for _, values in made.balance()) == made.values
    return file


def _gguf(path: Path) -> StoredFile:
    file = read_gguf(path)
    assert sum(item.nbytes for item in join(ARCH, file).items) == file.nbytes
    config_of(file)
    import_gguf(file, path)
    return file


READERS: dict[str, tuple[bytes, Callable[[Path], StoredFile]]] = {
    "x.safetensors": (SAFETENSORS, _safetensors),
    "x.gguf": (GGUF, _gguf),
}


WHOLE = {"x.safetensors": DATA, "x.gguf": -(-MADE.end // 32) * 32}
"""Bytes behind the header as it stands."""


def survives(path: Path, data: bytes | None, behind: int, read: Callable[[Path], StoredFile]) -> bool:
    """Reads `data` and a hole, or what is there; True where it was taken, False where refused. All else fails."""
    if data is not None:
        path.write_bytes(data)
        if behind:
            os.truncate(path, len(data) + behind)
    try:
        read(path)
    except LlmprofError as error:
        text = str(error)
        assert text, "an error says something"
        assert len(text) < 4000
        return False
    return True


def mutations(rng: random.Random, data: bytes) -> Iterator[bytes]:
    """Changes of a header: bits, bytes, pieces, lengths; without end."""
    while True:
        made = bytearray(data)
        for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
            at, kind = rng.randrange(len(made)), rng.randrange(8)
            if kind == 0:
                made[at] ^= 1 << rng.randrange(8)
            elif kind == 1:
                made[at] = rng.choice(b'\x00\x01\x7f\x80\xff"{}[]:,-.eE0123456789')
            elif kind == 2:
                made[at : at + 8] = struct.pack(rng.choice("<>") + "Q", rng.choice(LENGTHS))
            elif kind == 3:
                made[at : at + 4] = struct.pack("<I", rng.choice(LENGTHS) % 2**32)
            elif kind == 4:
                del made[at : at + rng.choice((1, 2, 4, 8, 64))]
            elif kind == 5:
                other = rng.randrange(len(made))
                made[at:at] = made[other : other + rng.choice((1, 4, 8, 32))]
            elif kind == 6:
                del made[at:]
            else:
                digits = str(rng.choice(LENGTHS)).encode()
                made[at : at + len(digits)] = digits
            if len(made) < 2:
                break
        yield bytes(made)


@pytest.mark.parametrize("name", READERS)
def test_mutated_headers(name: str, tmp_path: Path) -> None:
    data, read = READERS[name]
    assert survives(tmp_path / name, data, WHOLE[name], read)
    rng, tried, taken, slowest = random.Random(20261130), 0, 0, 0.0
    until = time.monotonic() + SECONDS
    peak = 0
    for made in mutations(rng, data):
        start, traced = time.monotonic(), tried % 20 == 0
        if traced:
            tracemalloc.start()
        taken += survives(tmp_path / name, made, rng.choice((0, 64, WHOLE[name], 16_384)), read)
        if traced:
            peak = max(peak, tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        slowest = max(slowest, time.monotonic() - start)
        tried += 1
        if time.monotonic() > until:
            break
    print(
        f"\n{name}: {tried:,} inputs, {taken:,} of them taken, the slowest {slowest:.2f} s, peak {peak / 2**20:.1f} MiB"
    )
    assert tried > 50
    assert slowest < SLOWEST
    assert peak < LARGEST


@pytest.mark.parametrize("name", READERS)
def test_every_truncation(name: str, tmp_path: Path) -> None:
    """A header cut off at any byte is refused, whether the file ends there or goes on with zeros."""
    data, read = READERS[name]
    end = len(data) if name == "x.safetensors" else len(data.rstrip(b"\0"))
    path = tmp_path / name
    path.write_bytes(data)
    for length in reversed(range(end)):
        os.truncate(path, length)
        assert not survives(path, None, 0, read), length
    for length in range(0, end, 1 if SECONDS > 60 else 29):
        survives(path, data[:length], 4096, read)


@pytest.mark.parametrize("name", READERS)
def test_every_bit(name: str, tmp_path: Path) -> None:
    """Each bit turned, or in CI each 29th: refused, or another file that is read."""
    data, read = READERS[name]
    for bit in range(0, 8 * len(data), 1 if SECONDS > 60 else 29):
        made = bytearray(data)
        made[bit // 8] ^= 1 << bit % 8
        survives(tmp_path / name, bytes(made), WHOLE[name], read)


SIZES = st.one_of(
    st.integers(-2, 40), st.sampled_from(LENGTHS), st.booleans(), st.none(), st.floats(), st.text(max_size=3)
)
ENTRIES = st.one_of(
    st.fixed_dictionaries(
        {
            "dtype": st.one_of(st.sampled_from([*BITS, "F23"]), st.integers(), st.none()),
            "shape": st.one_of(st.lists(SIZES, max_size=4), st.none(), st.integers()),
            "data_offsets": st.one_of(st.lists(SIZES, max_size=3), st.none()),
        }
    ),
    st.dictionaries(st.sampled_from(["dtype", "shape", "data_offsets", "x"]), SIZES, max_size=4),
    SIZES,
)
NAMES = st.one_of(
    st.sampled_from(["__metadata__", "lm_head.weight", "model.layers.0.mlp.up_proj.weight", "a.qweight", "a_blocks"]),
    st.text(max_size=6),
)


@settings(max_examples=100 if SECONDS < 60 else 20_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(entries=st.dictionaries(NAMES, ENTRIES, max_size=4), behind=st.integers(0, 200))
def test_any_entries(entries: dict[str, Any], behind: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    text = json.dumps(entries).encode()
    path = tmp_path_factory.getbasetemp() / "any.safetensors"
    survives(path, struct.pack("<Q", len(text)) + text, behind, _safetensors)


@settings(max_examples=100 if SECONDS < 60 else 20_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(index=st.recursive(SIZES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3)))
def test_any_index(index: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.getbasetemp() / "indexed"
    path = write_shards(folder, [{"a": ("F32", [1])}], weight_map=index)
    survives(path, path.read_bytes(), 0, read_index)
    survives(path, json.dumps(index).encode(), 0, read_index)


def _hostile(name: str) -> tuple[str, bytes]:
    """Headers of some megabytes that are made to be expensive."""
    many = 300_000
    key = Gguf().text("k")
    made: dict[str, tuple[str, bytes]] = {
        "brackets": ("x.safetensors", b'{"a":' + b"[" * 3_000_000),
        "objects": ("x.safetensors", b'{"a":' * 1_000_000),
        "empty lists": ("x.safetensors", b'{"a":[' + b"[]," * 3_000_000 + b"[]]}"),
        "digits": ("x.safetensors", b'{"a":' + b"9" * 4_000_000 + b"}"),
        "a long name": ("x.safetensors", b'{"' + b"a" * 8_000_000 + b'":1}'),
        "escapes": ("x.safetensors", b'{"' + b"\\u0041" * 1_000_000 + b'":1}'),
        "numbers": ("x.safetensors", b'{"a":[' + b"1," * 5_000_000 + b"1]}"),
        "a million keys": ("x.safetensors", b"{" + b",".join(b'"%d":{}' % i for i in range(1_000_000)) + b"}"),
        "equal keys": ("x.safetensors", b"{" + b'"a":1,' * 1_000_000 + b'"a":1}'),
        "a list of texts": ("x.gguf", key + struct.pack("<IIQ", 9, 8, many) + bytes(8 * many)),
        "a list of lists": ("x.gguf", key + struct.pack("<IIQ", 9, 9, many) + struct.pack("<IQ", 4, 0) * many),
        "many keys": ("x.gguf", b"".join(Gguf().text(str(i)) + struct.pack("<IB", 0, 1) for i in range(60_000))),
    }
    return made[name]


HOSTILE = (
    "brackets",
    "objects",
    "empty lists",
    "digits",
    "a long name",
    "escapes",
    "numbers",
    "a million keys",
    "equal keys",
    "a list of texts",
    "a list of lists",
    "many keys",
)


@pytest.mark.parametrize("case", HOSTILE)
def test_expensive_headers_are_cheap_to_refuse(case: str, tmp_path: Path) -> None:
    name, body = _hostile(case)
    if name == "x.safetensors":
        data = struct.pack("<Q", len(body)) + body
    else:
        keys = 60_000 if case == "many keys" else 1
        data = b"GGUF" + struct.pack("<IQQ", 3, 0, keys) + body
    start = time.monotonic()
    survives(tmp_path / name, data, 0, READERS[name][1])
    assert time.monotonic() - start < SLOWEST
