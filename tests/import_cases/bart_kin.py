"""The classes that differ from BART's in norms and positions."""

from __future__ import annotations

from tests.import_cases.bart import SMALL
from tests.importing import Case

PRE: dict[str, object] = {"add_final_layer_norm": True, "normalize_before": True, "num_hidden_layers": 2}
POST: dict[str, object] = {"add_final_layer_norm": False, "normalize_before": False, "num_hidden_layers": 2}

CASES = [
    Case(
        model_type="mbart",
        config=SMALL,
        variations={"as released": {**PRE, "normalize_embedding": True, "scale_embedding": True}},
        head="seq2seq-lm",
    ),
    Case(
        model_type="pegasus",
        config=SMALL,
        variations={
            "as released": {
                **PRE,
                "activation_function": "relu",
                "extra_pos_embeddings": 1,
                "normalize_embedding": False,
                "scale_embedding": True,
                "static_position_embeddings": True,
            }
        },
        head="seq2seq-lm",
    ),
    Case(
        model_type="marian",
        config={**SMALL, "pad_token_id": 0},
        variations={
            "as released": {
                **POST,
                "activation_function": "swish",
                "decoder_vocab_size": 300,
                "extra_pos_embeddings": 300,
                "normalize_embedding": False,
                "scale_embedding": True,
                "share_encoder_decoder_embeddings": True,
                "static_position_embeddings": True,
            }
        },
        head="seq2seq-lm",
    ),
    Case(
        model_type="blenderbot",
        config=SMALL,
        variations={
            "as released": {
                **PRE,
                "encoder_no_repeat_ngram_size": 3,
                "extra_layer_norm": False,
                "layernorm_variant": "prelayernorm",
                "normalize_embedding": False,
                "scale_embedding": True,
            }
        },
        head="seq2seq-lm",
    ),
    Case(
        model_type="m2m_100",
        config=SMALL,
        variations={"not scaled": {"scale_embedding": False}, "other activation": {"activation_function": "gelu"}},
        head="seq2seq-lm",
    ),
]
