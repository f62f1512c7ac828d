"""Qwen2.5-Omni: as many parameters as its thinker's text has."""

from __future__ import annotations

from tests.import_cases.internvl_chat import UNTIED
from tests.import_cases.qwen2_5_omni_thinker import TEXT
from tests.importing import Case

CASES = [
    Case(
        model_type="qwen2_5_omni",
        config={
            "enable_audio_output": True,
            "thinker_config": {"model_type": "qwen2_5_omni_thinker", "text_config": TEXT, "audio_config": {}},
            "talker_config": {"hidden_size": 896},
            "token2wav_config": {},
            "transformers_version": "4.50.0.dev0",
        },
        variations={
            "no word of its type": {"thinker_config": {"text_config": TEXT}},
            "tied": {"thinker_config": {"text_config": TEXT, "tie_word_embeddings": True}},
        },
        # The sizes of InternVL's case, which is of the same block.
        params={"as it stands": UNTIED, "no word of its type": UNTIED, "tied": UNTIED - 300 * 48},
    )
]
