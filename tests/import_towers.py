"""The tower of text that transformers builds for a model of several towers, with its matrix over the vocabulary."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

LANGUAGE = ("language_model.", "text_model.", "lm_head.")
"""In the names of parameters: what belongs to the text."""

ONLY_INSIDE = {"qwen2_5_omni_text": "qwen2_5_omni_thinker", "qwen3_omni_moe_text": "qwen3_omni_moe_thinker"}
"""Towers that transformers builds as part of a whole alone -> the whole."""


def tower_total(config: dict[str, Any]) -> int:
    """How many parameters the text takes, tied ones once, built on meta.

    Of a class that has no matrix over the vocabulary, a tower alone, that matrix is added where the config unties it.
    """
    import torch
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES

    made = transformers.AutoConfig.for_model(**deepcopy(config))
    if made.model_type in ONLY_INSIDE:
        tied = getattr(made, "tie_word_embeddings", False)
        inside: dict[str, Any] = {
            "model_type": ONLY_INSIDE[made.model_type],
            "text_config": config,
            "tie_word_embeddings": tied,
        }
        made = transformers.AutoConfig.for_model(**deepcopy(inside))
    whole = made.model_type in MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES
    auto: Any = transformers.AutoModelForMultimodalLM if whole else transformers.AutoModel
    with torch.device("meta"):
        model: Any = auto.from_config(made)
    if not whole:
        untied = 0 if getattr(made, "tie_word_embeddings", False) else made.vocab_size * made.hidden_size
        return int(sum(p.numel() for p in model.parameters()) + untied)
    text = [p for name, p in model.named_parameters() if any(part in name for part in LANGUAGE)]
    assert text, "a tower of text by one of the names"
    return sum(p.numel() for p in text)
