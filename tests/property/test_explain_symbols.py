"""A symbol of a printed formula has one value there: in every kind of attention, fused and unfused, in every phase."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from llmprof import catalog
from llmprof.predict.explain import Explanation, explain
from llmprof.predict.formula import Formula
from llmprof.spec.arch import ArchSpec, Attention, Gaussian, Gqa, LayerPosition, Mask, NoPosition, Rope, Structure
from llmprof.workload import Dtypes, Workload
from tests.families import kinds, runs
from tests.modern import NAMES, modern
from tests.predict_samples import arch, layer, stack

STRUCTURE: dict[Mask, Structure] = {"causal": "causal-decoder", "prefix": "prefix-decoder", "bidirectional": "encoder"}
KINDS: list[Attention] = [
    Gqa(n_heads=15, n_kv_heads=3, head_dim=8),
    Gqa(n_heads=15, n_kv_heads=3, head_dim=8, window=4),
    *kinds(),
]
STUDIES = [entry.name for entry in catalog.entries() if entry.path.parent.name == "studies"]
MISSED = "experts x (1 - top_k / experts) ^ tokens"
"""How many experts no token takes on average: a power, which is one number."""
NUMBERED = re.compile(r"_\d+$")


def sizes(figure: Explanation) -> dict[str, set[str]]:
    """Every symbol of a formula with the numbers that stand in its places; factors that are numbers are left out."""
    if "(batch x new_tokens)" in figure.formula:  # one name, of two words
        return {}
    formula = figure.formula.replace(MISSED, "missed")
    symbols, numbers = (re.split(r" [-x+/] ", text) for text in (formula, figure.numbers))
    assert len(symbols) == len(numbers), figure
    found: dict[str, set[str]] = {}
    for symbol, number in zip(symbols, numbers, strict=True):
        if not symbol.isdigit():
            found.setdefault(symbol, set()).add(number)
    return found


def works(spec: ArchSpec, contexts: tuple[int, ...], dtypes: Dtypes) -> Iterator[Workload]:
    """Whole prompts, prompts after a past and decode steps, as far as `spec` can run them."""
    decodes = spec.main.mask != "bidirectional"
    for context in contexts:
        news = {context, context - 6, 1} if decodes else {context}
        for new_tokens in sorted(new for new in news if new > 0):
            yield from (
                work
                for work in [
                    Workload(
                        phase="decode" if decodes and new_tokens == 1 else "prefill",
                        batch=5,
                        new_tokens=new_tokens,
                        context=context,
                        source_tokens=17 if spec.encoder is not None else 0,
                        prefix_tokens=context // 2 if spec.main.mask == "prefix" else 0,
                        logits="last" if new_tokens < context else "all",
                        dtypes=dtypes,
                    )
                ]
                if runs(spec, work)
            )


@pytest.mark.parametrize("attention", KINDS, ids=lambda attention: attention.kind)
def test_a_kind_has_a_name_for_each_of_its_sizes(attention: Attention) -> None:
    """Where all layers are alike, no name needs a number either."""
    positions: list[LayerPosition] = [NoPosition(), Rope(theta=10000.0, rotary_dim=4)]
    windowed = isinstance(attention, Gqa) and attention.window is not None
    if isinstance(attention, Gqa) and not windowed:
        positions.append(Gaussian())
    explained = 0
    for mask in attention.masks:
        if windowed and mask != "causal":
            continue
        for position in positions:
            spec = arch(stack([layer(attention, position=position)], mask=mask), d=10, v=11, structure=STRUCTURE[mask])
            for dtypes in (Dtypes(), Dtypes(weights="fp32", activations="bf16", kv_cache="fp16")):
                for work in works(spec, (1, 6, 12, 13), dtypes):
                    for figure in explain(spec, work):
                        explained += 1
                        for symbol, numbers in sizes(figure).items():
                            assert len(numbers) == 1, (symbol, figure)
                            assert not NUMBERED.search(symbol), (symbol, figure)
    assert explained


@pytest.mark.parametrize("name", NAMES)
def test_a_symbol_has_one_value_in_every_modern_architecture(name: str) -> None:
    spec, explained = modern(name), 0
    for dtypes in (Dtypes(), Dtypes(weights="fp32", activations="bf16", kv_cache="fp16")):
        for work in works(spec, (1, 6, 13), dtypes):
            for figure in explain(spec, work):
                explained += 1
                assert all(len(numbers) == 1 for numbers in sizes(figure).values()), figure
    assert explained > 20


@pytest.mark.parametrize("study", STUDIES)
def test_a_symbol_has_one_value_in_every_study(study: str) -> None:
    for spec in catalog.resolve([study], all_variants=True):
        for work in works(spec, (1024, 1003), Dtypes()):
            for figure in explain(spec, work):
                assert all(len(numbers) == 1 for numbers in sizes(figure).values()), figure


def test_a_name_with_several_sizes_is_numbered() -> None:
    formula = Formula()
    formula.add((("layers.1", 1), ("c", 4)))
    formula.add((("layers.0", 1), ("c", 9)))
    formula.add((("layers.2", 3), ("c", 4)), per=("tokens per row", 2))
    assert formula.symbols == "layers.0 x c_1 + layers.2 x c_2 / tokens per row + layers.1 x c_2"
    assert formula.numbers == "1 x 9 + 3 x 4 / 2 + 1 x 4"


def test_the_experts_that_are_missed_are_one_number() -> None:
    spec = modern("moe")  # 2 of 6 experts
    work = Workload(phase="prefill", batch=2, new_tokens=1, context=1)
    (figure,) = (each for each in explain(spec, work) if each.name == "experts_expected")
    assert figure.formula == f"experts - {MISSED}"
    (missed,) = sizes(figure)["missed"]
    assert sizes(figure) == {"experts": {"6"}, "missed": {missed}}
    assert float(missed) == pytest.approx(6 * (4 / 6) ** 2)


def test_the_check_sees_a_symbol_with_two_values() -> None:
    figure = Explanation(name="n", value=7, formula="2 x t + t", numbers="2 x 3 + 1", source="reference-execution")
    assert sizes(figure) == {"t": {"3", "1"}}
