"""Families that are known and have no table, and why: what they have that the spec language has not.

Read in the modeling files of transformers 5.23.0, https://pypi.org/project/transformers/5.23.0/, read 2026-11-30, and
`grok-1` in sglang 0.5.23, sglang/srt/models/grok.py, https://pypi.org/project/sglang/0.5.23/, read 2026-11-30.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

_PER_LAYER = "an embedding of each token for every layer, which is added inside the layer"
_SHARED_BLOCK = "one block of attention and feed-forward whose weights serve several layers"
_PER_CHANNEL = "a delta rule whose decay is one for each channel of a key, made by projections of its own"
_CAPACITY = "experts of a limited capacity, beyond which tokens pass them by"
_DISENTANGLED = "attention to relative positions apart from contents, with matrices of its own"
_GLOBAL = "further projections for the tokens that see all"
_CROSS = "layers of attention to the rows of an image in its tower of text"

INEXPRESSIBLE: Mapping[str, str] = MappingProxyType(
    {
        "albert": "layers that share their weights",
        "bailing_hybrid": _PER_CHANNEL,
        "bitnet": "norms inside the attention and the feed-forward, before their last matrices",
        "blenderbot-small": "embeddings that are scaled in the encoder and not in the decoder",
        "canine": "characters that convolutions gather into fewer rows",
        "convbert": "convolutions beside the heads of attention, with weights made of the input",
        "deberta": _DISENTANGLED,
        "deberta-v2": _DISENTANGLED,
        "electra": "embeddings of another width than the layers, and a discriminator's head",
        "fnet": "Fourier transforms in place of attention",
        "funnel": "layers that pool their input to fewer rows",
        "gemma3n": _PER_LAYER,
        "gemma3n_text": _PER_LAYER,
        "gemma4": _PER_LAYER + ", or keys that are values too",
        "gemma4_text": _PER_LAYER + ", or keys that are values too",
        "grok-1": "a router whose logits are capped before its softmax",
        "imagegpt": "an output matrix with a row less than the token table",
        "jetmoe": "projections of queries and out of the heads that are chosen among experts",
        "kimi_linear": _PER_CHANNEL,
        "led": _GLOBAL,
        "longformer": _GLOBAL,
        "longcat_flash": "two attentions and two feed-forwards in each layer, and experts that return what they get",
        "longt5": "attention to blocks, with relative positions of their own",
        "minimax": "lightning attention: linear attention with a fixed decay for each head",
        "mllama": _CROSS,
        "mllama_text_model": _CROSS,
        "mobilebert": "bottlenecks around the layers, and stacked feed-forwards",
        "modernbert-decoder": "a dense layer and a norm before the output matrix of a causal decoder",
        "mpnet": "relative positions beside learned ones",
        "nllb-moe": _CAPACITY,
        "pixtral": "a vision tower alone, and no text",
        "prophetnet": "streams of attention that predict several tokens at once",
        "reformer": "attention within buckets of hashes, and reversible layers",
        "squeezebert": "grouped convolutions in place of matrices",
        "switch_transformers": _CAPACITY,
        "xlnet": "relative positions with matrices of their own, and two streams of attention",
        "zamba": _SHARED_BLOCK,
        "zamba2": _SHARED_BLOCK,
    }
)
"""A ``model_type`` -> what stands in the way."""
