"""Fields that code before transformers' own wrote into towers of text, and that no class of today reads there."""

from __future__ import annotations

from llmprof.importing.config import Config


def of_idefics(c: Config) -> None:
    """Of the code that trained Idefics and SmolVLM (HuggingFaceTB/SmolVLM2-500M-Video-Instruct, config.json)."""
    c.must("qk_layer_norms", False, why="norms of queries and keys, which the class does not have")
    c.must("use_resampler", False, why="a resampler of images, which the class does not have")
    c.must("rope_interleaved", False, why="another order of the rotated values")
    c.ignore(
        "_flash_attn_2_enabled",
        "is_llama_config",
        "neftune_noise_alpha",
        "perceiver_config",
        "pixel_shuffle_factor",
        "transformers.js_config",
    )
