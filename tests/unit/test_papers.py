"""Printed figures against ours: each within its tolerance, by arithmetic that is done here once more."""

from __future__ import annotations

from typing import get_args

import pytest

from llmprof.claims.papers.citations import CITATIONS
from llmprof.claims.papers.figure import EXACT, Figure, Outcome, Result, Study, Subject, rounding, share
from llmprof.claims.papers.megatron_activations import (
    TECHNIQUES,
    Model,
    figures,
    of_layer,
    outside,
    statistics_of_layer,
)
from llmprof.claims.papers.megatron_utilisation import RUNS, Run
from llmprof.claims.papers.table import STUDIES, results

RESULTS = {result.study.key: result for result in results()}


def figure(key: str, of: str) -> Figure:
    (found,) = [each for each in RESULTS[key].outcome.figures if each.of == of]
    return found


# --- all of them ------------------------------------------------------------------------------------


def test_every_figure_is_reproduced_or_says_why_it_cannot_be() -> None:
    assert [key for key, result in RESULTS.items() if not result.holds] == []
    for result in RESULTS.values():
        if any(each.tolerance is None for each in result.outcome.figures):
            assert result.outcome.remarks, f"{result.study.key} explains nothing"


def test_studies_have_keys_of_their_own_and_known_sources() -> None:
    assert len(RESULTS) == len(STUDIES)
    assert {study.subject for study in STUDIES} == set(get_args(Subject))
    used = {source for study in STUDIES for source in study.sources}
    assert used == set(CITATIONS)
    assert all(study.assumptions for study in STUDIES)


# --- verdicts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("printed", "ours", "tolerance", "verdict"),
    [
        (40.3, 40.267, share(40.3, 0.03, "why"), "reproduced"),
        (40.3, 41.51, share(40.3, 0.03, "why"), "differs"),  # 3.0% of 40.3 are 1.209
        (46.2, 46.25, rounding(0.1), "reproduced"),
        (46.2, 46.2501, rounding(0.1), "differs"),
        (3, 3, EXACT, "reproduced"),
        (3, 4, EXACT, "differs"),
        (66.6, 824.6, None, "explained"),
    ],
)
def test_a_verdict_follows_from_the_tolerance(printed: float, ours: float, tolerance: object, verdict: str) -> None:
    found = Figure(of="x", printed=printed, ours=ours, unit="GB", tolerance=tolerance)  # type: ignore[arg-type]
    assert found.verdict == verdict
    outcome = Outcome(figures=(found,))
    study = Study(key="x", title="x", subject="traffic", sources=(), assumptions=(), compute=lambda: outcome)
    assert Result(study=study, outcome=outcome).holds == (verdict != "differs")


def test_nothing_is_a_share_of_nothing() -> None:
    assert Figure(of="x", printed=0, ours=1, unit="GB", tolerance=EXACT).difference is None


# --- figure by figure -------------------------------------------------------------------------------


def test_figure_2() -> None:
    key = "flash-attention-figure-2"
    traffic = [each for each in RESULTS[key].outcome.figures if each.unit == "GB"]
    assert [each.printed for each in traffic] == [40.3, 35.3, 4.4]
    for each in traffic:
        assert each.difference is not None
        assert abs(each.difference) < 0.03
    flops = [each for each in RESULTS[key].outcome.figures if each.unit == "GFLOP"]
    assert [round(each.ours, 1) for each in flops] == [824.6, 962.1]
    assert {each.verdict for each in flops} == {"explained"}
    assert "6.11 GB" in RESULTS[key].outcome.remarks[1], "partials in fp32, as released"
    # Algorithms 1 and 4, in passes over q or o of 64 x 16 x 1024 rows of 128 bytes, and 4 bytes for each of those rows:
    # forward 2 + 4 x 3 + 1 and 2 x (1 + 2 x 4); backward 4 + 4 x 5 + 1 and 2 x 4.
    rows = 64 * 16 * 1024
    letter = (15 + 25) * 128 * rows + (18 + 8) * 4 * rows
    assert f"{letter / 1e9:.2f} GB" in RESULTS[key].outcome.remarks[1]


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_megatron_counts_what_its_equation_says(run: Run) -> None:
    # Equation 7: 72 B s l h^2 (1 + s / 6h + V / 12hl), here in integers.
    b, s, l, h, v = run.batch, 2048, run.layers, run.d_model, 51_200  # noqa: E741
    assert run.flops() == 72 * b * s * l * h * h + 12 * b * s * s * l * h + 6 * b * s * h * v


def test_megatron_is_within_the_rounding() -> None:
    ours = [round(each.ours, 1) for each in RESULTS["megatron-utilisation"].outcome.figures]
    assert ours == [41.7, 51.4, 56.0, 56.3]


def test_palm() -> None:
    # Table 1; per token 6 N + 12 L H Q T at 238.3 thousand tokens per second, of 6144 x 275 TFLOP/s.
    n = 540_356_474_880
    assert figure("palm", "palm-540b, parameters").ours == n / 1e9
    peak = 6144 * 275e12
    plain, whole = 6 * n * 238_300 / peak, (6 * n + 12 * 118 * 48 * 256 * 2048) * 238_300 / peak
    assert figure("palm", "utilisation without attention").ours == pytest.approx(100 * plain, rel=1e-4)
    assert figure("palm", "utilisation with attention").ours == pytest.approx(100 * whole, rel=1e-4)


def test_chinchilla() -> None:
    # 73M: 12 L d^2 in matrices, 2 s^2 d twice in attention, 3 per score of 10 heads; N = 13 L d^2 + 32000 d and norms.
    layers, d, s, heads = 10, 640, 2048, 10
    forward = 2 * s * 12 * layers * d * d + layers * (4 * s * s * d + 3 * heads * s * s)
    n = 13 * layers * d * d + 32_000 * d + (2 * layers + 1) * d
    assert figure("chinchilla-table-a4", "73M").ours == 3 * forward / (6 * n * s)
    assert [each.printed for each in RESULTS["chinchilla-table-a4"].outcome.figures] == [
        1.03,
        1.1,
        1.08,
        1.04,
        1.03,
        0.99,
    ]
    assert "73M 1.58" in RESULTS["chinchilla-table-a4"].outcome.remarks[0]


def test_conventions() -> None:
    found = RESULTS["flash-attention-flops"].outcome.figures
    assert figure("flash-attention-flops", "forward, heads of 64").ours == 4 * 16_384**2 * 2048 / 1e9
    assert figure("flash-attention-flops", "forward, causal, heads of 64").ours == 2 * 16_384 * 16_385 * 2048 / 1e9
    assert sum(each.tolerance is EXACT for each in found) == len(found) - 2, "all but causal ones are equal"


def test_decode_says_in_which_order_and_not_how_long() -> None:
    for key, ratios in (("multi-query-decode", 1), ("grouped-query-decode", 4)):
        figures = RESULTS[key].outcome.figures
        assert sum(each.verdict == "explained" for each in figures) == ratios
        (order,) = [each for each in figures if each.unit == "holds"]
        assert (order.printed, order.ours) == (1, 1)
    # 6 decoder layers of 128 sequences: 128 source and on average 64.5 target rows of 8 heads of 128, k and v, 2 bytes.
    caches = 6 * 128 * (128 + 64.5) * 8 * 128 * 2 * 2
    assert f"fall from {caches / 1e6:.0f} to {caches / 8e6:.0f} MB" in RESULTS["multi-query-decode"].outcome.remarks[0]


def test_zero() -> None:
    # 16; 4 + 12/64; 2 + 14/64; 16/64 bytes for each of 7.5 billion.
    ours = [each.ours for each in RESULTS["zero"].outcome.figures]
    assert ours == [120, 7.5 * (4 + 12 / 64), 7.5 * (2 + 14 / 64), 7.5 * 16 / 64]
    # A layer of GPT-2: 12 d^2 + 13 d; then tokens, positions and a last norm.
    values = 37 * (12 * 4096**2 + 13 * 4096) + (50_257 + 1024 + 2) * 4096
    assert f"{values:,} parameters" in RESULTS["zero"].outcome.remarks[0]


def test_a_wider_feed_forward_keeps_shazeers_parameters() -> None:
    # One of 8 heads is left: 2 x 1024 x 7 x 128 values in each of 6 + 2 x 6 attentions; 12 times 2 x 1024 x 1344 more.
    assert 18 * 2 * 1024 * 7 * 128 == 12 * 2 * 1024 * (5440 - 4096)
    assert figure("multi-query-decode", "parameters, multi-query over multi-head").ours == 1


def test_caches_per_token() -> None:
    ours = [each.ours for each in RESULTS["kv-cache-per-token"].outcome.figures]
    # 61 layers of 512 + 64; 80 of 2 x 8 x 128; 126 of 2 x 8 x 128; 2 bytes each.
    assert ours == [61 * 576 * 2 / 1000, 80 * 2048 * 2 / 1000, 126 * 2048 * 2 / 1000]


MEGATRON = (
    Model(name="22B", layers=48, d_model=6144, heads=64),
    Model(name="175B", layers=96, d_model=12_288, heads=96),
    Model(name="530B", layers=105, d_model=20_480, heads=128),
    Model(name="1T", layers=128, d_model=25_600, heads=160),
    Model(name="small", layers=2, d_model=64, heads=8, tensor=4, batch=3, tokens=32, vocab_size=96),
)


@pytest.mark.parametrize("model", MEGATRON, ids=lambda model: model.name)
def test_megatrons_table_of_activations(model: Model) -> None:
    s, b, h, a, t = model.tokens, model.batch, model.d_model, model.heads, model.tensor
    ours = [of_layer(model, technique) for technique in TECHNIQUES]
    assert ours == [
        34 * s * b * h + 5 * a * s * s * b,
        10 * s * b * h + 24 * s * b * h // t + 5 * a * s * s * b // t,
        (34 * s * b * h + 5 * a * s * s * b) // t,
        10 * s * b * h + 24 * s * b * h // t,
        34 * s * b * h // t,
        2 * s * b * h,
    ]
    assert statistics_of_layer(model) == 2 * 2 * 4 * s * b  # two norms, a mean and a root, fp32
    assert outside(model) == s * b * (5 * h + 4 * model.vocab_size)
    assert all(each.verdict == "reproduced" for each in figures(model))


def test_the_tensors_behind_megatrons_table() -> None:
    (sheet,) = RESULTS["megatron-activations"].outcome.sheets
    assert sheet.total == of_layer(MEGATRON[1], TECHNIQUES[0]) + statistics_of_layer(MEGATRON[1])
    by_leaf: dict[str, int] = {}
    for line in sheet.lines:
        by_leaf[line.of] = by_leaf.get(line.of, 0) + line.value
    unit = 2048 * 12_288
    assert by_leaf["ffn.act"] == by_leaf["ffn.down"] == 8 * unit
    assert by_leaf["attn_dropout"] == unit
