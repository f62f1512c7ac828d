"""Dumps and the JSON Schema: both are other ways to say what the loader reads."""

# A row of a table is easier to read on one line.

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import jsonschema
import pytest
from spec_samples import DECODER, ENCODER, GROUPS, PAIR, PREFIX, edited

from llmprof import catalog
from llmprof.spec.arch import ArchSpec
from llmprof.spec.document import Document
from llmprof.spec.dump import dump
from llmprof.spec.emit import emit, flow, text
from llmprof.spec.load import load_text
from llmprof.spec.nodes import plain
from llmprof.spec.schema import json_schema
from llmprof.spec.yamlload import parse

SAMPLES = [DECODER, PREFIX, ENCODER, PAIR, GROUPS]
VARIANTS = "variants:\n  a: {layers.attention.n_kv_heads: 1}\n"


# --- text -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("word", "word"), ("two words", "two words"), ("https://a.org/b", "https://a.org/b"), ("2026-11-23", "2026-11-23"),
        ("", '""'), ("true", '"true"'), ("null", '"null"'), ("~", '"~"'), ("12", '"12"'), ("1e5", '"1e5"'),
        ("a: b", '"a: b"'), ("a:", '"a:"'), ("a,b", '"a,b"'), ("[a]", '"[a]"'), ("#a", '"#a"'), ("a #b", '"a #b"'),
        (" a", '" a"'), ("a ", '"a "'), ('"', '"\\""'), ("\\", '"\\\\"'), ("a\nb", '"a\\nb"'), ("a\tb", '"a\\tb"'),
        ("a?b", '"a?b"'), ("é", '"é"'), ("\u2028", '"\\U00002028"'), ("- a", '"- a"'), ("9" * 50, '"' + "9" * 50 + '"'),
    ],
)  # fmt: skip
def test_text_is_quoted_where_it_would_be_read_as_something_else(value: str, written: str) -> None:
    assert text(value) == written
    assert plain(parse(f"k: {written}\nf: [{written}, {{{written}: {written}}}]\n", file="f")) == {
        "k": value, "f": [value, {value: value}],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (None, "null"), (True, "true"), (False, "false"), (7, "7"), (32000, "32000"), (128256, "128_256"),
        (68_976_648_192, "68_976_648_192"), (1e-5, "1e-05"), (10000.0, "10000"), (500000.0, "500_000"), (0.5, "0.5"),
        (1e30, "1e+30"), ([1, [2]], "[1, [2]]"), ({"a": {"b": []}}, "{a: {b: []}}"), ({}, "{}"),
    ],
)  # fmt: skip
def test_values_on_one_line(value: object, written: str) -> None:
    assert flow(value) == written
    assert plain(parse(f"k: {written}\n", file="f")) == {"k": value}


def test_long_and_nested_mappings_are_blocks() -> None:
    document = {"a": {"b": {"c": 1}, "d": [1, 2]}, "l": ["x" * 70, "y" * 70], "e": {}}
    written = emit(document)
    assert written == "a:\n  b: {c: 1}\n  d: [1, 2]\nl:\n  - " + "x" * 70 + "\n  - " + "y" * 70 + "\ne: {}\n"
    assert plain(parse(written, file="f")) == document


# --- architectures ----------------------------------------------------------------------------


def same(arch: ArchSpec) -> str:
    written = dump(arch)
    assert load_text(written).arch(arch.variant) == arch, written
    return written


@pytest.mark.parametrize("sample", SAMPLES)
def test_a_dump_loads_back_to_the_same(sample: str) -> None:
    same(load_text(sample).base)


def test_a_dump_reads_like_a_spec_and_says_everything() -> None:
    assert (
        dump(load_text(DECODER).base)
        == """\
name: small
source: [{url: https://example.org, read: 2026-11-23}]
structure: causal-decoder
vocab_size: 1000
d_model: 64
max_context: 128
tied_embeddings: false
layers:
  count: 3
  embedding_norm: none
  final_norm: {kind: rmsnorm, weight: true, unit_offset: false, eps: 1e-05}
  norm: {kind: rmsnorm, weight: true, unit_offset: false, eps: 1e-05, placement: pre, first: true}
  attention:
    kind: gqa
    n_heads: 8
    n_kv_heads: 2
    head_dim: 16
    qkv_bias: false
    out_bias: false
    qk_norm_over: head
    sinks: false
    shared_kv: false
  ffn: {kind: swiglu, d_ff: 96, bias: false, down_bias: false, beta: 1}
  block: serial
  residual: {kind: plain, scale: 1}
  position: {kind: rope, theta: 10000, axes: 1}
head: {kind: lm, bias: false}
pooler: false
"""
    )


def test_a_pattern_is_found_again() -> None:
    written = same(load_text(GROUPS).base)
    assert "  pattern: [local, local, global]\n" in written
    assert written.count("kind: gqa") == 2


def test_what_groups_share_is_said_once() -> None:
    text_ = edited(
        GROUPS, ("  count: 8\n  pattern: [local, local, global]\n", ""), ("local: {attention: {window: 32}", "local: {count: 3"),
        ("global: {", "global: {count: 2, "),
    )  # fmt: skip
    written = same(load_text(text_).base)
    assert "pattern" not in written
    assert written.count("kind: gqa") == 1
    assert "  local: {count: 3, position: {kind: rope" in written or "  local:\n    count: 3\n" in written


def test_a_group_named_like_its_stack_beside_a_table_of_positions() -> None:
    arch = load_text(DECODER).base
    embedded = load_text(edited(DECODER, ("{kind: rope, theta: 10000}", "{kind: learned, rows: 128}"))).base
    both = replace(embedded, stacks=(replace(embedded.main, layers=arch.main.layers),))
    assert "  layers:\n" in same(both)


def test_two_layers_under_one_name_are_told_apart() -> None:
    arch = load_text(DECODER).base
    layer = arch.main.layers[0]
    other = replace(layer, attention=replace(layer.attention, window=5))
    mixed = replace(arch, stacks=(replace(arch.main, layers=(layer, other, layer)),))
    again = load_text(dump(mixed)).base
    assert [one.group for one in again.main.layers] == ["layers", "layers-2", "layers"]
    assert [one.attention.window for one in again.main.layers] == [None, 5, None]


def test_a_variant_is_dumped_with_its_name_and_its_own_figure() -> None:
    published = "published: {params_total: 7, source: {url: a}}\n"
    spec = load_text(
        f"{DECODER}{published}variants:\n  v: {{d_model: 8, published: {{params_total: 5, source: {{url: b}}}}}}\n"
    )
    written = same(spec.arch("v"))
    assert "d_model: 8\n" in written
    assert load_text(written).base.published is None


def test_a_spec_file_is_dumped_as_it_is_written() -> None:
    source = edited(DECODER, ("name: small", "name: small\nnotes: 'two\n  lines: #1'\naliases: [A/B]")) + VARIANTS
    spec = load_text(source)
    again = load_text(dump(spec))
    assert (again.base, dict(again.variants)) == (spec.base, dict(spec.variants))
    assert (again.notes, again.aliases, again.overrides()) == (spec.notes, spec.aliases, spec.overrides())
    keys = [line.split(":")[0] for line in dump(spec).splitlines() if not line.startswith(" ")]
    order = [*Document.__dataclass_fields__]
    assert keys == sorted(keys, key=order.index)


def test_every_shipped_architecture_survives_its_dump() -> None:
    for entry in catalog.entries():
        spec = entry.load()
        again = load_text(dump(spec))
        assert (again.base, dict(again.variants)) == (spec.base, dict(spec.variants)), entry.name
        for arch in spec.archs():
            same(arch)


# --- the schema for editors -------------------------------------------------------------------


def as_an_editor_reads(written: str) -> Any:
    return plain(parse(written, file="f"))


@pytest.fixture(scope="module")
def schema() -> jsonschema.Draft202012Validator:
    made = json.loads(json.dumps(json_schema()))
    jsonschema.Draft202012Validator.check_schema(made)
    return jsonschema.Draft202012Validator(made)


@pytest.mark.parametrize("sample", [*SAMPLES, DECODER + VARIANTS, edited(DECODER, ("head_dim: 16", "head_dim: '1_6'"))])
def test_right_specs_satisfy_the_schema(schema: jsonschema.Draft202012Validator, sample: str) -> None:
    schema.validate(as_an_editor_reads(sample))


def test_shipped_specs_and_their_dumps_satisfy_the_schema(schema: jsonschema.Draft202012Validator) -> None:
    for entry in catalog.entries():
        schema.validate(as_an_editor_reads(entry.path.read_text(encoding="utf-8")))
        schema.validate(as_an_editor_reads(dump(entry.load().base)))


@pytest.mark.parametrize(
    ("sample", "edit"),
    [
        (DECODER, ("d_model: 64", "d_modle: 64")), (DECODER, ("d_model: 64", "d_model: x")), (DECODER, ("d_model: 64", "d_model: 0")),
        (DECODER, ("name: small", "name: Small")), (DECODER, ("n_heads: 8", "n_haeds: 8")),
        (DECODER, ("kind: swiglu", "kind: silu")), (DECODER, ("causal-decoder", "encoder-decoder")), (PAIR, ("decoder:\n", "dekoder:\n")),
        (PAIR, ("encoder-decoder", "causal-decoder")), (DECODER, ("{kind: rope, theta: 10000}", "{theta: 10000}")),
        (ENCODER, ("head: {kind: mlm", "head: {kind: mlp")), (DECODER, ("tied_embeddings: false", "tied_embeddings: no")),
        (GROUPS, ("window: 32", "windw: 32")), (GROUPS, ("window: 32", "window: 0")),
    ],
)  # fmt: skip
def test_wrong_specs_do_not(schema: jsonschema.Draft202012Validator, sample: str, edit: tuple[str, str]) -> None:
    assert not schema.is_valid(as_an_editor_reads(edited(sample, edit)))


def test_the_schema_explains_itself(schema: jsonschema.Draft202012Validator) -> None:
    made = json_schema()
    assert made["$schema"].endswith("2020-12/schema")
    assert "https://arxiv.org/abs/2104.09864" in made["$defs"]["Rope"]["description"]
    assert made["properties"]["d_model"]["description"] == "the width of the hidden state"
    assert all(entry.get("description") or name.startswith("Partial") for name, entry in made["$defs"].items())
