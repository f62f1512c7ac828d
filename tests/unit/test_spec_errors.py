"""What a wrong value, an unknown key and a missing one are told: place, path, and words of the language."""

# A row of a table is easier to read on one line.

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from spec_samples import DECODER, ENCODER, PAIR, edited, only, problems

from llmprof.spec import words
from llmprof.spec.arch import BigBird, Sparse
from llmprof.spec.document import Document, Group
from llmprof.spec.kinds import hints, is_record, kinds, members
from llmprof.spec.load import load_text
from llmprof.spec.words import did_you_mean

KINDS_OF_ATTENTION = (
    "gqa, mla, sparse, linear, performer, compressed, clustered, linformer, nystrom, talking-heads, differential, "
    "mamba-1, mamba-2, gated-deltanet, rg-lru, short-conv, rwkv-4 or none"
)
KINDS_OF_FFN = (
    "relu, gelu, gelu-tanh, swish, relu2, xielu, glu, reglu, geglu, geglu-tanh, swiglu, swiglu-clamped, moe, "
    "rwkv-channel-mix or none"
)

JARGON = re.compile(r"[Ii]nput should|[Ff]ield required|discriminator|keyword argument|valid (?:integer|dict)|pydantic")


@pytest.mark.parametrize(
    ("old", "new", "place", "path", "found", "expected", "hint"),
    [
        # wrong types
        ("d_model: 64", "d_model: abc", (5, 10), "d_model", "found 'abc'", "a whole number", None),
        ("d_model: 64", "d_model: 64.5", (5, 10), "d_model", "found 64.5", "a whole number", None),
        ("d_model: 64", "d_model: 64.0", (5, 10), "d_model", "found 64.0", "a whole number", "write 64"),
        ("d_model: 64", "d_model: '64'", (5, 10), "d_model", "found '64'", "a whole number", "write 64 without quotes"),
        ("d_model: 64", "d_model: 4Ki", (5, 10), "d_model", "found '4Ki'", "a whole number", "write 4_096"),
        ("d_model: 64", "d_model: 2 Mi", (5, 10), "d_model", "found '2 Mi'", "a whole number", "write 2_097_152"),
        ("d_model: 64", "d_model: 32,000", (5, 10), "d_model", "found '32,000'", "a whole number",
         "write 32_000 without quotes"),
        ("d_model: 64", "d_model: true", (5, 10), "d_model", "found true", "a whole number", None),
        ("d_model: 64", "d_model:", (5, 9), "d_model", "found nothing", "a whole number", None),
        ("d_model: 64", "d_model: null", (5, 10), "d_model", "found null", "a whole number", None),
        ("d_model: 64", "d_model: [1]", (5, 10), "d_model", "found a list", "a whole number", None),
        ("d_model: 64", "d_model: {}", (5, 10), "d_model", "found an empty mapping", "a whole number", None),
        ("d_model: 64", "d_model: 0", (5, 10), "d_model", "found 0", "a number above 0", None),
        ("d_model: 64", "d_model: -3", (5, 10), "d_model", "found -3", "a number above 0", None),
        ("d_model: 64", "d_model: 1_099_511_627_777", (5, 10), "d_model", "found 1_099_511_627_777",
         "at most 1_099_511_627_776", None),
        ("theta: 10000", "theta: .inf", (8, 31), "position.theta", "found .inf", "a finite number", None),
        ("theta: 10000", "theta: .nan", (8, 31), "position.theta", "found .nan", "a finite number", None),
        ("theta: 10000", "theta: 1e999", (8, 31), "position.theta", "found 1e999", "a finite number", None),
        ("theta: 10000", "theta: true", (8, 31), "position.theta", "found true", "a number", None),
        ("theta: 10000", "theta: 0", (8, 31), "position.theta", "found 0", "a number above 0", None),
        ("tied_embeddings: false", "tied_embeddings: no", (7, 18), "tied_embeddings", "found 'no'", "true or false",
         "write false"),
        ("tied_embeddings: false", "tied_embeddings: yes", (7, 18), "tied_embeddings", "found 'yes'", "true or false",
         "write true"),
        ("tied_embeddings: false", "tied_embeddings: 0", (7, 18), "tied_embeddings", "found 0", "true or false", None),
        ("name: small", "name: 7", (1, 7), "name", "found 7", "text", None),
        ("name: small", "name: Small", (1, 7), "name", "found 'Small'",
         "lower case letters, digits, '.', '_' and '-', beginning with a letter or digit", None),
        ("name: small", "name: " + "a" * 101, (1, 7), "name", "found '" + "a" * 57 + "...'", "at most 100 characters",
         None),
        ("name: small", "name: small\naliases: x", (2, 10), "aliases", "found 'x'", "a list", None),
        ("name: small", "name: small\naliases: [a, 3]", (2, 14), "aliases[1]", "found 3", "text", None),
        ("name: small", "name: small\naliases: ['']", (2, 11), "aliases[0]", "found ''", "text that is not empty", None),
        ("{url: https://example.org, read: 2026-11-23}", "here", (2, 9), "source", "found 'here'", "a list", None),
        ("{url: https://example.org, read: 2026-11-23}", "[]", (2, 9), "source", "found an empty list",
         "a list with at least one entry", None),
        ("{url: https://example.org, read: 2026-11-23}", "[{url: a}, {url: 3}]", (2, 26), "source[1].url", "found 3",
         "text", None),
        ("read: 2026-11-23", "read: 2026-13-23", (2, 42), "source.read", "found '2026-13-23'",
         "an ISO day such as 2026-11-23, or the word recalled", None),
        ("read: 2026-11-23", "read: '20261123'", (2, 42), "source.read", "found '20261123'",
         "an ISO day such as 2026-11-23, or the word recalled", None),
        ("url: https://example.org", "url: ' '", (2, 15), "source.url", "found ' '", "the address of the page", None),
        # choices
        ("structure: causal-decoder", "structure: decoder-only", (3, 12), "structure", "found 'decoder-only'",
         "causal-decoder, prefix-decoder, encoder-decoder or encoder", "here it is called 'causal-decoder'"),
        ("structure: causal-decoder", "structure: causal-decodr", (3, 12), "structure", "found 'causal-decodr'",
         "causal-decoder, prefix-decoder, encoder-decoder or encoder", "did you mean 'causal-decoder'?"),
        ("placement: pre", "placement: post-norm", (11, 36), "layers.norm.placement", "found 'post-norm'",
         "pre, post, sandwich or reordered", "here it is called 'post'"),
        ("kind: gqa", "kind: mha", (12, 21), "layers.attention.kind", "found 'mha'", KINDS_OF_ATTENTION,
         "multi-head attention is 'gqa' with n_kv_heads equal to n_heads"),
        ("kind: swiglu", "kind: silu", (13, 15), "layers.ffn.kind", "found 'silu'",
         KINDS_OF_FFN,
         "SiLU is 'swish' with two matrices, 'swiglu' with three"),
        ("kind: swiglu", "kind: swigglu", (13, 15), "layers.ffn.kind", "found 'swigglu'",
         KINDS_OF_FFN, "did you mean 'swiglu'?"),
        ("kind: rmsnorm", "kind: 3", (11, 16), "layers.norm.kind", "found 3", "layernorm or rmsnorm", None),
        ("{kind: rmsnorm, placement: pre, eps: 1e-5}", "rmsnorm", (11, 9), "layers.norm", "found 'rmsnorm'",
         "a mapping with kind: layernorm or rmsnorm", "write {kind: rmsnorm}"),
        ("{kind: rope, theta: 10000}", "rope", (8, 11), "position", "found 'rope'",
         "a mapping with kind: rope, alibi, t5-bias, gaussian, none, learned or sinusoidal", "write {kind: rope}"),
        ("{kind: swiglu, d_ff: 96}", "null", (13, 8), "layers.ffn", "found null",
         f"a mapping with kind: {KINDS_OF_FFN}", None),
        ("count: 3", "count: 3\n  final_norm: 3", (11, 15), "layers.final_norm", "found 3",
         "a mapping with kind: layernorm, rmsnorm or none", None),
        ("count: 3", "count: 3\n  final_norm: null", (11, 15), "layers.final_norm", "found null", "a norm or none",
         "write none where there is no norm"),
        ("count: 3", "count: 3\n  final_norm: {kind: layernorm, placement: pre}", (11, 33), "layers.final_norm.placement",
         "unknown key 'placement'", "one of kind, weight, bias, eps", None),
        ("count: 3", "count: 3\n  residual: {kind: deep}", (11, 20), "layers.residual.kind", "found 'deep'",
         "plain or deepnorm", "did you mean 'deepnorm'?"),
        ("layers:", "embedding: 3\nlayers:", (9, 12), "embedding", "found 3",
         "a mapping with scale, norm, type_vocab_size, width", None),
        ("layers:", "embedding: {type_vocab_size: -1}\nlayers:", (9, 30), "embedding.type_vocab_size", "found -1",
         "a number of at least 0", None),
        ("layers:", "head: {kind: lm, bias: 1}\nlayers:", (9, 24), "head.bias", "found 1", "true or false", None),
        # missing
        (", head_dim: 16", "", (12, 14), "layers.attention", "missing key 'head_dim'",
         "the width of one head: it is stated, never derived from d_model / n_heads", None),
        ("n_kv_heads: 2, ", "", (12, 14), "layers.attention", "missing key 'n_kv_heads'",
         "the number of key/value heads: n_heads for multi-head, 1 for multi-query", None),
        ("kind: gqa, ", "", (12, 14), "layers.attention", "missing key 'kind'", KINDS_OF_ATTENTION, None),
        (", placement: pre", "", (11, 9), "layers.norm", "missing key 'placement'", "pre, post, sandwich or reordered", None),
        ("max_context: 128\n", "", (1, 1), "", "missing key 'max_context'",
         "the longest context the model was made for, or null where nothing bounds it", None),
        ("  count: 3\n", "", (10, 3), "layers", "missing key 'count'", "the number of layers", None),
        ("position: {kind: rope, theta: 10000}\n", "", (9, 3), "layers", "missing key 'position'",
         "rope, alibi, t5-bias, gaussian, learned, sinusoidal or none, here or at the top level", None),
        ("url: https://example.org, ", "", (2, 9), "source", "missing key 'url'", "the address of the page", None),
        # unknown
        ("count: 3", "count: 3\n  blok: serial", (11, 3), "layers.blok", "unknown key 'blok'", None,
         "did you mean 'block'?"),
        ("head_dim: 16", "head_dim: 16, bias: true", (12, 67), "layers.attention.bias", "unknown key 'bias'",
         "one of kind, n_heads, n_kv_heads, head_dim, qkv_bias, out_bias, k_bias, qk_norm, qk_norm_over, window, chunk, "
         "sinks, qkv_clip, output_gate, shared_kv, softcap, scale", "*"),
        ("head_dim: 16", "head_dim: 16, qk_norm: {kind: rmsnorm, bias: true}", (12, 92),
         "layers.attention.qk_norm.bias", "unknown key 'bias'", "one of kind, weight, unit_offset, eps", None),
        ("count: 3", "count: 3\n  num_attention_heads: 8", (11, 3), "layers.num_attention_heads",
         "unknown key 'num_attention_heads'", None, "here it is called 'n_heads', and stands under 'attention'"),
        ("count: 3", "count: 3\n  dense: {norm: {kind: rmsnorm}}", (11, 3), "layers.dense",
         "found a mapping 'dense' that is no group yet", "a count in it, or a pattern that names it", None),
        ("d_model: 64", "d_model: 64\nrope_theta: 3", (6, 1), "rope_theta", "unknown key 'rope_theta'", None,
         "here it is called 'theta', and stands under 'position'"),
    ],
)  # fmt: skip
def test_one_problem(
    old: str, new: str, place: tuple[int, int], path: str, found: str, expected: str | None, hint: str | None
) -> None:
    problem = only(edited(DECODER, (old, new)))
    assert (problem.found, problem.path) == (found, path)
    assert (problem.line, problem.column) == place
    if expected is not None:
        assert problem.expected == expected
    if hint != "*":
        assert problem.hint == hint
    assert not JARGON.search(str(problem))


@pytest.mark.parametrize(
    ("old", "new", "key", "hint"),
    [
        ("d_model: 64", "hidden_size: 64", "d_model", "here it is called 'd_model'"),
        ("d_model: 64", "d_modle: 64", "d_model", "did you mean 'd_model'?"),
        (
            "n_heads: 8",
            "num_attention_heads: 8",
            "n_heads",
            "here it is called 'n_heads', and stands under 'attention'",
        ),
        ("d_ff: 96", "intermediate_size: 96", "d_ff", "here it is called 'd_ff', and stands under 'ffn'"),
        ("count: 3", "num_hidden_layers: 3", "count", "here it is called 'count', and stands under 'layers'"),
        ("tied_embeddings", "tie_word_embeddings", "tied_embeddings", "here it is called 'tied_embeddings'"),
    ],
)
def test_a_misspelt_key_is_both_unknown_and_missing(old: str, new: str, key: str, hint: str) -> None:
    found = problems(edited(DECODER, (old, new)))
    stranger = new.split(":")[0]
    assert {problem.found for problem in found} == {f"unknown key {stranger!r}", f"missing key {key!r}"}
    unknown = next(problem for problem in found if problem.found.startswith("unknown"))
    assert unknown.hint == hint


def required(annotation: Any, seen: set[type]) -> Iterator[tuple[type, str]]:
    """Every key without a default in the mappings that a type is made of, with its mapping's class."""
    for member in members(annotation):
        if not is_record(member):
            for inner in get_args(member):
                yield from required(inner, seen)
        elif member not in seen:
            seen.add(member)
            for field in dataclasses.fields(member):
                if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
                    yield member, field.name
                yield from required(hints(member)[field.name], seen)


def test_every_key_that_can_be_missing_is_said_in_words() -> None:
    seen: set[type] = set()
    found = [*required(Document, seen), *required(Group, seen)]
    assert {(Sparse, "block"), (BigBird, "n_random"), (Document, "d_model")} <= set(found)
    silent = [(cls.__name__, key) for cls, key in found if key != "kind" and words.meaning(key, kinds(cls)) is None]
    assert silent == []


def test_one_key_may_mean_another_thing_in_another_kind() -> None:
    assert words.meaning("window", ("gqa",)) != words.meaning("window", ("sliding",))
    assert words.meaning("block", ("sparse",)) is not None
    assert words.meaning("block") is None


def test_a_missing_key_points_at_the_stranger_in_its_place() -> None:
    missing = problems(edited(DECODER, ("d_model: 64", "hidden_size: 64")))[0]
    assert (missing.found, missing.hint) == ("missing key 'd_model'", "is 'hidden_size' meant?")


def test_all_errors_come_at_once_in_the_order_of_the_file() -> None:
    text = edited(
        DECODER, ("name: small", "name: SMALL"), ("d_model: 64", "d_model: x"), ("n_kv_heads: 2", "n_kv_heads: 3"),
        (", d_ff: 96", ""), ("eps: 1e-5", "esp: 1e-5"), ("structure: causal-decoder", "structure: tree"),
    )  # fmt: skip
    found = problems(text)
    assert [problem.line for problem in found] == [1, 3, 5, 11, 12, 13]
    assert len({problem.path for problem in found}) == 6


def test_the_encoder_and_the_decoder_are_both_read_under_a_misspelt_structure() -> None:
    text = edited(PAIR, ("encoder-decoder", "seq2seq"), ("d_ff: 256", "d_ff: 0"))
    assert [problem.path for problem in problems(text)] == ["structure", "encoder.ffn.d_ff"]


def test_the_message_is_one_line_with_everything() -> None:
    problem = only(edited(DECODER, ("kind: gqa", "kind: mqa")))
    assert str(problem) == (
        f"x.yaml:12:21: layers.attention.kind: found 'mqa'; expected {KINDS_OF_ATTENTION} "
        "(multi-query attention is 'gqa' with n_kv_heads: 1)"
    )


def test_an_encoder_has_its_own_mistakes_reported_in_its_head() -> None:
    problem = only(edited(ENCODER, ("head: {kind: mlm, norm: {kind: layernorm,", "head: {kind: mlm, norm: {kind: ln,")))
    assert (problem.path, problem.hint) == ("head.norm.kind", "here it is called 'layernorm'")


def test_a_stack_that_is_no_mapping() -> None:
    text = DECODER.split("layers:")[0] + "layers: 12\n"
    assert only(text).expected == "a mapping with count, norm, attention and ffn"


def test_long_words_are_cut() -> None:
    problem = only(DECODER + "k" * 500 + ": 1\n")
    assert len(problem.found) < 80
    assert len(problem.path) == 200


def test_every_error_type_of_the_checker_that_our_shapes_can_raise_has_words() -> None:
    fallback = words.expected("some_future_type", {})
    assert fallback == "a value that the spec language allows here"
    for kind in ("int_type", "float_type", "finite_number", "string_type", "bool_type", "tuple_type", "dict_type",
                 "dataclass_type", "model_attributes_type", "too_short", "string_too_short"):  # fmt: skip
        assert words.expected(kind, {}) != fallback


@pytest.mark.parametrize("word", ["bakery", "", "x" * 1000])
def test_nothing_is_guessed_for_a_word_that_is_like_none(word: str) -> None:
    assert did_you_mean(word, ("count", "norm")) is None


def test_the_samples_themselves_are_right() -> None:
    for text in (DECODER, ENCODER, PAIR):
        load_text(text)
