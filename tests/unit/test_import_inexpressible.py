"""Families that the spec language cannot say are refused with what stands in the way, alone and as a tower."""

from __future__ import annotations

from typing import Any

import pytest

from llmprof.errors import SpecError
from llmprof.importing import families
from llmprof.importing.inexpressible import INEXPRESSIBLE
from tests.importing import imported


@pytest.mark.parametrize("model_type", sorted(INEXPRESSIBLE))
@pytest.mark.parametrize("nested", [False, True])
def test_why_there_is_no_table_is_said(model_type: str, nested: bool) -> None:
    config: dict[str, Any] = {"model_type": model_type}
    with pytest.raises(SpecError) as caught:
        imported({"model_type": "llava", "text_config": config} if nested else config)
    (problem,) = caught.value.problems
    assert problem.path == ("text_config.model_type" if nested else "model_type")
    assert INEXPRESSIBLE[model_type] in problem.expected
    assert problem.hint is None


def test_what_has_a_table_is_not_called_inexpressible() -> None:
    assert not set(families.known()) & INEXPRESSIBLE.keys()


def test_an_unknown_family_is_answered_with_those_that_are_known() -> None:
    with pytest.raises(SpecError) as caught:
        imported({"model_type": "llamma"})
    (problem,) = caught.value.problems
    assert "llama, " in problem.expected
    assert problem.hint == "did you mean 'llama'?"


@pytest.mark.parametrize(
    ("model_type", "near", "hint"),
    [
        ("yi", "Yi", "did you mean 'Yi'?"),
        ("gpt-neox", "gpt_neox, gpt_neo, ", "did you mean 'gpt_neox'?"),
        ("deepseek_v4", "deepseek_v", None),  # another number is another model, not a slip
        ("kimi_k3", "kimi_k2, kimi_k25, ", None),
        ("step3_vl", "", None),
        ("x" * 10**6, "", None),
    ],
)
def test_the_nearest_names_come_first(model_type: str, near: str, hint: str | None) -> None:
    with pytest.raises(SpecError) as caught:
        imported({"model_type": model_type})
    (problem,) = caught.value.problems
    assert problem.expected.startswith(f"a family that has a table ({near or 'all are '}")
    assert (" near; all are " in problem.expected) is bool(near)
    assert problem.hint == hint
    assert problem.path == "model_type"
