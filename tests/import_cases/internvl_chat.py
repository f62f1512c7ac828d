"""InternVL in its own schema, of which transformers has no class."""

from __future__ import annotations

from tests.importing import Case

TOWER = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "vocab_size": 300,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "attn_implementation": "flash_attention_2",
    "moe_config": None,
    "use_bfloat16": True,
}

# Embedding and output 2 x 300 x 48, final norm 48; each of 3 layers: 2 norms of 48, queries and output 48 x 48, keys and
# values 48 x 16, their biases 48 and 2 x 16, three matrices of 48 x 80.
UNTIED = 2 * 300 * 48 + 48 + 3 * (2 * 48 + 2 * 48 * 48 + 2 * 48 * 16 + 48 + 2 * 16 + 3 * 48 * 80)

CASES = [
    Case(
        model_type="internvl_chat",
        config={
            "downsample_ratio": 0.5,
            "dynamic_image_size": True,
            "force_image_size": 448,
            "hidden_size": 48,
            "image_fold": None,
            "llm_config": TOWER,
            "max_dynamic_patch": 12,
            "min_dynamic_patch": 1,
            "pad2square": False,
            "ps_version": "v2",
            "select_layer": -1,
            "system_message": None,
            "template": "internvl2_5",
            "tie_word_embeddings": False,
            "use_backbone_lora": 0,
            "use_llm_lora": 0,
            "use_thumbnail": True,
            "vision_config": {"hidden_size": 1024},
        },
        variations={"tied": {"tie_word_embeddings": True, "llm_config": {**TOWER, "tie_word_embeddings": True}}},
        params={"as it stands": UNTIED, "tied": UNTIED - 300 * 48},
    )
]
