"""What parameters do not show of an imported hybrid: kinds of layers, scales, windows, what is refused and what is said."""

from __future__ import annotations

from typing import Any

import pytest

from llmprof.errors import SpecError
from llmprof.importing.jsontext import decode
from llmprof.importing.read import import_config
from llmprof.predict.parameters import parameters
from llmprof.spec.arch import (
    ArchSpec,
    GatedDeltaNet,
    Glu,
    Gqa,
    LmHead,
    Mamba1,
    Mamba2,
    Mlp,
    Moe,
    NoAttention,
    NoFfn,
    NoPosition,
    RgLru,
    Rope,
    ShortConv,
)
from tests.import_cases import (
    falcon_h1,
    granitemoehybrid,
    jamba,
    lfm2,
    mamba2,
    nemotron_h,
    nemotron_nas,
    olmo_hybrid,
    qwen3_5_text,
    qwen3_next,
    recurrent_gemma,
)
from tests.importing import Case, imported


def read(case: Case, **changes: Any) -> ArchSpec:
    """The architecture of a case's first config with some fields changed."""
    return imported({"model_type": case.model_type, **case.config, **changes}).spec.base


def remarks(case: Case, **changes: Any) -> str:
    return "; ".join(imported({"model_type": case.model_type, **case.config, **changes}).remarks)


def kinds(arch: ArchSpec) -> list[tuple[str, str]]:
    return [(layer.attention.kind, layer.ffn.kind) for layer in arch.main.layers]


# --- which layer is what --------------------------------------------------------------------------


def test_a_letter_of_nemotron_is_a_layer_of_one_part() -> None:
    arch = read(nemotron_h.CASES[0])  # M-M*M-E
    assert kinds(arch) == [
        ("mamba-2", "none"),
        ("none", "relu2"),
        ("mamba-2", "none"),
        ("gqa", "none"),
        ("mamba-2", "none"),
        ("none", "relu2"),
        ("none", "moe"),
    ]
    assert {type(layer.position) for layer in arch.main.layers} == {NoPosition}


def test_experts_of_nemotron() -> None:
    ffn = read(nemotron_h.CASES[0], moe_latent_size=24, mlp_bias=False, routed_scaling_factor=5.0).main.layers[6].ffn
    assert isinstance(ffn, Moe)
    assert (ffn.latent, ffn.scores, ffn.normalise, ffn.scale, ffn.correction_bias) == (24, "sigmoid", True, 5.0, True)
    assert ffn.expert == Mlp(kind="relu2", d_ff=20)
    assert ffn.shared == Mlp(kind="relu2", d_ff=36)


def test_biases_of_nemotron_are_not_those_of_the_chosen_experts() -> None:
    ffn = read(nemotron_h.CASES[0], mlp_bias=True).main.layers[6].ffn
    assert isinstance(ffn, Moe)
    assert ffn.shared is not None
    assert (ffn.expert.bias, ffn.shared.bias) == (False, True)


def test_jamba_places_attention_and_experts_apart() -> None:
    arch = read(jamba.CASES[0])  # attention in layers 1 and 5, experts in 1, 3, 5
    assert kinds(arch) == [
        ("mamba-1", "swiglu"),
        ("gqa", "moe"),
        ("mamba-1", "swiglu"),
        ("mamba-1", "moe"),
        ("mamba-1", "swiglu"),
        ("gqa", "moe"),
    ]
    mixer, ffn = arch.main.layers[0].attention, arch.main.layers[1].ffn
    assert isinstance(mixer, Mamba1)
    assert mixer.inner_norm is not None
    assert mixer.inner_norm.weight
    assert isinstance(ffn, Moe)
    assert (ffn.scores, ffn.normalise) == ("softmax", False)


def test_lfm2_by_places_and_by_words() -> None:
    words = read(lfm2.CASES[0])
    places = read(lfm2.CASES[0], layer_types=None, full_attn_idxs=[1])
    assert [layer.attention for layer in words.main.layers] == [layer.attention for layer in places.main.layers]
    assert [isinstance(layer.attention, ShortConv) for layer in words.main.layers] == [True, False, True, True]
    # Two thirds of 120, up to a multiple of 16.
    assert {layer.ffn for layer in words.main.layers} == {Glu(kind="swiglu", d_ff=80)}


def test_recurrent_gemma() -> None:
    arch = read(recurrent_gemma.CASES[0])
    first, _, local, *_ = arch.main.layers
    assert isinstance(first.attention, RgLru)
    assert (first.attention.width, first.attention.n_blocks, first.attention.d_conv) == (56, 4, 3)
    assert isinstance(local.attention, Gqa)
    assert (local.attention.window, local.attention.out_bias, local.attention.qkv_bias) == (20, True, False)
    assert local.position == Rope(theta=10000.0, rotary_dim=6)  # half of 48 / 4
    assert arch.head == LmHead(softcap=30.0)
    assert arch.embedding_scale == 48**0.5
    assert first.ffn == Glu(kind="geglu-tanh", d_ff=41, bias=True)  # the class halves 82


def test_qwen3_next_gates_its_attention_and_turns_a_quarter() -> None:
    full = read(qwen3_next.CASES[0], rope_theta=10000000).main.layers[3]
    assert isinstance(full.attention, Gqa)
    assert (full.attention.output_gate, full.attention.qkv_bias) == ("value", False)
    assert full.position == Rope(theta=10000000.0, rotary_dim=4)  # a quarter of 16
    linear = read(qwen3_next.CASES[0]).main.layers[0].attention
    assert linear == GatedDeltaNet(n_heads=4, n_key_heads=2, key_dim=6, value_dim=10, d_conv=3, chunk=64)
    ffn = full.ffn
    assert isinstance(ffn, Moe)
    assert (ffn.shared_gate, ffn.normalise) == (True, True)


def test_a_layer_that_predicts_further_tokens_is_like_those_of_the_attention() -> None:
    arch = read(qwen3_5_text.CASES[0], mtp_num_hidden_layers=1)
    assert arch.mtp is not None
    assert (arch.mtp.count, arch.mtp.layer.attention.kind) == (1, "gqa")
    alone = read(qwen3_5_text.CASES[0], mtp_num_hidden_layers=1, layer_types=["full_attention"] * 5)
    assert alone.mtp is not None
    without = imported(
        {"model_type": "qwen3_5_text", **qwen3_5_text.SMALL}
        | {"mtp_num_hidden_layers": 1, "layer_types": ["linear_attention"] * 5}
    )
    assert without.spec.base.mtp is None
    assert "predict further tokens are left out" in " ".join(without.remarks)


def test_norms_of_olmo_hybrid_stand_where_the_kind_of_layer_says() -> None:
    layers = read(olmo_hybrid.CASES[0]).main.layers
    assert [layer.placement for layer in layers] == ["pre", "pre", "pre", "reordered", "pre"]
    full = layers[3].attention
    assert isinstance(full, Gqa)
    assert full.qk_norm_over == "all-heads"
    assert isinstance(layers[3].position, Rope)
    bare = read(olmo_hybrid.CASES[0], rope_parameters={"rope_theta": None, "rope_type": "default"})
    assert bare.main.layers[3].position == NoPosition()


def test_a_block_of_nemotron_nas_is_reported_where_it_stands() -> None:
    config = {"model_type": "nemotron-nas", **nemotron_nas.CASES[0].config}
    blocks = [nemotron_nas.block(3, 10), nemotron_nas.block(3, 10)]
    blocks[1]["attention"]["n_heads_in_group"] = 4
    blocks[1]["ffn"]["replace_with_linear"] = True
    with pytest.raises(SpecError) as caught:
        imported({**config, "block_configs": blocks, "num_hidden_layers": 2})
    assert {problem.path for problem in caught.value.problems} == {
        "block_configs[1].attention.n_heads_in_group",
        "block_configs[1].ffn.replace_with_linear",
    }


def test_parts_of_nemotron_nas() -> None:
    arch = read(nemotron_nas.CASES[0])
    assert kinds(arch) == [("gqa", "swiglu"), ("none", "swiglu"), ("gqa", "none")]
    assert "do nothing, and are left out" in remarks(nemotron_nas.CASES[0])
    assert [getattr(layer.attention, "n_kv_heads", None) for layer in arch.main.layers] == [2, None, 6]


# --- multipliers ----------------------------------------------------------------------------------


def test_multipliers_of_falcon_h1() -> None:
    case = falcon_h1.CASES[0]
    arch = read(case, key_multiplier=0.5, embedding_multiplier=5.5, lm_head_multiplier=0.25)
    layer = arch.main.layers[0]
    assert isinstance(layer.attention, Gqa)
    assert layer.attention.scale == 0.5 * 12**-0.5
    assert (arch.embedding_scale, arch.head) == (5.5, LmHead(output_scale=0.25))
    assert isinstance(layer.mixer, Mamba2)
    assert (layer.mixer.norm_groups, layer.mixer.chunk) == (0, 16)
    normed = read(case, mamba_rms_norm=True).main.layers[0].mixer
    assert isinstance(normed, Mamba2)
    assert normed.norm_groups == 2
    assert "ssm_multipliers = [2, 1, 1, 1, 1] is left out" in remarks(case, ssm_multipliers=[2, 1, 1, 1, 1])


def test_multipliers_of_granite() -> None:
    case = granitemoehybrid.CASES[0]
    arch = read(case, **case.variations["multipliers"])
    layer = arch.main.layers[2]
    assert isinstance(layer.attention, Gqa)
    assert (layer.attention.scale, layer.residual.scale) == (0.0078125, 0.22)
    assert (arch.embedding_scale, arch.head) == (12.0, LmHead(output_scale=1 / 6))
    assert isinstance(layer.ffn, Moe)
    assert layer.ffn.scores == "softmax-chosen"
    assert layer.position == NoPosition()
    assert isinstance(read(case, position_embedding_type="rope").main.layers[2].position, Rope)
    assert isinstance(read(case, num_local_experts=0).main.layers[0].ffn, Glu)


# --- what is said -----------------------------------------------------------------------------------


def test_infinity_as_released_files_write_it() -> None:
    text = b'{"model_type": "mamba2", "time_step_limit": [0.0, Infinity]}'
    assert not [line for line in import_config(decode(text, "c.json"), None).remarks if "time_step" in line]
    assert "step sizes are clamped" in remarks(mamba2.CASES[0], time_step_limit=[0.001, 0.1])
    assert "step sizes" not in remarks(mamba2.CASES[0], time_step_limit=[0.0, {"__float__": "Infinity"}])


def test_a_layer_of_one_part_has_no_other() -> None:
    layers = read(nemotron_h.CASES[0]).main.layers
    assert isinstance(layers[0].ffn, NoFfn)
    assert isinstance(layers[1].attention, NoAttention)


# --- what is refused, and where ---------------------------------------------------------------------

REFUSED = [
    ("mamba", {"hidden_act": "gelu"}, "hidden_act"),
    ("mamba", {"ssm_cfg": {"layer": "Mamba2"}}, "ssm_cfg"),
    ("mamba", {"vocab_size": 50277, "pad_vocab_size_multiple": 8}, "pad_vocab_size_multiple"),
    ("mamba", {"hidden_size": 768, "d_model": 1024}, "d_model"),
    ("mamba2", {"num_heads": 100}, "num_heads"),
    ("mamba2", {"time_step_limit": "x"}, "time_step_limit"),
    ("falcon_h1", {"projectors_bias": True}, "projectors_bias"),
    ("falcon_h1", {"mamba_d_head": 60}, "mamba_d_head"),
    ("nemotron_h", {"tie_word_embeddings": True}, "tie_word_embeddings"),
    ("nemotron_h", {"hybrid_override_pattern": "M-X"}, "hybrid_override_pattern"),
    ("nemotron_h", {"hybrid_override_pattern": "ME", "num_hidden_layers": 3}, "num_hidden_layers"),
    ("nemotron_h", {"layers_block_type": ["moe"], "moe_latent_size": 64, "mlp_bias": True}, "mlp_bias"),
    ("nemotron_h", {"mamba_ssm_cache_dtype": "float16"}, "mamba_ssm_cache_dtype"),
    ("nemotron_h", {"sliding_window": 128}, "sliding_window"),
    ("granitemoehybrid", {"position_embedding_type": "alibi"}, "position_embedding_type"),
    ("granitemoehybrid", {"layer_types": ["mamba"]}, "layer_types"),
    ("bamba", {"partial_rotary_factor": 1.0}, "partial_rotary_factor"),
    ("jamba", {"attn_layer_offset": 8}, "attn_layer_offset"),
    ("recurrent_gemma", {"hidden_activation": "gelu"}, "hidden_activation"),
    ("lfm2", {"layer_types": ["conv"] * 32, "full_attn_idxs": [0]}, "full_attn_idxs"),
    ("lfm2_moe", {}, ""),
    ("qwen3_next", {"attention_bias": True}, "attention_bias"),
    ("qwen3_5_text", {"output_gate_type": "sigmoid"}, "output_gate_type"),
    ("nemotron-nas", {**nemotron_nas.CASES[0].config, "num_hidden_layers": 5}, "block_configs"),
    ("nemotron-nas", {**nemotron_nas.CASES[0].config, "intermediate_size": 80}, "intermediate_size"),
    ("olmo_hybrid", {"layer_types": ["full_attention"] * 32}, "layer_types"),
]


@pytest.mark.parametrize(("model_type", "changes", "path"), REFUSED)
def test_what_is_not_understood_is_refused_by_name(model_type: str, changes: dict[str, Any], path: str) -> None:
    with pytest.raises(SpecError) as caught:
        imported({"model_type": model_type, **changes})
    assert path in {problem.path for problem in caught.value.problems}


# --- releases ---------------------------------------------------------------------------------------


def test_lfm2_1_2b_as_it_was_released() -> None:
    """The fields of LiquidAI/LFM2-1.2B's config.json; the sum of its files is 1,170,340,608."""
    config = {
        "block_auto_adjust_ff_dim": True,
        "block_dim": 2048,
        "block_ff_dim": 12288,
        "block_ffn_dim_multiplier": 1.0,
        "block_mlp_init_scale": 1.0,
        "block_multiple_of": 256,
        "block_norm_eps": 1e-05,
        "block_out_init_scale": 1.0,
        "block_use_swiglu": True,
        "block_use_xavier_init": True,
        "conv_L_cache": 3,
        "conv_bias": False,
        "conv_dim": 2048,
        "conv_dim_out": 2048,
        "conv_use_xavier_init": True,
        "full_attn_idxs": [2, 5, 8, 10, 12, 14],
        "hidden_size": 2048,
        "max_position_embeddings": 128000,
        "model_type": "lfm2",
        "norm_eps": 1e-05,
        "num_attention_heads": 32,
        "num_heads": 32,
        "num_hidden_layers": 16,
        "num_key_value_heads": 8,
        "rope_theta": 1000000.0,
        "use_pos_enc": True,
        "vocab_size": 65536,
    }
    assert parameters(imported(config).spec.base).total == 1_170_340_608


def test_falcon_mamba_states_a_width_beside_an_expansion_that_is_another() -> None:
    """tiiuae/falcon-mamba-7b's config.json says expand 16 and intermediate_size 8192; its files sum to 7,272,665,088."""
    config = {
        "model_type": "falcon_mamba",
        "conv_kernel": 4,
        "expand": 16,
        "hidden_size": 4096,
        "intermediate_size": 8192,
        "num_hidden_layers": 64,
        "state_size": 16,
        "tie_word_embeddings": False,
        "time_step_rank": 256,
        "vocab_size": 65024,
    }
    assert parameters(imported(config).spec.base).total == 7_272_665_088
