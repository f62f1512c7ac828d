"""T5's class, mT5's and UMT5's. transformers 5.23 ties the output matrix whatever a config says, so untied ones by hand."""

from __future__ import annotations

from tests.importing import Case

SMALL = {
    "vocab_size": 300,
    "d_model": 48,
    "d_kv": 12,
    "d_ff": 100,
    "num_layers": 2,
    "num_decoder_layers": 3,
    "num_heads": 6,
    "relative_attention_num_buckets": 16,
    "relative_attention_max_distance": 64,
}
GATED = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
# four projections of 48 x 72 in each of 2 + 2 x 3 attentions, a norm before each of them and of 5 feed-forwards, two
# at the ends, a table of 16 x 6 on either side
SHARED = 8 * 4 * 48 * 72 + (8 + 5 + 2) * 48 + 2 * 16 * 6
UNTIED = 2 * 300 * 48 + SHARED + 5 * 3 * 48 * 100

CASES = [
    Case(
        model_type="t5",
        config=SMALL,
        variations={
            "as released": {
                "architectures": ["T5WithLMHeadModel"],
                "n_positions": 512,
                "num_decoder_layers": None,
                "output_past": True,
                "task_specific_params": {"summarization": {"prefix": "summarize: "}},
            },
            "gated": {"feed_forward_proj": "gated-gelu", "dense_act_fn": "gelu_new", "is_gated_act": True},
            "gated, SiLU": {"feed_forward_proj": "gated-silu"},
            "plain GELU": {"feed_forward_proj": "gelu"},
            "by the library's names": {"num_attention_heads": 6, "num_hidden_layers": 2, "hidden_size": 48},
            "logits not scaled": {"scale_decoder_outputs": False},
        },
        head="seq2seq-lm",
        unlike={"tie_word_embeddings"},
    ),
    Case(model_type="t5", config={**SMALL, **GATED}, params={"as it stands": UNTIED}),
    Case(
        model_type="mt5",
        config=SMALL,
        variations={"not gated": {"feed_forward_proj": "relu"}},
        head="seq2seq-lm",
        unlike={"tie_word_embeddings"},
    ),
    Case(model_type="mt5", config={**SMALL, **GATED}, params={"as it stands": UNTIED}),
    Case(
        model_type="umt5",
        config=SMALL,
        variations={"not gated": {"feed_forward_proj": "relu"}, "as released": {"scalable_attention": True}},
        head="seq2seq-lm",
        unlike={"tie_word_embeddings"},
    ),
    # as T5, but for a table in each of 2 + 3 layers
    Case(model_type="umt5", config={**SMALL, **GATED}, params={"as it stands": UNTIED + 3 * 16 * 6}),
    Case(
        model_type="umt5",
        config={**SMALL, **GATED, "architectures": ["UMT5EncoderModel"]},
        params={"as it stands": 300 * 48 + 2 * 4 * 48 * 72 + 5 * 48 + 2 * 16 * 6 + 2 * 3 * 48 * 100},
    ),
    Case(
        model_type="t5",
        config={**SMALL, **GATED, "architectures": ["T5EncoderModel"]},
        # one side alone: two attentions, four norms and one at the end, one table of positions
        params={"as it stands": 300 * 48 + 2 * 4 * 48 * 72 + 5 * 48 + 16 * 6 + 2 * 3 * 48 * 100},
    ),
]
