"""Qwen3-Omni: as many parameters as its thinker's text has."""

from __future__ import annotations

from tests.import_cases.qwen3_omni_moe_thinker import TEXT
from tests.importing import Case

# Embedding and output 2 x 300 x 48, final norm 48; each of 3 layers 2 norms of 48, queries and output 48 x 72, keys and
# values 48 x 24, two norms of 12, a router 6 x 48 and six experts of 3 x 48 x 20.
UNTIED = 2 * 300 * 48 + 48 + 3 * (96 + 2 * 48 * 72 + 2 * 48 * 24 + 24 + 6 * 48 + 6 * 3 * 48 * 20)

CASES = [
    Case(
        model_type="qwen3_omni_moe",
        config={
            "enable_audio_output": True,
            "thinker_config": {"model_type": "qwen3_omni_moe_thinker", "text_config": TEXT, "vision_config": {}},
            "talker_config": {"num_code_groups": 16},
            "code2wav_config": {},
            "user_token_id": 872,
        },
        variations={"tied": {"thinker_config": {"text_config": TEXT, "tie_word_embeddings": True}}},
        params={"as it stands": UNTIED, "tied": UNTIED - 300 * 48},
    )
]
