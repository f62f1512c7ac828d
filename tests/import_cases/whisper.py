"""Whisper's class."""

from __future__ import annotations

from tests.importing import Case

SMALL = {
    "vocab_size": 300,
    "num_mel_bins": 12,
    "d_model": 48,
    "encoder_layers": 2,
    "decoder_layers": 3,
    "encoder_ffn_dim": 100,
    "decoder_ffn_dim": 80,
    "encoder_attention_heads": 6,
    "decoder_attention_heads": 4,
    "max_source_positions": 40,
    "max_target_positions": 24,
    "pad_token_id": 0,
}

CASES = [
    Case(
        model_type="whisper",
        config=SMALL,
        variations={
            "as released": {
                "architectures": ["WhisperForConditionalGeneration"],
                "apply_spec_augment": False,
                "begin_suppress_tokens": [220, 50256],
                "forced_decoder_ids": [[1, 50259]],
                "mask_time_prob": 0.05,
                "max_length": 448,
                "median_filter_width": 7,
                "num_hidden_layers": 2,
                "scale_embedding": False,
                "suppress_tokens": [],
                "use_weighted_layer_sum": False,
            },
            "untied": {"tie_word_embeddings": False},
            "other activation": {"activation_function": "relu"},
        },
        head="speech-lm",
    )
]
