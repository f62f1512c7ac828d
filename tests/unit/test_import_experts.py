"""What equal parameters do not show of the families of experts: routers, windows, chunks, rotations, scales, totals."""

from __future__ import annotations

import math
from typing import Any

import pytest

from llmprof.errors import SpecError
from llmprof.importing.read import Imported
from llmprof.predict.parameters import parameters
from llmprof.spec.arch import Glu, Gqa, LayerSpec, Mla, Moe, NoPosition, Rope
from llmprof.spec.head import LmHead
from tests.importing import ABSENT, cases, imported

SMALL = {case.model_type: dict(case.configs())["as it stands"] for case in cases()}
YARN = {"type": "yarn", "factor": 40, "mscale": 1.0, "mscale_all_dim": 1.0, "original_max_position_embeddings": 4096}

DEEPSEEK_V2 = {
    "model_type": "deepseek_v2",
    "architectures": ["DeepseekV2ForCausalLM"],
    "aux_loss_alpha": 0.001,
    "ep_size": 1,
    "first_k_dense_replace": 1,
    "hidden_size": 5120,
    "intermediate_size": 12288,
    "kv_lora_rank": 512,
    "max_position_embeddings": 163840,
    "moe_intermediate_size": 1536,
    "moe_layer_freq": 1,
    "n_group": 8,
    "n_routed_experts": 160,
    "n_shared_experts": 2,
    "norm_topk_prob": False,
    "num_attention_heads": 128,
    "num_experts_per_tok": 6,
    "num_hidden_layers": 60,
    "num_key_value_heads": 128,
    "q_lora_rank": 1536,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "rope_scaling": YARN,
    "routed_scaling_factor": 16.0,
    "scoring_func": "softmax",
    "seq_aux": True,
    "topk_group": 3,
    "topk_method": "group_limited_greedy",
    "v_head_dim": 128,
    "vocab_size": 102400,
}
"""https://huggingface.co/deepseek-ai/DeepSeek-V2/blob/main/config.json, recalled."""

DEEPSEEK_V3 = {"model_type": "deepseek_v3", "first_k_dense_replace": 3, "rope_scaling": YARN, "rope_theta": 10000}
"""What the class has by default is V3: https://huggingface.co/deepseek-ai/DeepSeek-V3/blob/main/config.json, recalled."""

GLM_4_5 = {
    "model_type": "glm4_moe",
    "attention_bias": True,
    "first_k_dense_replace": 3,
    "head_dim": 128,
    "hidden_size": 5120,
    "intermediate_size": 12288,
    "moe_intermediate_size": 1536,
    "n_routed_experts": 160,
    "num_hidden_layers": 92,
    "num_nextn_predict_layers": 1,
    "partial_rotary_factor": 0.5,
    "routed_scaling_factor": 2.5,
    "use_qk_norm": True,
}
"""https://huggingface.co/zai-org/GLM-4.5/blob/main/config.json, recalled."""


def made(config: dict[str, Any], **changes: Any) -> Imported:
    """A config with other fields, imported; `ABSENT` takes one out."""
    return imported({key: value for key, value in {**config, **changes}.items() if value is not ABSENT})


def layers(config: dict[str, Any], **changes: Any) -> tuple[LayerSpec, ...]:
    """Its layers."""
    return made(config, **changes).spec.base.stacks[0].layers


def refused(config: dict[str, Any], **changes: Any) -> str:
    """What is said of a config that is not understood."""
    with pytest.raises(SpecError) as caught:
        made(config, **changes)
    return str(caught.value)


def gqa(layer: LayerSpec) -> Gqa:
    """The layer's attention."""
    assert isinstance(layer.attention, Gqa)
    return layer.attention


def moe(layer: LayerSpec) -> Moe:
    """The layer's experts."""
    assert isinstance(layer.ffn, Moe)
    return layer.ffn


@pytest.mark.parametrize(
    ("config", "total", "further"),
    [
        # The safetensors of the release hold 235,741,434,880 values (huggingface.co's count, recalled).
        (DEEPSEEK_V2, 235_741_434_880, 0),
        # A further layer: attention 187,107,328, two norms of 7168, a router of 256 x 7168, 257 experts of 3 x 7168 x
        # 2048; two norms before it and one after, and the matrix that joins.
        (
            DEEPSEEK_V3,
            671_026_404_352,
            187_107_328 + 2 * 7168 + 256 * 7168 + 257 * 3 * 7168 * 2048 + 3 * 7168 + 2 * 7168**2,
        ),
        # The release holds 358,337,791,296: these two, 90 x 160 corrections and the further layer's copies of two tables.
        (GLM_4_5, 352_797_814_784, 358_337_791_296 - 352_797_814_784 - 90 * 160 - 2 * 151_552 * 5120),
    ],
)
def test_releases_have_their_published_totals(config: dict[str, Any], total: int, further: int) -> None:
    counted = parameters(made(config).spec.base)
    assert (counted.total, counted.mtp) == (total, further)


def test_routers_score_as_their_classes() -> None:
    def said(model_type: str, **changes: Any) -> tuple[Any, ...]:
        ffn = moe(layers(SMALL[model_type], **changes)[-1])
        return ffn.scores, ffn.normalise, ffn.scale, ffn.correction_bias, ffn.n_groups, ffn.groups_per_token

    assert said("mixtral") == ("softmax", True, 1.0, False, 1, 1)
    assert said("qwen2_moe") == ("softmax", False, 1.0, False, 1, 1)
    assert said("qwen3_moe", norm_topk_prob=True) == ("softmax", True, 1.0, False, 1, 1)
    assert said("olmoe") == ("softmax", False, 1.0, False, 1, 1)
    assert said("deepseek_v2", routed_scaling_factor=16.0) == ("softmax", False, 16.0, False, 1, 1)
    assert said("deepseek_v3") == ("sigmoid", True, 2.5, True, 4, 2)
    assert said("glm4_moe") == ("sigmoid", True, 1.0, True, 1, 1)
    assert said("glm4_moe_lite") == ("sigmoid", True, 1.8, True, 1, 1)
    assert said("gpt_oss") == ("softmax-chosen", False, 1.0, False, 1, 1)
    assert said("llama4_text") == ("sigmoid", False, 1.0, False, 1, 1)
    assert said("granitemoe") == ("softmax-chosen", False, 1.0, False, 1, 1)
    assert said("minimax_m2") == ("sigmoid", True, 1.0, True, 1, 1)
    assert said("hy_v3") == ("sigmoid", True, 2.826, True, 1, 1)


def test_groups_say_nothing_where_the_method_is_greedy() -> None:
    ffn = moe(layers(SMALL["deepseek_v2"], topk_method="greedy", n_group=3, topk_group=1)[-1])
    assert (ffn.n_groups, ffn.groups_per_token) == (1, 1)
    found = made(SMALL["deepseek_v2"], topk_method="group_limited_greedy", n_group=3, topk_group=2)
    ffn = moe(found.spec.base.stacks[0].layers[-1])
    assert (ffn.n_groups, ffn.groups_per_token) == (3, 2)
    assert any("their best expert" in remark for remark in found.remarks)


def test_qwen_places_experts_by_two_rules() -> None:
    def sparse(**changes: Any) -> list[int]:
        return [i for i, layer in enumerate(layers(SMALL["qwen2_moe"], **changes)) if isinstance(layer.ffn, Moe)]

    assert sparse() == [0, 1, 2, 3, 4]
    assert sparse(decoder_sparse_step=2) == [1, 3]
    assert sparse(mlp_only_layers=[1, 3]) == [0, 2, 4]
    assert sparse(decoder_sparse_step=2, mlp_only_layers=[3]) == [1]
    shared = moe(layers(SMALL["qwen2_moe"])[0])
    assert shared.shared is not None
    assert shared.shared.d_ff == 56
    assert shared.shared_gate


def test_windows_by_layer() -> None:
    def windows(model_type: str, **changes: Any) -> list[int | None]:
        return [gqa(layer).window for layer in layers(SMALL[model_type], **changes)]

    assert windows("gpt_oss") == [32, None, 32]
    assert windows("gpt_oss", layer_types=["full_attention"] * 2 + ["sliding_attention"]) == [None, None, 32]
    assert windows("mixtral", sliding_window=64) == [64, 64, 64]
    assert windows("mixtral", sliding_window=4096) == [None, None, None], "no context of 256 exceeds it"
    assert windows("qwen3_moe", sliding_window=64) == [None] * 4
    assert windows("qwen3_moe", sliding_window=64, use_sliding_window=True) == [64] * 4
    assert windows("dots1", sliding_window=64, max_window_layers=2) == [None, None, 64, 64]
    kinds = ["sliding_attention", "full_attention", "full_attention", "sliding_attention", "full_attention"]
    used = {"use_sliding_window": True, "sliding_window": 64, "layer_types": kinds, "mlp_only_layers": [0]}
    assert windows("qwen2_moe", **used) == [64, None, None, 64, None]
    assert isinstance(layers(SMALL["qwen2_moe"], **used)[0].ffn, Glu)
    assert windows("exaone_moe") == [64, 64, 64, None] * 2


def test_who_has_a_window_rotates_in_k_exaone() -> None:
    found = layers(SMALL["exaone_moe"])
    assert [isinstance(layer.position, Rope) for layer in found] == [True, True, True, False] * 2
    assert isinstance(found[3].position, NoPosition)


def test_llama_4_rotates_in_chunks_and_not_elsewhere() -> None:
    found = layers(SMALL["llama4_text"], interleave_moe_layer_step=2)
    assert [gqa(layer).chunk for layer in found] == [64, 64, 64, None, 64, 64]
    assert [isinstance(layer.position, Rope) for layer in found] == [True, True, True, False, True, True]
    assert [gqa(layer).qk_norm is None for layer in found] == [False, False, False, True, False, False]
    assert [isinstance(layer.ffn, Moe) for layer in found] == [False, True] * 3
    assert moe(found[1]).weigh == "input"
    assert all(gqa(layer).qk_norm is None for layer in layers(SMALL["llama4_text"], use_qk_norm=False))
    listed = layers(SMALL["llama4_text"], no_rope_layers=[0, 1, 1, 1, 1, 1], layer_types=["full_attention"] * 6)
    assert [gqa(layer).chunk for layer in listed] == [None] * 6
    assert [isinstance(layer.position, Rope) for layer in listed] == [False, True, True, True, True, True]


def test_gpt_oss_has_sinks_biases_and_a_clamp() -> None:
    layer = layers(SMALL["gpt_oss"], swiglu_limit=5.0, swiglu_alpha=1.5)[0]
    attention, ffn = gqa(layer), moe(layer)
    assert attention.sinks
    assert attention.qkv_bias
    assert attention.out_bias
    assert ffn.router_bias
    assert isinstance(ffn.expert, Glu)
    assert ffn.expert.bias
    assert (ffn.expert.kind, ffn.expert.beta, ffn.expert.limit) == ("swiglu-clamped", 1.5, 5.0)


def test_a_rescaled_rotation_grows_the_scale_of_latent_attention() -> None:
    def scale(**changes: Any) -> float | None:
        attention = layers(SMALL["deepseek_v3"], **changes)[0].attention
        assert isinstance(attention, Mla)
        return attention.scale

    grown = 0.1 * math.log(40) + 1
    assert scale() is None
    assert scale(rope_scaling=YARN) == 20**-0.5 * grown * grown  # 12 + 8 values of a query
    assert scale(rope_parameters={**YARN, "rope_type": "yarn"}) == 20**-0.5 * grown * grown
    assert scale(rope_scaling={**YARN, "mscale_all_dim": 0}) is None
    assert scale(rope_scaling={**YARN, "factor": 0.5}) == 20**-0.5, "a rotation that is not stretched"
    half = 0.1 * 0.5 * math.log(40) + 1
    assert scale(rope_scaling={**YARN, "mscale_all_dim": 0.5}) == 20**-0.5 * half * half


def test_mistral_small_4_stretches_its_rotation_where_the_file_says_nothing() -> None:
    def scale(**changes: Any) -> float | None:
        attention = layers(SMALL["mistral4"], **changes)[0].attention
        assert isinstance(attention, Mla)
        return attention.scale

    grown = 0.1 * math.log(128) + 1
    assert scale() == 16**-0.5 * grown * grown  # 8 + 8 values of a query
    plain = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}
    assert scale(rope_parameters=plain) is None
    assert "partial_rotary_factor" in refused(
        SMALL["mistral4"], rope_parameters={**plain, "partial_rotary_factor": 0.25}
    )


def test_cohere_rotates_where_it_has_a_window_and_in_dense_layers() -> None:
    def seen(**changes: Any) -> list[str]:
        return [
            f"{gqa(layer).window or 'all'} {'turned' if isinstance(layer.position, Rope) else 'still'}"
            for layer in layers(SMALL["cohere2_moe"], **changes)
        ]

    assert seen() == ["64 turned", "64 turned", "64 turned", "all still", "64 turned", "64 turned"]
    # Two dense layers first: their pattern is 1, so that they see all, and rotate; the others count from there.
    assert seen(first_k_dense_replace=2) == ["all turned"] * 2 + ["64 turned"] * 3 + ["all still"]
    ffn = moe(layers(SMALL["cohere2_moe"], expert_selection_fn="sigmoid")[0])
    assert (ffn.scores, ffn.normalise) == ("sigmoid", True)
    assert moe(layers(SMALL["cohere2_moe"])[0]).scores == "softmax-chosen"
    assert layers(SMALL["cohere2_moe"])[0].block == "parallel"
    assert "shared_expert_combination_strategy" in refused(SMALL["cohere2_moe"], num_shared_experts=1)


def test_the_bottlenecks_norms_have_an_eps_of_their_own() -> None:
    layer = layers(SMALL["deepseek_v3"], rms_norm_eps=1e-5)[0]
    assert isinstance(layer.attention, Mla)
    assert (layer.norm.eps, layer.attention.norm.eps) == (1e-5, 1e-6)


def test_indexers_are_read_and_shared_ones_refused() -> None:
    for model_type in ("deepseek_v32", "glm_moe_dsa"):
        for layer in layers(SMALL[model_type]):
            assert isinstance(layer.attention, Mla)
            assert layer.attention.indexer is not None
            indexer = layer.attention.indexer
            assert (indexer.n_heads, indexer.head_dim, indexer.top_k) == (3, 14, 16)
    dsa = SMALL["glm_moe_dsa"]
    assert "indexer_types" in refused(dsa, indexer_types=["full", "shared", "full", "shared"])
    assert "index_topk_freq" in refused(dsa, index_topk_freq=4)
    assert "index_topk_pattern" in refused(dsa, index_topk_pattern="FSFS")


def test_layers_that_predict_further_tokens_are_like_one_with_experts() -> None:
    found = made(SMALL["deepseek_v3"], num_nextn_predict_layers=2).spec.base
    assert found.mtp is not None
    assert (found.mtp.count, found.mtp.layer) == (2, found.stacks[0].layers[-1])
    assert made(SMALL["deepseek_v3"], num_nextn_predict_layers=0).spec.base.mtp is None
    assert made(SMALL["deepseek_v3"], first_k_dense_replace=0).spec.base.mtp is not None, "a stack without groups"
    assert "num_nextn_predict_layers" in refused(
        SMALL["deepseek_v3"], first_k_dense_replace=4, num_nextn_predict_layers=1
    )


def test_rotated_parts_of_heads() -> None:
    def rotated(model_type: str, **changes: Any) -> int | None:
        position = layers(SMALL[model_type], **changes)[0].position
        assert isinstance(position, Rope)
        return position.rotary_dim

    assert rotated("glm4_moe") == 8
    assert rotated("glm4_moe", partial_rotary_factor=1.0) is None
    assert rotated("minimax_m2") == 8
    assert rotated("minimax_m2", rotary_dim=ABSENT) is None
    assert rotated("minimax_m2", rotary_dim=ABSENT, partial_rotary_factor=0.25) == 4
    assert rotated("minimax_m2", rotary_dim=16) is None
    assert "rotary_dim" in refused(SMALL["minimax_m2"], partial_rotary_factor=0.25)


def test_granite_has_its_factors() -> None:
    found = made(SMALL["granitemoe"]).spec.base
    layer = found.stacks[0].layers[0]
    assert (found.embedding_scale, gqa(layer).scale, layer.residual.scale) == (12.0, 0.015625, 0.22)
    assert isinstance(found.head, LmHead)
    assert found.head.output_scale == 1 / 6


@pytest.mark.parametrize(
    ("model_type", "changes", "key"),
    [
        ("olmoe", {"clip_qkv": 8.0}, "clip_qkv"),
        ("bailing_moe", {"use_bias": True}, "use_bias"),
        ("bailing_moe", {"score_function": "sigmoid"}, "score_function"),
        ("bailing_moe", {"rotary_dim": 6, "partial_rotary_factor": 0.5}, "rotary_dim"),
        ("dbrx", {"ffn_config": {"moe_normalize_expert_weights": 2.0}}, "moe_normalize_expert_weights"),
        ("ernie4_5_moe", {"moe_gate": "top1"}, "moe_gate"),
        ("olmoe", {"head_dim": 16}, "head_dim"),
        ("qwen2_moe", {"use_sliding_window": True}, "use_sliding_window"),
        ("qwen2_moe", {"layer_types": ["sliding_attention"] * 5}, "layer_types"),
        ("qwen3_moe", {"use_sliding_window": True, "max_window_layers": 2}, "max_window_layers"),
        ("qwen3_moe", {"shared_expert_intermediate_size": 24}, "shared_expert_intermediate_size"),
        ("deepseek_v2", {"moe_layer_freq": 2}, "moe_layer_freq"),
        ("deepseek_v2", {"norm_topk_prob": True}, "norm_topk_prob"),
        ("deepseek_v2", {"topk_method": "noaux_tc"}, "topk_method"),
        ("deepseek_v3", {"scoring_func": "softmax"}, "scoring_func"),
        ("deepseek_v3", {"topk_method": "greedy"}, "topk_method"),
        ("deepseek_v3", {"num_key_value_heads": 2}, "num_key_value_heads"),
        ("deepseek_v3", {"mlp_layer_types": ["dense"] * 4}, "mlp_layer_types"),
        ("deepseek_v32", {"mlp_layer_types": ["sparse"] * 4}, "first_k_dense_replace"),
        ("deepseek_v32", {"q_lora_rank": None}, "q_lora_rank"),
        ("glm4_moe_lite", {"first_k_dense_replace": 2}, "first_k_dense_replace"),
        ("gpt_oss", {"hidden_act": "gelu"}, "hidden_act"),
        ("gpt_oss", {"sliding_window": None}, "sliding_window"),
        ("llama4_text", {"attention_chunk_size": None}, "attention_chunk_size"),
        ("llama4_text", {"no_rope_layers": [1, 1]}, "no_rope_layers"),
        ("minimax_m2", {"attn_type_list": [1, 0, 1]}, "attn_type_list"),
        ("minimax_m2", {"use_qk_norm": False}, "use_qk_norm"),
        ("hy_v3", {"num_shared_experts": 0}, "num_shared_experts"),
        ("solar_open", {"first_k_dense_replace": 1}, "first_k_dense_replace"),
        ("mixtral", {"num_experts": 4}, "num_experts"),
        ("mixtral", {"num_hidden_layers": 2**40}, "num_hidden_layers"),
        ("deepseek_v3", {"num_hidden_layers": 2**40}, "num_hidden_layers"),
    ],
)
def test_what_is_not_understood_is_named(model_type: str, changes: dict[str, Any], key: str) -> None:
    assert key in refused(SMALL[model_type], **changes)
