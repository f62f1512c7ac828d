"""Whisper: two convolutions in front of the encoder, no bias on the keys, sinusoids that are stored."""

from __future__ import annotations

from llmprof.importing.config import Config
from llmprof.importing.document import Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.seq2seq import LEGACY, Sizes, side, whole, width

SIZES = Sizes(vocab_size=51865, d_model=384, layers=(4, 4), heads=6, d_ff=1536)


def document(c: Config) -> Doc:
    """The table. ``scale_embedding`` is read by no code of the class."""
    whole(c)
    hidden = width(c, SIZES)
    positions = c.size("max_target_positions", default=448)
    source = c.size("max_source_positions", default=1500)
    channels = c.size("num_mel_bins", default=80)
    c.ignore(*LEGACY)
    encoder = side(c, "encoder", hidden, SIZES, "pre", k_bias=False)
    heads = encoder["attention"]["n_heads"]
    c.must("num_key_value_heads", heads.value, None, why="another name of the encoder's heads")
    decoder = side(c, "decoder", hidden, SIZES, "pre", k_bias=False)
    return {
        "structure": "encoder-decoder",
        "vocab_size": c.size("vocab_size", default=SIZES.vocab_size),
        "d_model": hidden,
        "max_context": positions,
        "tied_embeddings": c.flag("tie_word_embeddings", default=True),
        "encoder": {
            "front": {"kind": "audio", "channels": channels, "kernel": 3},
            "position": {"kind": "sinusoidal", "stored_rows": source},
            **encoder,
        },
        "decoder": {"position": {"kind": "learned", "rows": positions}, **decoder},
    }


FAMILY = Family(
    document=document,
    config_class="WhisperConfig",
    source=TRANSFORMERS,
    idle=frozenset(
        {
            "alignment_heads",
            "apply_spec_augment",
            "classifier_proj_size",
            "lang_ids",
            "mask_feature_length",
            "mask_feature_min_masks",
            "mask_feature_prob",
            "mask_time_length",
            "mask_time_min_masks",
            "mask_time_prob",
            "median_filter_width",
            "no_timestamps_token_id",
            "scale_embedding",
            "use_weighted_layer_sum",
        }
    ),
)
