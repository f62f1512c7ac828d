"""Families that are known and have no table, and why: what they have that the spec language has not.

Read in the modeling files of transformers 5.23.0, https://pypi.org/project/transformers/5.23.0/, read 2026-11-30.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

_PER_LAYER = "an embedding of each token for every layer, which is added inside the layer"
_SHARED_BLOCK = "one block of attention and feed-forward whose weights serve several layers"
_PER_CHANNEL = "a delta rule whose decay is one for each channel of a key, made by projections of its own"
_CROSS = "layers of attention to the rows of an image in its tower of text"

INEXPRESSIBLE: Mapping[str, str] = MappingProxyType(
    {
        "apertus": "xIELU, an activation with two parameters of its own in each layer",
        "bailing_hybrid": _PER_CHANNEL,
        "bitnet": "norms inside the attention and the feed-forward, before their last matrices",
        "gemma3n": _PER_LAYER,
        "gemma3n_text": _PER_LAYER,
        "gemma4": _PER_LAYER + ", or keys that are values too",
        "gemma4_text": _PER_LAYER + ", or keys that are values too",
        "kimi_linear": _PER_CHANNEL,
        "minimax": "lightning attention: linear attention with a fixed decay for each head",
        "mllama": _CROSS,
        "mllama_text_model": _CROSS,
        "modernbert-decoder": "a dense layer and a norm before the output matrix of a causal decoder",
        "pixtral": "a vision tower alone, and no text",
        "zamba": _SHARED_BLOCK,
        "zamba2": _SHARED_BLOCK,
    }
)
"""A ``model_type`` -> what stands in the way."""
