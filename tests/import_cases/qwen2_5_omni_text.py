"""The text tower of Qwen2.5-Omni."""

from __future__ import annotations

from tests.import_cases import qwen2_vl_text
from tests.importing import Case

CASES = [
    Case(
        model_type="qwen2_5_omni_text",
        config=qwen2_vl_text.SMALL,
        head="tower",
        variations={
            **{name: it for name, it in qwen2_vl_text.CASES[0].variations.items() if name != "as released"},
            "untied": {"tie_word_embeddings": False},
            "as released": {
                "rope_theta": 1000000.0,
                "rope_scaling": {"mrope_section": [2, 1, 1], "rope_type": "default", "type": "default"},
            },
        },
    )
]
