"""Whatever a config says, the import answers with a spec or with a SpecError that names a place, and soon.

`LLMPROF_FUZZ=N` makes N times as many examples; 1 is what CI runs.
"""

from __future__ import annotations

import json
import os
import time
import tracemalloc
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmprof.errors import LlmprofError, Problem, SpecError
from llmprof.importing import families
from llmprof.importing.jsontext import MAX_BYTES, decode
from llmprof.importing.read import Imported, import_config
from llmprof.predict.parameters import parameters
from llmprof.spec.dump import dump
from llmprof.spec.load import load_text
from tests.importing import cases

TIMES = int(os.environ.get("LLMPROF_FUZZ", "1"))
SECONDS = 5.0
CONFIGS = [config for case in cases() for _, config in case.configs()]
SAMPLES = st.sampled_from(CONFIGS)

fuzz = settings(
    max_examples=200 * TIMES, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)

ODD: list[Any] = [
    None, True, False, 0, -1, 1, 2, 3, 7, 2**31, 2**40, 2**40 + 1, 2**63, 10**30, -(2**63), 0.5, -0.0, 1e300, 1e-300,
    "", "x", "relu", "gelu", "silu", "12", "null", "é\u2028", "\ud800", [], [None], [0], [1, 2, 3], ["a"], [[]],
    ["full_attention"], ["sliding_attention"], {}, {"a": 1}, {"rope_type": "yarn", "factor": 0}, {"rope_theta": None},
]  # fmt: skip
JSON = st.recursive(
    st.sampled_from([value for value in ODD if not isinstance(value, list | dict)])
    | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


def answered(data: bytes) -> Imported | None:
    """What a config comes to, or None where it is refused at a place of the file; anything else fails the test."""
    begin = time.process_time()
    try:
        found = import_config(decode(data, "config.json"), None, name="fuzzed")
    except SpecError as error:
        assert error.problems
        lines = len(data.splitlines()) + 2
        for problem in error.problems:
            in_place(problem, lines)
        found = None
    assert time.process_time() - begin < SECONDS
    if found is not None:
        assert parameters(found.spec.base).total > 0
    return found


def in_place(problem: Problem, lines: int) -> None:
    """A problem says where it is and what was found there, in a message of bounded length."""
    assert problem.file == "config.json"
    assert problem.found
    assert len(str(problem)) < 12_000
    assert problem.line is None or 1 <= problem.line <= lines


@fuzz
@given(st.binary(max_size=400))
def test_any_bytes(data: bytes) -> None:
    answered(data)


@fuzz
@given(JSON)
def test_any_json(value: Any) -> None:
    answered(json.dumps(value).encode("utf-8", "surrogatepass"))


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The place of every value below an object."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*at, key)
        yield from places(item, (*at, key))


def put(config: dict[str, Any], at: tuple[Any, ...], value: Any) -> None:
    for key in at[:-1]:
        config = config[key]
    config[at[-1]] = deepcopy(value)  # an odd value that is put into itself would have no end


@fuzz
@given(SAMPLES, st.data())
def test_fields_with_odd_values(config: dict[str, Any], data: st.DataObject) -> None:
    changed = json.loads(json.dumps(config))
    for _ in range(data.draw(st.integers(1, 3))):
        own = [at for at in places(changed) if at != ("model_type",)]
        put(changed, data.draw(st.sampled_from(own)), data.draw(st.sampled_from(ODD) | JSON))
    answered(json.dumps(changed).encode("utf-8", "surrogatepass"))


@fuzz
@given(SAMPLES, st.text(max_size=30), JSON)
def test_a_field_that_nobody_knows(config: dict[str, Any], key: str, value: Any) -> None:
    found = answered(json.dumps({**config, key: value}).encode("utf-8", "surrogatepass"))
    if found is not None and key not in config:
        assert value is None or parameters(found.spec.base).total > 0


@fuzz
@given(SAMPLES, st.data())
def test_a_file_that_is_cut_or_damaged(config: dict[str, Any], data: st.DataObject) -> None:
    whole = json.dumps(config, indent=1).encode()
    end = data.draw(st.integers(0, len(whole)))
    begin = data.draw(st.integers(0, end))
    answered(whole[:begin] + data.draw(st.binary(max_size=6)) + whole[end:])


@pytest.mark.parametrize("model_type", families.known())
def test_every_field_of_every_family_with_every_odd_value(model_type: str) -> None:
    """Field by field, so that each family's table meets each kind of nonsense; a few kinds a field, if not in a long run."""
    for config in [c for c in CONFIGS if c["model_type"] == model_type][: None if TIMES > 1 else 1]:
        for number, at in enumerate(list(places(config))):
            if at == ("model_type",):
                continue
            for value in ODD if TIMES > 1 else ODD[number % 11 :: 11]:
                changed = json.loads(json.dumps(config))
                put(changed, at, value)
                answered(json.dumps(changed).encode("utf-8", "surrogatepass"))


HOSTILE = {
    "deep": b'{"model_type": "llama", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep objects": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    "a million keys": b'{"model_type": "llama", ' + b", ".join(b'"%d": 1' % i for i in range(250_000)) + b"}",
    "as many keys as may be": b'{"model_type": "llama", ' + b", ".join(b'"%d": 1' % i for i in range(90_000)) + b"}",
    "a long number": b'{"model_type": "llama", "vocab_size": ' + b"9" * 1_000_000 + b"}",
    "a long key": b'{"model_type": "llama", "' + b"k" * 1_000_000 + b'": 1}',
    "a long text": b'{"model_type": "' + b"k" * 1_000_000 + b'"}',
    "twice": b'{"model_type": "llama", "vocab_size": 1, "vocab_size": 2}',
    "not a number": b'{"model_type": "llama", "rope_theta": NaN}',
    "too large": b" " * (MAX_BYTES + 1),
    "many wrong fields": b'{"model_type": "llama", ' + b", ".join(b'"f%d": 1' % i for i in range(20_000)) + b"}",
    "a long list": b'{"model_type": "qwen3", "layer_types": [' + b"1," * 99_000 + b"1]}",
    "many layers": b'{"model_type": "llama", "num_hidden_layers": 1099511627776}',
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_meant_to_hurt(name: str) -> None:
    data = HOSTILE[name]
    tracemalloc.start()
    try:
        assert answered(data) is None
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 400 << 20


def test_what_is_imported_is_loaded_and_dumped_as_itself() -> None:
    seen: set[str] = set()
    for config in CONFIGS:
        found = import_config(decode(json.dumps(config).encode(), "config.json"), None, name="imported")
        loaded = load_text(found.text)
        assert loaded.base == found.spec.base
        if config["model_type"] in seen:  # one of each family goes the whole way round
            continue
        seen.add(config["model_type"])
        again = load_text(dump(loaded))
        assert again.base == loaded.base
        assert dump(again) == dump(loaded)
        assert load_text(dump(found.spec.base)).base == found.spec.base


def test_the_check_can_fail() -> None:
    with pytest.raises(LlmprofError):
        import_config(decode(b"{}", "config.json"), None)
