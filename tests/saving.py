"""Small models as transformers saves them: what its files call every tensor, for every family that is imported."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from tests.importing import Case

AUTO = {
    "causal-lm": "AutoModelForCausalLM",
    "seq2seq-lm": "AutoModelForSeq2SeqLM",
    "speech-lm": "AutoModelForSpeechSeq2Seq",
    "masked-lm": "AutoModelForMaskedLM",
    "base": "AutoModel",
}
MOST = 5_000_000
"""Parameters of a model that is saved: those of a test are small, and one that is not would take minutes."""


def save(case: Case, config: Mapping[str, Any], folder: Path) -> Path:
    """The model of a config with random weights, saved by transformers."""
    import torch
    import transformers

    made = transformers.AutoConfig.for_model(**deepcopy(dict(config)))
    if case.head == "own-causal-lm":
        build: Any = getattr(transformers, type(made).__name__.removesuffix("Config") + "ForCausalLM")
    else:
        made = made.get_text_config() if case.head == "causal-lm" else made
        build = getattr(transformers, AUTO[case.head]).from_config
    with torch.device("meta"):
        total = sum(p.numel() for p in build(deepcopy(made)).parameters())
    assert total < MOST, f"{total:,} parameters"
    build(made).save_pretrained(folder)
    return folder
