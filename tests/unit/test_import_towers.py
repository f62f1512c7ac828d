"""Configs of several towers: which one is read, which flag ties, and what is said of the rest."""

from __future__ import annotations

from typing import Any

import pytest

from llmprof.errors import SpecError
from llmprof.predict.parameters import parameters
from tests.importing import imported

LLAMA = {
    "model_type": "llama",
    "vocab_size": 300,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
}
QWEN3 = {**LLAMA, "model_type": "qwen3", "num_key_value_heads": 2, "head_dim": 12}


def paths(config: dict[str, Any]) -> set[str]:
    with pytest.raises(SpecError) as caught:
        imported(config)
    return {problem.path for problem in caught.value.problems}


def test_what_is_left_out_is_named() -> None:
    found = imported({"model_type": "llava", "text_config": LLAMA, "vision_config": {"hidden_size": 1024}})
    assert found.remarks == (
        "only the tower of text (text_config) is read; left out: the vision tower (vision_config) and what joins the "
        "towers",
    )
    alone = imported(LLAMA)
    assert found.spec.base.stacks == alone.spec.base.stacks
    assert parameters(found.spec.base) == parameters(alone.spec.base)
    assert found.model_type == "llava"


def test_sound_is_named_too() -> None:
    text = {**LLAMA, "model_type": "qwen2", "num_key_value_heads": 2}
    found = imported({"model_type": "qwen2_audio", "text_config": text, "audio_config": {"d_model": 1280}})
    assert "the audio tower (audio_config)" in found.remarks[0]


TIES = [
    # class, flag of the whole, flag of the tower, version, tied
    ("llava", None, None, None, False),
    ("llava", False, True, None, True),
    ("llava", True, None, None, True),
    ("llava_next", True, None, None, True),
    ("llava_next", False, False, None, False),
    ("internvl", False, None, None, False),
    ("internvl", True, True, None, True),
    ("internvl", None, True, None, True),
    ("internvl", None, False, "4.52.1", False),
    ("internvl", None, None, "4.52.1", False),
    ("internvl", None, None, "5.8.0", True),
    # Version 5 writes what a tower takes for granted into it, and heeds the flag of the whole.
    ("internvl", True, False, "5.23.0", True),
    ("llava_next", False, True, "5.23.0", False),
]


def of_flags(model_type: str, whole: bool | None, tower: bool | None, version: str | None) -> dict[str, Any]:
    text = QWEN3 if model_type == "internvl" else LLAMA
    config: dict[str, Any] = {"model_type": model_type, "text_config": dict(text)}
    if whole is not None:
        config["tie_word_embeddings"] = whole
    if tower is not None:
        config["text_config"]["tie_word_embeddings"] = tower
    if version is not None:
        config["transformers_version"] = version
    return config


@pytest.mark.parametrize(("model_type", "whole", "tower", "version", "tied"), TIES)
def test_which_flag_ties(
    model_type: str, whole: bool | None, tower: bool | None, version: str | None, tied: bool
) -> None:
    assert imported(of_flags(model_type, whole, tower, version)).spec.base.tied_embeddings is tied


@pytest.mark.parametrize(
    ("model_type", "whole", "tower", "version"),
    [
        ("internvl", None, None, None),  # the class of the whole ties, Qwen3's does not
        ("internvl", None, False, "5.8.0"),
        ("internvl", True, False, "4.52.1"),
        ("llava_next", False, True, None),
    ],
)
def test_flags_that_decide_nothing_stop_the_import(
    model_type: str, whole: bool | None, tower: bool | None, version: str | None
) -> None:
    assert "tie_word_embeddings" in " ".join(paths(of_flags(model_type, whole, tower, version)))


def test_a_flag_that_counts_for_nothing_is_no_default_that_was_taken() -> None:
    found = imported(of_flags("llava_next", False, None, None))
    assert "text_config.tie_word_embeddings" not in found.defaults
    assert "text_config.tie_word_embeddings" in imported(of_flags("llava_next", None, None, None)).defaults


def test_a_class_that_ties_nothing() -> None:
    text = {**LLAMA, "model_type": "qwen2", "num_key_value_heads": 2, "tie_word_embeddings": True}
    assert "tie_word_embeddings" in paths({"model_type": "qwen2_audio", "text_config": text})


def test_a_problem_of_the_tower_is_reported_there() -> None:
    assert paths({"model_type": "llava", "text_config": {**LLAMA, "hidden_act": "cubic"}}) == {"text_config.hidden_act"}
    assert paths({"model_type": "llava", "text_config": {**LLAMA, "n_shared": 3}}) == {"text_config.n_shared"}
    assert paths({"model_type": "llava", "text_config": {**LLAMA, "num_attention_heads": 7}}) == {
        "text_config.num_attention_heads"
    }


def test_a_tower_that_is_missing_or_unknown() -> None:
    assert paths({"model_type": "llava", "vision_config": {}}) == {"text_config"}
    assert paths({"model_type": "llava", "text_config": "llama"}) == {"text_config"}
    assert paths({"model_type": "llava", "text_config": {**LLAMA, "model_type": "nonesuch"}}) == {
        "text_config.model_type"
    }


def test_a_field_around_the_tower_must_say_the_same() -> None:
    config = {"model_type": "llava", "text_config": LLAMA}
    assert imported({**config, "vocab_size": 300, "num_hidden_layers": 2})
    assert paths({**config, "vocab_size": 301}) == {"vocab_size"}
    assert paths({**config, "num_hidden_layers": 3}) == {"num_hidden_layers"}
    assert paths({**config, "n_layers_of_something": 3}) == {"n_layers_of_something"}


def test_fields_of_the_text_among_the_others() -> None:
    flat = {**QWEN3, "model_type": "qwen2_vl", "vision_config": {"depth": 32}, "tie_word_embeddings": True}
    del flat["head_dim"]
    found = imported(flat)
    assert found.spec.base.tied_embeddings
    assert "whose fields stand among the others" in " ".join(found.remarks)
    assert paths({**flat, "hidden_act": "cubic"}) == {"hidden_act"}
    assert paths({**flat, "n_shared": 3}) == {"n_shared"}


def test_a_tower_under_another_key() -> None:
    config = {"model_type": "internvl_chat", "llm_config": LLAMA, "vision_config": {}}
    assert "only the tower of text (llm_config) is read" in imported(config).remarks[0]
    assert paths({**config, "use_llm_lora": 16}) == {"use_llm_lora"}
    assert paths({**config, "llm_config": {k: v for k, v in LLAMA.items() if k != "model_type"}}) == {"llm_config"}


def test_sizes_that_voxtral_adds_are_listed() -> None:
    text = {key: value for key, value in LLAMA.items() if key != "vocab_size"} | {"num_key_value_heads": 2}
    found = imported({"model_type": "voxtral", "text_config": {**text, "head_dim": 12}})
    assert found.spec.base.vocab_size == 131072
    assert "vocab_size = 131072" in " ".join(found.remarks)


# --- releases ---------------------------------------------------------------------------------------


def test_mistral_small_states_no_flag_and_is_untied() -> None:
    """The fields of Mistral-Small-3.1-24B's config.json, which transformers' Mistral3Config documents; 23.57 B of text.

    2 x 131072 x 5120 of tokens + 40 x (2 x 5120 x (32 + 8) x 128 + 3 x 5120 x 32768 + 2 x 5120) + 5120.
    """
    text = {
        "head_dim": 128,
        "hidden_act": "silu",
        "hidden_size": 5120,
        "intermediate_size": 32768,
        "max_position_embeddings": 131072,
        "model_type": "mistral",
        "num_attention_heads": 32,
        "num_hidden_layers": 40,
        "num_key_value_heads": 8,
        "rms_norm_eps": 1e-05,
        "rope_theta": 1000000000.0,
        "sliding_window": None,
        "vocab_size": 131072,
    }
    config = {"model_type": "mistral3", "text_config": text, "transformers_version": "4.50.0.dev0", "vision_config": {}}
    assert parameters(imported(config).spec.base).total == 23_572_403_200


def test_gemma_3_4b_leaves_most_to_its_class() -> None:
    """google/gemma-3-4b-it's config.json: five fields of the text. Keras prints 3,880,099,328 for 262,144 rows of the
    token table; the release with images has 64 rows of 2560 more.
    """
    text = {
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "model_type": "gemma3_text",
        "num_hidden_layers": 34,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        "sliding_window": 1024,
    }
    config = {"model_type": "gemma3", "text_config": text, "mm_tokens_per_image": 256, "vision_config": {}}
    assert parameters(imported(config).spec.base).total == 3_880_099_328 + 64 * 2560
