"""BART's class, and PLBART's."""

from __future__ import annotations

from tests.importing import Case

SMALL = {
    "vocab_size": 300,
    "d_model": 48,
    "encoder_layers": 2,
    "decoder_layers": 3,
    "encoder_ffn_dim": 100,
    "decoder_ffn_dim": 80,
    "encoder_attention_heads": 6,
    "decoder_attention_heads": 4,
    "max_position_embeddings": 64,
}
"""Two sides that differ in everything in which they can."""

CASES = [
    Case(
        model_type="bart",
        config=SMALL,
        variations={
            "as released": {
                "_num_labels": 3,
                "add_bias_logits": False,
                "add_final_layer_norm": False,
                "architectures": ["BartForConditionalGeneration"],
                "classif_dropout": 0.0,
                "early_stopping": True,
                "force_bos_token_to_be_generated": True,
                "forced_bos_token_id": 0,
                "normalize_before": False,
                "normalize_embedding": True,
                "num_hidden_layers": 2,
                "output_past": True,
                "replacing_rate": 0,
                "student_decoder_layers": [0, 6, 11],
                "scale_embedding": False,
                "static_position_embeddings": False,
                "task_specific_params": {"summarization": {"num_beams": 4}},
            },
            "scaled embeddings": {"scale_embedding": True},
            "other activation": {"activation_function": "relu"},
        },
        head="seq2seq-lm",
    ),
    Case(
        model_type="plbart",
        config=SMALL,
        variations={"not scaled": {"scale_embedding": False}},
        head="seq2seq-lm",
    ),
]
