"""The class that a config was released with: with an output matrix, without one, or with a head we do not have."""

from __future__ import annotations

from typing import Any

import pytest

from llmprof.errors import SpecError
from llmprof.predict.parameters import parameters
from llmprof.spec.arch import LmHead, NoHead
from tests.importing import cases, imported

MISTRAL = {
    "model_type": "mistral",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "max_position_embeddings": 32768,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "sliding_window": 4096,
    "vocab_size": 32000,
}


def test_a_base_model_has_no_output_matrix() -> None:
    # https://huggingface.co/intfloat/e5-mistral-7b-instruct, a MistralModel of 7,110,660,096 values (its header,
    # recalled): Mistral 7B's 7,241,732,096 without 32000 x 4096.
    found = imported(MISTRAL | {"architectures": ["MistralModel"]})
    assert parameters(found.spec.base).total == 7_110_660_096 == 7_241_732_096 - 32000 * 4096
    assert isinstance(found.spec.base.head, NoHead)
    assert "MistralModel" in found.notes["head.kind"]


@pytest.mark.parametrize("names", [["MistralForCausalLM"], ["FlaxMistralForCausalLM"], [], None])
def test_a_causal_model_has_one(names: list[str] | None) -> None:
    found = imported(MISTRAL | {"architectures": names})
    assert parameters(found.spec.base).total == 7_241_732_096
    assert isinstance(found.spec.base.head, LmHead)


def test_a_matrix_that_is_the_token_table_is_there_in_any_case() -> None:
    found = imported({"model_type": "bloom", "architectures": ["BloomModel"]}).spec.base
    assert isinstance(found.head, LmHead)
    assert found.tied_embeddings


@pytest.mark.parametrize(
    "names", [["MistralForSequenceClassification"], ["LlamaForCausalLMEagle3"], ["MistralModel", "Other"], "x", [1], {}]
)
def test_another_head_is_refused(names: Any) -> None:
    with pytest.raises(SpecError) as caught:
        imported(MISTRAL | {"architectures": names})
    assert [problem.path for problem in caught.value.problems] == ["architectures"]


@pytest.mark.parametrize("name", ["MixtralForCausalLM", "GPTNeoXForCausalLM", "BitNetForCausalLM"])
def test_the_class_of_another_family_is_refused(name: str) -> None:
    with pytest.raises(SpecError) as caught:
        imported(MISTRAL | {"architectures": [name]})
    (problem,) = caught.value.problems
    assert problem.path == "architectures"
    assert problem.expected.endswith(f"a class of the model_type mistral: {name} is another family's")


@pytest.mark.parametrize(
    ("model_type", "name"),
    [
        ("llama", "LLaMAForCausalLM"),  # as the first conversions were released
        ("gemma3_text", "Gemma3ForCausalLM"),
        ("falcon", "RWForCausalLM"),  # the name before the family came to transformers
        ("gpt2", "GPT2LMHeadModel"),
        ("gpt_bigcode", "GPTBigCodeForCausalLM"),
    ],
)
def test_older_and_shorter_names_are_the_familys_own(model_type: str, name: str) -> None:
    said, unsaid = imported({"model_type": model_type, "architectures": [name]}), imported({"model_type": model_type})
    assert said.spec.base.stacks == unsaid.spec.base.stacks


def test_a_class_of_its_makers_own_says_nothing() -> None:
    config = {
        "model_type": "internlm2",
        "architectures": ["InternLM2Model"],
        "bias": False,
        "hidden_size": 48,
        "intermediate_size": 80,
        "max_position_embeddings": 256,
        "num_attention_heads": 6,
        "num_hidden_layers": 2,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000,
        "tie_word_embeddings": False,
        "vocab_size": 300,
    }
    assert isinstance(imported(config).spec.base.head, LmHead)
    # InternLM2-7B-Reward has one row where the others have a matrix over the vocabulary.
    with pytest.raises(SpecError) as caught:
        imported(config | {"architectures": ["InternLM2ForRewardModel"]})
    assert [problem.path for problem in caught.value.problems] == ["architectures"]


@pytest.mark.parametrize("name", ["MistralForCausalLM", "FlaxMistralForCausalLM", "TFMistralForCausalLM"])
def test_nothing_is_said_of_a_class_of_the_family(name: str) -> None:
    assert imported(MISTRAL | {"architectures": [name]}).remarks == ()


def test_a_class_that_nobody_is_called_by_is_read_as_the_familys_and_told() -> None:
    found = imported(
        MISTRAL
        | {"architectures": ["HomeMadeForCausalLM"], "auto_map": {"AutoModelForCausalLM": "x.HomeMadeForCausalLM"}}
    )
    assert parameters(found.spec.base).total == 7_241_732_096
    assert any(
        "architectures names HomeMadeForCausalLM, which no family is called by" in each for each in found.remarks
    )


TOWERS: dict[str, Any] = {
    "model_type": "mistral3",
    "text_config": MISTRAL,
    "vision_config": {"model_type": "pixtral"},
    "tie_word_embeddings": False,
}


def test_a_base_model_of_several_towers_has_no_output_matrix() -> None:
    """As a diffusion model's encoder of texts is released (https://huggingface.co/snake7gun/ERNIE-Image-Turbo-tiny)."""
    whole = imported(TOWERS | {"architectures": ["Mistral3ForConditionalGeneration"]}).spec.base
    bare = imported(TOWERS | {"architectures": ["Mistral3Model"]}).spec.base
    assert isinstance(bare.head, NoHead)
    assert parameters(whole).total - parameters(bare).total == 32000 * 4096
    tied = imported(TOWERS | {"architectures": ["Mistral3Model"], "tie_word_embeddings": True}).spec.base
    assert isinstance(tied.head, LmHead)
    assert parameters(tied).total == parameters(bare).total


def test_another_head_of_several_towers_is_refused() -> None:
    with pytest.raises(SpecError) as caught:
        imported(TOWERS | {"architectures": ["Mistral3ForSequenceClassification"]})
    assert [problem.path for problem in caught.value.problems] == ["architectures"]


def test_what_its_makers_call_a_model_of_several_towers_may_have_a_head() -> None:
    """InternVL2: `tests/released_others/internvl2-2b.json`."""
    config = {"model_type": "internvl_chat", "architectures": ["InternVLChatModel"], "llm_config": MISTRAL}
    assert isinstance(imported(config).spec.base.head, LmHead)


def test_qwen_omni_was_released_as_a_model_with_a_head() -> None:
    """https://huggingface.co/Qwen/Qwen2.5-Omni-7B/blob/main/config.json, recalled."""
    (case,) = (case for case in cases() if case.model_type == "qwen2_5_omni")
    config = dict(case.configs())["as it stands"] | {"architectures": ["Qwen2_5OmniModel"]}
    assert isinstance(imported(config).spec.base.head, LmHead)
