"""BERT's kin, each with its masked-LM head and as the bare model with its pooler."""

from __future__ import annotations

from typing import Any

from tests.importing import Case

SMALL: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "intermediate_size": 100,
    "max_position_embeddings": 64,
    "type_vocab_size": 2,
}


def both(model_type: str, family: str, **variations: dict[str, Any]) -> list[Case]:
    """The two cases of a class."""
    bare = {**SMALL, "architectures": [f"{family}Model"]}
    headed = {"as released": {"architectures": [f"{family}ForMaskedLM"], "position_embedding_type": "absolute"}}
    return [
        Case(model_type=model_type, config=SMALL, variations={**headed, **variations}, head="masked-lm"),
        Case(
            model_type=model_type,
            config=bare,
            variations={"another activation": {"hidden_act": "relu"}},
            head="base",
            unlike={"architectures"},
        ),
    ]


CASES = [
    *both(
        "bert",
        "Bert",
        multilingual={"directionality": "bidi", "pooler_fc_size": 768, "pooler_type": "first_token_transform"},
    ),
    *both("megatron-bert", "MegatronBert"),
    *both("ernie", "Ernie", older={"use_task_id": False, "task_type_vocab_size": 3}),
    *both("roberta", "Roberta", one_segment={"type_vocab_size": 1}, another_activation={"hidden_act": "gelu_new"}),
    *both("xlm-roberta", "XLMRoberta", one_segment={"type_vocab_size": 1, "output_past": True}),
    *both("xlm-roberta-xl", "XLMRobertaXL", two_segments={"type_vocab_size": 2}),
    *both("data2vec-text", "Data2VecText", one_segment={"type_vocab_size": 1}),
    *both("camembert", "Camembert", one_segment={"type_vocab_size": 1}),
    Case(
        model_type="bert-generation",
        config={key: value for key, value in SMALL.items() if key != "type_vocab_size"},
        variations={
            "as released": {"architectures": ["BertGenerationEncoder"]},
            "another activation": {"hidden_act": "relu"},
        },
        head="base",
    ),
]
