"""Smaller classes of GPT's kin."""

from __future__ import annotations

from tests.import_cases.gptj import SMALL as GPTJ
from tests.importing import Case

GPT = {"vocab_size": 300, "n_embd": 48, "n_layer": 3, "n_head": 6, "n_positions": 64}

CASES = [
    Case(
        model_type="codegen",
        config={**GPTJ, "n_head": 8},
        variations={
            "as released": {"n_ctx": 64, "n_inner": None, "scale_attn_weights": True, "summary_type": "cls_index"},
            "stated width": {"n_inner": 100},
            "tied": {"tie_word_embeddings": True},
        },
    ),
    Case(
        model_type="openai-gpt",
        config=GPT,
        variations={
            "as released": {"afn": "gelu", "n_ctx": 64, "n_special": 0, "predict_special_tokens": True},
            "other activation": {"afn": "relu"},
            "untied": {"tie_word_embeddings": False},
        },
    ),
    Case(
        model_type="ctrl",
        config={**GPT, "dff": 100},
        variations={"as released": {"from_tf": False, "n_ctx": 512}, "untied": {"tie_word_embeddings": False}},
    ),
    Case(
        model_type="xglm",
        config={
            "vocab_size": 300,
            "d_model": 48,
            "num_layers": 3,
            "attention_heads": 6,
            "ffn_dim": 100,
            "max_position_embeddings": 64,
        },
        variations={
            "not scaled": {"scale_embedding": False},
            "untied": {"tie_word_embeddings": False},
            "as fairseq's dense models are released": {"newlinemode": "s", "tokenizer_class": "GPT2Tokenizer"},
        },
    ),
    Case(
        model_type="biogpt",
        config={
            "vocab_size": 300,
            "hidden_size": 48,
            "num_hidden_layers": 3,
            "num_attention_heads": 6,
            "intermediate_size": 100,
            "max_position_embeddings": 64,
        },
        variations={"not scaled": {"scale_embedding": False}, "untied": {"tie_word_embeddings": False}},
    ),
    Case(
        model_type="gpt_neox_japanese",
        config={
            "vocab_size": 300,
            "hidden_size": 96,
            "num_hidden_layers": 3,
            "num_attention_heads": 6,
            "intermediate_multiple_size": 3,
            "max_position_embeddings": 64,
        },
        variations={
            "as released": {"rotary_pct": 1.0, "rotary_emb_base": 10000},
            "one layer": {"num_hidden_layers": 1},
            "untied": {"tie_word_embeddings": False},
        },
    ),
]
