"""Releases of several modalities: the text of every family has its place, and all else is of a tower.

The tensors are those of transformers' model on meta, called as `save_pretrained` would call them.
"""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from llmprof.importing.headers.safetensors import read_safetensors
from llmprof.stored.join import join
from llmprof.stored.joined import Kind
from tests.import_towers import ONLY_INSIDE
from tests.importing import Case, cases, imported
from tests.weights import write_safetensors

TOWERS = [case for case in cases() if case.head == "tower" and case.model_type not in ONLY_INSIDE]
AUTO = ("AutoModelForMultimodalLM", "AutoModelForImageTextToText", "AutoModelForSpeechSeq2Seq", "AutoModel")


def tensors(config: dict[str, Any]) -> dict[str, tuple[str, list[int]]]:
    """What the whole model would be saved as; without the matrix over the vocabulary where no class has one."""
    import torch
    import transformers
    from transformers.core_model_loading import revert_weight_conversion

    made = transformers.AutoConfig.for_model(**deepcopy(config))
    for name in AUTO:
        auto: Any = getattr(transformers, name)
        if type(made) in auto._model_mapping:
            with torch.device("meta"):
                model = auto.from_config(deepcopy(made))
            held = revert_weight_conversion(model, dict(model.state_dict()))
            return {key: ("F32", list(value.shape)) for key, value in held.items()}
    raise AssertionError(f"no class builds {made.model_type}")


@pytest.mark.parametrize("case", TOWERS, ids=lambda case: case.model_type)
def test_the_text_has_its_place_and_all_else_is_of_a_tower(case: Case, tmp_path: Path) -> None:
    config = dict(case.configs())["as it stands"]
    made = tensors(config)
    joined = join(imported(config).spec.base, read_safetensors(write_safetensors(tmp_path / "x.safetensors", made)))
    wrong = [item for item in joined.items if item.kind in (Kind.UNEXPLAINED, Kind.DIFFERS)]
    assert not wrong, [(item.tensor.name, item.note) for item in wrong]
    alone = not any("lm_head" in name or "output" in name for name in made)
    assert {each.path for each in joined.lacking} <= ({"lm_head"} if alone else set())
    held = joined.by_kind[Kind.PARAMETER][1] + sum(each.expected for each in joined.lacking)
    assert held == joined.params_total


def test_there_are_towers() -> None:
    assert len(TOWERS) > 20
