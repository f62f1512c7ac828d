"""Verification without torch: names and their matching, known errors, published figures, and what a config says."""

from __future__ import annotations

import csv
import re
from dataclasses import replace
from pathlib import Path

import pytest

from llmprof import catalog
from llmprof.conformance import configs, formulas, known, names, published
from llmprof.conformance.known import KNOWN, Case, Known, explained
from llmprof.conformance.matching import match
from llmprof.conformance.rows import Result, compared, unmeasured, worst
from llmprof.conformance.workloads import workloads
from llmprof.predict.api import predict
from llmprof.predict.parameters import parameters
from llmprof.spec.arch import ArchSpec, Gqa
from llmprof.workload import Execution, Workload, check_workload

MODELS = [entry for entry in catalog.entries() if entry.path.parent.parent.name == "models"]


def arch_of(name: str) -> ArchSpec:
    return catalog.find(name).arch()


def case_of(name: str, model_type: str, phase: str = "prefill", **config: object) -> Case:
    arch = arch_of(name)
    (workload,) = (w for w in workloads(arch) if w.phase == phase)
    return Case(arch=arch, workload=workload, config={"model_type": model_type, **config})


# --- names --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "others", "prefixes", "path"),
    [
        ("model.layers.3.self_attn.q_proj", (), ("",), "layers.3.attn.q_proj"),
        ("transformer.h.11.attn.c_attn", (), ("",), "layers.11.attn.k_proj"),
        ("model.decoder.layers.2.encoder_attn.k_proj", (), ("encoder.", "decoder."), "decoder.layers.2.cross_attn.k_proj"),
        ("model.decoder.layers.2.self_attn.k_proj", (), ("encoder.", "decoder."), "decoder.layers.2.attn.k_proj"),
        ("model.decoder.layers.2.fc1", (), ("",), "layers.2.ffn.up"),
        ("decoder.block.4.layer.2.DenseReluDense.wi_0", (), ("encoder.", "decoder."), "decoder.layers.4.ffn.gate"),
        ("encoder.block.0.layer.0.SelfAttention.relative_attention_bias", (), ("encoder.",), "encoder.rel_bias"),
        ("model.layers.0.post_attention_layernorm", ("pre_feedforward_layernorm",), ("",), "layers.0.ffn_norm"),
        ("model.layers.0.post_attention_layernorm", ("post_feedforward_layernorm",), ("",), "layers.0.attn_post_norm"),
        ("model.layers.9.mlp.gate", (), ("",), "layers.9.ffn.router"),
        ("model.layers.9.mlp.gate_proj", (), ("",), "layers.9.ffn.gate"),
        ("model.norm", (), ("",), "final_norm"),
        ("lm_head", (), ("",), "lm_head"),
    ],
)  # fmt: skip
def test_a_name_of_theirs_is_a_path_of_ours(
    module: str, others: tuple[str, ...], prefixes: tuple[str, ...], path: str
) -> None:
    first = next(iter(names.ours(module, others, prefixes)))
    assert path in first


def test_what_is_called_otherwise_is_not_matched_and_must_still_add_up() -> None:
    found = match({"embed": 10, "layers.0.attn.q_proj": 6, "layers.0.ffn.up": 4}, {"wte": 10, "h.0.mystery": 10}, [""])
    assert [group.paths for group in found.groups] == [("embed",)]
    assert found.our_rest == {"layers.0.attn.q_proj": 6, "layers.0.ffn.up": 4}
    assert found.their_rest == {"h.0.mystery": 10}
    assert sum(group.theirs for group in found.groups) == 10


def test_modules_that_share_a_path_are_one_group() -> None:
    ours = {"layers.0.attn.q_proj": 4, "layers.0.attn.k_proj": 2, "layers.0.attn.v_proj": 2}
    theirs = {"h.0.attn.c_attn": 7, "h.0.attn.q_proj": 1}
    (group,) = match(ours, theirs, [""]).groups
    assert (group.ours, group.theirs, len(group.modules)) == (8, 8, 2)


# --- known errors -------------------------------------------------------------------------------


def test_every_known_error_says_what_it_is_and_where_it_was_seen() -> None:
    assert len({known.key for known in KNOWN}) == len(KNOWN)
    for each in KNOWN:
        assert len(each.why.split()) >= 5
        assert re.search(r"\w+\.py", each.evidence), each.key
        assert each.formula
        assert not (each.classes & each.not_of)
    models = {entry.name for entry in MODELS}
    assert not {kind for each in KNOWN for kind in each.classes} & models - {"mpt-7b"}, "a class is no model"


@pytest.mark.parametrize(
    ("quantity", "case", "difference", "keys"),
    [
        # 32128 x 768 values of the second matrix
        ("params_total", case_of("t5-v1_1-base", "t5"), -32128 * 768, ("t5-forced-tying",)),
        # 60 layers of 128 heads that are 8, keys and values of 64 in 16 bit, for 128 tokens
        (
            "kv_cache_bytes",
            case_of("falcon-40b", "falcon", new_decoder_architecture=True),
            60 * 128 * 2 * (128 - 8) * 64 * 2,
            ("falcon-broadcast-cache",),
        ),
        # 24 layers of 1536 channels: 3 positions of a convolution over 4
        ("matmul_flops", case_of("mamba-130m", "mamba"), 24 * 2 * 1536 * 4 * 3, ("convolution-padding",)),
        ("matmul_flops", case_of("mamba-130m", "mamba", "decode"), 24 * 2 * 1536 * 4, ("convolution-padding",)),
        ("recurrent_state_bytes", case_of("mamba-130m", "mamba"), 24 * 2 * 1536, ("convolution-column",)),
        # 22 of 26 layers, one row of a key and a value of 256 in 16 bit
        ("kv_cache_bytes", case_of("gemma-3-1b", "gemma3_text"), -22 * 2 * 256 * 2, ("window-less-one",)),
        # 12 of 24 layers, 5 tokens behind windows of 256, keys and values of 2048 in 16 bit
        ("kv_cache_bytes", case_of("gpt-neo-1.3b", "gpt_neo"), 12 * 5 * 2 * 2048 * 2, ("whole-cache-kept",)),
        ("matmul_flops", case_of("gpt-neo-1.3b", "gpt_neo", "decode"), 12 * 6 * 4 * 2048, ("whole-cache-read",)),
    ],
)  # fmt: skip
def test_a_known_error_explains_its_difference_to_the_last_unit(
    quantity: str, case: Case, difference: int, keys: tuple[str, ...]
) -> None:
    assert explained(quantity, case, difference) == keys  # type: ignore[arg-type]
    for other in (difference + 1, difference - 1, -difference, 0):
        assert explained(quantity, case, other) == ()  # type: ignore[arg-type]
    stranger = replace(case, config={**case.config, "model_type": "a_class_of_nobody"})
    of_all = {each.key for each in KNOWN if not each.classes}
    assert bool(explained(quantity, stranger, difference)) == (set(keys) <= of_all)  # type: ignore[arg-type]


def test_a_wrong_explanation_explains_nothing() -> None:
    """Planted: a formula that is off by one token, one of another class, and one that is added to a right one."""
    case = case_of("gemma-3-1b", "gemma3_text")
    truth = formulas.engine_kv(case.arch, case.workload)
    right = next(each for each in KNOWN if each.key == "window-less-one")
    assert explained("kv_cache_bytes", case, truth, table=(right,)) == ("window-less-one",)
    two_less = replace(right, difference=lambda case: 2 * formulas.engine_kv(case.arch, case.workload))
    elsewhere = replace(right, classes=frozenset({"llama"}))
    beside = Known(
        key="beside",
        quantity="kv_cache_bytes",
        classes=frozenset(),
        difference=lambda case: 1,
        formula="1",
        why="",
        evidence="",
    )
    for table in ((two_less,), (elsewhere,), (right, beside), ()):
        assert explained("kv_cache_bytes", case, truth, table=table) == ()


def test_the_errors_of_a_layer_of_chunks() -> None:
    # 36 of 48 layers with chunks of 8192: a prompt of 8197 leaves 8191 tokens, and a step reads 8192 where its own
    # chunk has 6, 40 heads of 128; every token goes through 127 more experts, 3 matrices of 5120 x 8192 in 24 layers.
    case = case_of("llama-4-maverick-17b-128e", "llama4_text", "decode")
    assert case.workload.context == 8198
    chunks, experts = 36 * 4 * 40 * 128 * (8192 - 6), 24 * 127 * 2 * 3 * 5120 * 8192
    assert explained("matmul_flops", case, chunks + experts) == ("llama4-all-experts", "chunk-read-as-window")
    assert explained("matmul_flops", case, experts) == ()


def test_latents_that_are_expanded_are_so_for_all_tokens() -> None:
    # 61 layers of 128 heads, 256 + 64 wide with 128 of the values; the absorbed form reads 2048 chosen latents.
    case = case_of("deepseek-v3.2", "deepseek_v32", "decode")
    s, chosen = case.workload.context, 2048
    assert s > chosen
    expanded = s * 512 * 256 + s * (192 + 128)
    absorbed = 2 * 128 * 512 + chosen * (576 + 512)
    assert formulas.expanded_beyond_absorbed(case.arch, case.workload) == 2 * 61 * 128 * (expanded - absorbed)


# --- published figures --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "figure", "how"),
    [
        (6_658_859_008, 6_700_000_000, "rounded to 2 digits"),
        (2_851_598_336, 3_000_000_000, "rounded to 1 digit"),
        (540_356_474_880, 540_350_000_000, "cut off after 5 digits"),
        (6_658_859_008, 6_800_000_000, None),
        (570_797_056, 568_000_000, None),
        (99, 100, "rounded to 1 digit"),
        (94, 100, None),
    ],
)
def test_a_printed_figure_has_the_digits_or_it_has_not(value: int, figure: int, how: str | None) -> None:
    assert published.fits(value, figure) == how


def test_every_published_figure_of_the_catalogue_agrees_or_is_explained() -> None:
    rows = {arch.label: published.published_row(arch) for entry in MODELS for arch in entry.load().archs()}
    assert {label for label, row in rows.items() if row.verdict == "DIFFERS"} == set()
    assert {label for label, row in rows.items() if row.verdict == "EXPLAINED"} == {"pegasus-large"}
    assert sum(row.verdict == "AGREES" for row in rows.values()) > 100


def test_a_published_figure_that_is_wrong_differs() -> None:
    arch = arch_of("gpt2")
    assert arch.published is not None
    wrong = replace(arch, published=replace(arch.published, params_total=124_439_809))
    row = published.published_row(wrong)
    assert (row.verdict, row.predicted, row.found) == ("DIFFERS", 124_439_808, 124_439_809)


# --- configs ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", configs.names())
def test_a_carried_config_says_what_its_spec_says(name: str) -> None:
    path = configs.carried(name)
    assert path is not None
    row = published.config_row(arch_of(name), configs.read(path))
    assert row.verdict == "AGREES", row.note


def test_every_carried_config_has_its_spec_and_its_source() -> None:
    with (catalog.root() / configs.FOLDER / "SOURCES.csv").open(encoding="utf-8") as file:
        sources = {row["name"]: row for row in csv.DictReader(file)}
    assert set(sources) == set(configs.names()) <= {entry.name for entry in MODELS}
    assert all(row["source"] and re.fullmatch(r"\d{4}-\d\d-\d\d", row["read"]) for row in sources.values())


def test_what_a_config_says_otherwise_is_named() -> None:
    ours = arch_of("gemma-3-1b")
    (stack,) = ours.stacks
    other = tuple(
        replace(layer, attention=replace(layer.attention, n_heads=8))
        if i == 5 and isinstance(layer.attention, Gqa)
        else layer
        for i, layer in enumerate(stack.layers)
    )
    theirs = replace(ours, vocab_size=7, stacks=(replace(stack, layers=other),))
    assert published.differences(ours, theirs) == [
        "vocab_size: 262144 in the spec, 7 in the config",
        "layers.5.attention.n_heads: 4 in the spec, 8 in the config",
    ]
    assert published.differences(ours, ours) == []


def test_a_config_of_another_model_differs(tmp_path: Path) -> None:
    path = configs.carried("gpt2-xl")
    assert path is not None
    row = published.config_row(arch_of("gpt2"), configs.read(path))
    assert row.verdict == "DIFFERS"
    assert "d_model: 768 in the spec, 1600 in the config" in row.note


# --- passes and rows ----------------------------------------------------------------------------


@pytest.mark.parametrize("entry", MODELS, ids=lambda entry: entry.name)
def test_the_passes_fit_and_show_every_window(entry: catalog.Entry) -> None:
    arch = entry.load().arch()
    asked = workloads(arch)
    for workload in asked:
        check_workload(arch, workload)
    if len(asked) == 2:
        assert asked[1].context == asked[0].context + 1
    for layer in arch.main.layers:
        window = layer.attention.window if isinstance(layer.attention, Gqa) else None
        if window is not None and window + 5 < (arch.max_context or window + 6) and arch.structure != "encoder":
            assert asked[0].context > window


def test_the_worst_verdict_counts() -> None:
    agrees, differs = compared("params", "twin", 1, 1), compared("params", "twin", 1, 2)
    missing = unmeasured("params", "twin", "no reason", predicted=1)
    result = Result(arch=arch_of("gpt2"), rows=[agrees, missing])
    assert (result.verdict, worst([])) == ("AGREES", "UNMEASURED")
    result.rows.append(differs)
    assert result.verdict == "DIFFERS"


def test_the_page_of_errors_has_no_key_that_is_not_used() -> None:
    """Every known error occurs in some class of the catalogue, but for one that takes several sequences."""
    used = set()
    for name in configs.names():
        path = configs.carried(name)
        assert path is not None
        config, arch = configs.read(path).values, arch_of(name)
        text = config.get("text_config") or config
        for workload in workloads(arch, config):
            case = Case(arch=arch, workload=workload, config=text)
            used |= {each.key for each in KNOWN if each.at(case)}
    assert set(known.BY_KEY) - used == {"step-of-each-pair"}


def _flops(arch: ArchSpec, workload: Workload) -> int:
    return predict(arch, workload, Execution(attention="unfused")).cost.matmul_flops


def test_parameters_are_those_of_count() -> None:
    from llmprof.conformance.verify import figures

    arch = arch_of("gpt2")
    asked = workloads(arch)
    found = figures(arch, asked)
    assert found["params_total"] == parameters(arch).total == 124_439_808
    assert found["matmul_flops decode"] == _flops(arch, asked[1])
    assert found["kv_cache_bytes prefill"] == 128 * 36_864
