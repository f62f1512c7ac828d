"""Every family against transformers: the same config, built there on meta, has as many parameters as here.

And the class's own defaults: a config that says nothing must come to the same as one that says all that the class has.
"""

from __future__ import annotations

from typing import Any

import pytest

from llmprof.importing import families
from llmprof.predict.parameters import parameters
from tests.importing import Case, build_total, cases, imported

CASES = cases()
EACH = [pytest.param(case, name, id=f"{case.model_type}: {name}") for case in CASES for name, _ in case.configs()]

NEEDED: dict[str, dict[str, Any]] = {
    "deepseek_v2": {"num_experts_per_tok": 6},
    "dots1": {"n_routed_experts": 128, "n_shared_experts": 2, "num_experts_per_tok": 6},
    "glm4_moe": {"head_dim": 128},
    "glm4v_moe_text": {"head_dim": 128},
    "qwen3_omni_moe_text": {"head_dim": 128},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 16},
}
"""Sizes that a config must state: the class builds nothing with its own, no whole heads, or no layers."""


@pytest.mark.parametrize(("case", "name"), EACH)
def test_a_config_has_the_parameters_of_its_class(case: Case, name: str) -> None:
    config = dict(case.configs())[name]
    expected = case.params[name] if case.params else build_total(case, config)
    assert parameters(imported(config).spec.base).total == expected


def test_every_family_has_a_case() -> None:
    assert set(families.known()) == {case.model_type for case in CASES}


@pytest.mark.parametrize("model_type", families.known())
def test_defaults_are_those_of_the_class(model_type: str) -> None:
    found = families.family(model_type)
    assert found is not None
    if found.config_class is None:
        pytest.skip("transformers has no class of this family")
    import transformers

    needed = {"model_type": model_type, **NEEDED.get(model_type, {})}
    everything = getattr(transformers, found.config_class)().to_dict() | needed
    said, unsaid = imported(everything), imported(needed)
    assert said.spec.base.stacks == unsaid.spec.base.stacks
    assert parameters(said.spec.base) == parameters(unsaid.spec.base)
    assert said.spec.base.tied_embeddings == unsaid.spec.base.tied_embeddings
    assert said.spec.base.max_context == unsaid.spec.base.max_context
