"""Fields that any config may have and that decide no shape, no kernel and no byte.

They are about training, tokens, generation, or how a library runs the model. What is not here, not in a family's table
and not null stops the import.
"""

from __future__ import annotations

import re
from typing import Any

IDLE = frozenset(
    {
        # What the library writes into every config.
        "_attn_implementation",
        "_attn_implementation_autoset",
        "_commit_hash",
        "_name_or_path",
        "_num_labels",
        "architectures",
        "attn_implementation",
        "auto_map",
        "chunk_size_feed_forward",
        "cross_attention_hidden_size",
        "custom_pipelines",
        "dtype",
        "finetuning_task",
        "gradient_checkpointing",
        "id2label",
        "is_encoder_decoder",
        "label2id",
        "model_name",
        "model_type",
        "name_or_path",
        "num_labels",
        "output_attentions",
        "output_hidden_states",
        "output_past",
        "prefix",
        "problem_type",
        "return_dict",
        "sep_token_id",
        "task_specific_params",
        "tf_legacy_loss",
        "tokenizer_class",
        "torch_dtype",
        "torchscript",
        "transformers_version",
        "unsloth_fixed",
        "unsloth_version",
        "use_bfloat16",
        "use_cache",
        # How text is generated.
        "bad_words_ids",
        "begin_suppress_tokens",
        "diversity_penalty",
        "do_sample",
        "early_stopping",
        "encoder_no_repeat_ngram_size",
        "exponential_decay_length_penalty",
        "forced_decoder_ids",
        "length_penalty",
        "max_length",
        "min_length",
        "no_repeat_ngram_size",
        "num_beam_groups",
        "num_beams",
        "num_return_sequences",
        "output_scores",
        "remove_invalid_values",
        "repetition_penalty",
        "return_dict_in_generate",
        "suppress_tokens",
        "temperature",
        "top_k",
        "top_p",
        "typical_p",
    }
)

IDLE_WHERE: dict[str, Any] = {
    "add_cross_attention": False,
    "is_decoder": False,
    "pruned_heads": {},
    "tie_encoder_decoder": False,
}
"""Fields that every config may have and that decide nothing at this value alone."""

IDLE_NAMES = re.compile(
    r".*_token_ids?|.*_token_index|initializer_(?:range|factor|cutoff_factor)|init_std|"
    r"(?:\w+_)?(?:dropout|pdrop|dropout_prob|dropout_rate|dropout_p|layerdrop)|"
    r"(?:router_)?aux_loss_coef|router_z_loss_coef|output_router_logits"
)
"""Token numbers, initialisation, dropout, losses: whatever they are called in a class."""


def idle(key: str, value: Any) -> bool:
    """Whether a field decides nothing here: by its name, or because it says nothing."""
    if key in IDLE_WHERE:
        return bool(value == IDLE_WHERE[key])
    return value is None or key in IDLE or IDLE_NAMES.fullmatch(key) is not None
