"""Which places of two specs differ, and on which lines."""

from __future__ import annotations

import pytest
from spec_samples import DECODER, ENCODER, GROUPS, PAIR, edited

from llmprof import catalog
from llmprof.check.lines import line_changes
from llmprof.errors import InputError
from llmprof.spec.load import load_text

VARIANTS = (
    DECODER
    + """\
variants:
  mha: {layers.attention.n_kv_heads: 8}
  merged:
    layers.attention:
      n_kv_heads: 4
  alibi: {position: {kind: alibi}}
  local: {layers.attention.window: 16}
  global: {max_context: null}
"""
)


def changed(before: str, after: str, **names: str | None) -> list[tuple[str, object, object, str]]:
    """(path, before, after, file:line:column) of each change."""
    found = line_changes(load_text(before, "a.yaml"), load_text(after, "b.yaml"), **names)
    return [
        (each.path, each.before, each.after, f"{each.place.file}:{each.place.line}:{each.place.column}")
        if each.place
        else (each.path, each.before, each.after, "")
        for each in found
    ]


def between(text: str, old: str | None, new: str | None) -> list[tuple[str, object, object, str]]:
    """The changes between two variants of one text, with its file left out."""
    found = changed(text, text, before_variant=old, after_variant=new, before_file="f", after_file="f")
    return [(path, a, b, place.removeprefix("f:")) for path, a, b, place in found]


def test_a_value_is_named_with_the_line_of_the_newer_side() -> None:
    wider = edited(DECODER, ("name: small", "# a remark\nname: small"), ("n_kv_heads: 2", "n_kv_heads: 8"))
    assert changed(DECODER, wider, after_file="b.yaml") == [("layers.attention.n_kv_heads", 2, 8, "b.yaml:13:38")]


def test_a_key_that_is_gone_is_named_where_it_was() -> None:
    windowed = edited(DECODER, ("head_dim: 16", "head_dim: 16, window: 32"))
    assert changed(windowed, DECODER, before_file="a.yaml") == [("layers.attention.window", 32, None, "a.yaml:12:67")]
    assert changed(DECODER, windowed, after_file="b.yaml") == [("layers.attention.window", None, 32, "b.yaml:12:67")]


def test_a_whole_mapping_that_one_side_lacks_is_one_change() -> None:
    scaled = edited(DECODER, ("layers:", "embedding: {norm: {kind: layernorm, eps: 1e-6}}\nlayers:"))
    value = {"kind": "layernorm", "eps": 1e-6}
    assert changed(DECODER, scaled, after_file="b") == [("embedding.norm", None, value, "b:9:13")]


def test_a_whole_stack_that_one_side_lacks_is_told_by_its_parts() -> None:
    found = {path: (a, b) for path, a, b, _ in changed(PAIR, DECODER)}
    assert found["encoder.count"] == (2, None)
    assert found["decoder.ffn"] == ({"kind": "relu", "d_ff": 256}, None)
    assert found["layers.norm"] == (None, {"kind": "rmsnorm", "placement": "pre", "eps": 1e-5})
    assert not {"encoder", "decoder", "layers"} & set(found)


def test_a_list_is_compared_as_a_whole() -> None:
    other = edited(GROUPS, ("[local, local, global]", "[local, global]"))
    (only,) = changed(GROUPS, other)
    assert only[:3] == ("layers.pattern", ["local", "local", "global"], ["local", "global"])


def test_a_change_of_a_group_names_the_group() -> None:
    (only,) = changed(GROUPS, edited(GROUPS, ("window: 32", "window: 64")))
    assert only[:3] == ("layers.local.attention.window", 32, 64)


def test_what_a_spec_says_about_itself_is_no_change() -> None:
    other = edited(
        DECODER,
        ("name: small", "name: other\naliases: [x]\nnotes: hello"),
        ("https://example.org", "https://example.com"),
    )
    assert changed(DECODER, other + "published: {params_total: 7, rounded: true, source: {url: x}}\n") == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("head_dim: 16", "head_dim: 16, qkv_bias: false"),
        ("d_ff: 96", "d_ff: 96, bias: false"),
        ("count: 3", "count: 3\n  block: serial\n  residual: {kind: plain}"),
        ("tied_embeddings: false", "tied_embeddings: false\npooler: false\nhead: {kind: lm}"),
        ("vocab_size: 1000", "vocab_size: 1_000"),
        ("position: {kind: rope, theta: 10000}\nlayers:", "layers:\n  position: {kind: rope, theta: 10000.0}"),
    ],
)
def test_a_default_spelled_out_is_no_change(old: str, new: str) -> None:
    spelled = edited(DECODER, (old, new))
    assert changed(DECODER, spelled) == changed(spelled, DECODER) == []
    # Nor is it one beside a change that counts.
    deeper = edited(spelled, ("count: 3", "count: 4"))
    assert [each[0] for each in changed(DECODER, deeper)] == ["layers.count"]


def test_a_group_may_change_its_name() -> None:
    assert changed(GROUPS, GROUPS.replace("local", "near")) == []


# --- variants -----------------------------------------------------------------------------------


def test_a_variant_points_at_its_override() -> None:
    assert between(VARIANTS, None, "mha") == [("layers.attention.n_kv_heads", 2, 8, "15:9")]
    assert between(VARIANTS, "base", "merged") == [("layers.attention.n_kv_heads", 2, 4, "18:7")]
    assert between(VARIANTS, "mha", "merged") == [("layers.attention.n_kv_heads", 8, 4, "18:7")]


def test_back_to_the_base_points_at_the_base() -> None:
    assert between(VARIANTS, "mha", None) == [("layers.attention.n_kv_heads", 8, 2, "12:38")]
    assert between(VARIANTS, "local", None) == [("layers.attention.window", 16, None, "20:11")]


def test_what_a_variant_takes_away_is_where_it_does() -> None:
    assert between(VARIANTS, None, "alibi") == [
        ("position.kind", "rope", "alibi", "19:22"),
        ("position.theta", 10000, None, "19:11"),
    ]
    windowed = edited(VARIANTS, ("head_dim: 16}", "head_dim: 16, window: 8}"))
    assert between(windowed + "  wide: {layers.attention.window: null}\n", None, "wide") == [
        ("layers.attention.window", 8, None, "22:10")
    ]


def test_null_can_be_a_value() -> None:
    assert between(VARIANTS, None, "global") == [("max_context", 128, None, "21:12")]


def test_an_unknown_variant() -> None:
    spec = load_text(VARIANTS)
    with pytest.raises(InputError, match="no variant 'mqa'"):
        line_changes(spec, spec, after_variant="mqa")


def test_the_file_is_named_as_it_was_loaded() -> None:
    before, after = catalog.find("llama-7b"), catalog.find("llama-13b")
    places = {each.place.file for each in line_changes(before, after) if each.place}
    assert places == {str(after.path)}
    (place,) = {each.place for each in line_changes(load_text(DECODER), load_text(edited(DECODER, ("96", "97"))))}
    assert place is not None
    assert place.file == "<stdin>"


@pytest.mark.parametrize("text", [DECODER, ENCODER, PAIR, GROUPS, VARIANTS])
def test_a_spec_does_not_differ_from_itself(text: str) -> None:
    assert changed(text, text) == []


def test_every_catalogue_variant_is_explained_by_its_own_lines() -> None:
    for entry in catalog.entries():
        spec = entry.load()
        for variant in spec.variants:
            lines = {mark.line for path in _said(spec, variant) if (mark := spec.mark_of(path)) is not None}
            for each in line_changes(spec, spec, after_variant=variant):
                assert each.place is not None, (spec.name, variant, each)
                assert each.place.line in lines, (spec.name, variant, each)


def _said(spec: object, variant: str) -> list[str]:
    from llmprof.spec.load import SpecFile

    assert isinstance(spec, SpecFile)
    found: list[str] = []
    waiting = [(f"variants.{variant}", spec.overrides()[variant])]
    while waiting:
        path, value = waiting.pop()
        found.append(path)
        if isinstance(value, dict):
            waiting += [(f"{path}.{key}", below) for key, below in value.items()]
    return found
