"""What parameters do not show of the older families: windows, positions, scales, placements, heads, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from llmprof.errors import SpecError
from llmprof.spec.arch import Alibi, ArchSpec, Gqa, LayerNorm, Learned, LmHead, MlmHead, Mlp, NoHead, Rope, Sinusoidal
from tests.import_cases import (
    bart,
    bert,
    chatglm,
    falcon,
    gpt2,
    gpt_neo,
    gpt_neox,
    modernbert,
    mpt,
    olmo,
    opt,
    t5,
    whisper,
)
from tests.importing import imported


def arch(model_type: str, config: dict[str, Any], **changes: Any) -> ArchSpec:
    return imported({"model_type": model_type, **config, **changes}).spec.base


def attentions(spec: ArchSpec, stack: int = 0) -> list[Gqa]:
    found = [layer.attention for layer in spec.stacks[stack].layers]
    return [attention for attention in found if isinstance(attention, Gqa)]


def refused(model_type: str, config: dict[str, Any], **changes: Any) -> str:
    with pytest.raises(SpecError) as caught:
        imported({"model_type": model_type, **config, **changes})
    return str(caught.value)


# --- decoders ---------------------------------------------------------------------------------


def test_gpt2_scales_scores_by_the_width_by_nothing_or_by_the_layer() -> None:
    assert [a.scale for a in attentions(arch("gpt2", gpt2.SMALL))] == [None] * 3
    assert [a.scale for a in attentions(arch("gpt2", gpt2.SMALL, scale_attn_weights=False))] == [1.0] * 3
    by_layer = attentions(arch("gpt2", gpt2.SMALL, scale_attn_by_inverse_layer_idx=True))
    whole = 8**-0.5  # 48 values over 6 heads
    assert [a.scale for a in by_layer] == [whole, whole / 2, whole / 3]


def test_gpt2_is_learned_pre_norm_tanh() -> None:
    spec = arch("gpt2", gpt2.SMALL)
    stack = spec.stacks[0]
    assert stack.embedded_position == Learned(rows=64)
    assert stack.layers[0].placement == "pre"
    assert stack.layers[0].ffn == Mlp(kind="gelu-tanh", d_ff=4 * 48, bias=True)
    assert stack.final_norm == LayerNorm(eps=1e-5)


def test_gpt_neo_has_windows_where_it_says_local_and_scales_nothing() -> None:
    spec = arch("gpt_neo", gpt_neo.SMALL)
    assert [a.window for a in attentions(spec)] == [None, 16, None, 16, 16]
    assert {a.scale for a in attentions(spec)} == {1.0}
    assert not attentions(spec)[0].qkv_bias
    assert attentions(spec)[0].out_bias


@pytest.mark.parametrize(
    "types",
    [
        [[["global"], 4]],
        [[["global", "local"], 3]],
        [[["round"], 5]],
        "global",
        [[["global"], "5"]],
        [["global", 5]],
        1,
    ],
)
def test_gpt_neo_refuses_other_lists_of_layers(types: Any) -> None:
    assert "attention_types" in refused("gpt_neo", gpt_neo.SMALL, attention_types=types)


def test_gpt_neox_rotates_a_part_in_parallel_blocks() -> None:
    layer = arch("gpt_neox", gpt_neox.SMALL).stacks[0].layers[0]
    assert layer.position == Rope(theta=10000.0, rotary_dim=4)  # a quarter of 96 / 6
    assert (layer.block, layer.parallel_norms) == ("parallel", 2)
    serial = arch("gpt_neox", gpt_neox.SMALL, use_parallel_residual=False, rotary_pct=1.0, rotary_emb_base=5e4)
    assert serial.stacks[0].layers[0].position == Rope(theta=5e4)
    assert serial.stacks[0].layers[0].block == "serial"
    newer = arch("gpt_neox", gpt_neox.SMALL, rope_parameters={"rope_theta": 3e4, "partial_rotary_factor": 0.5})
    assert newer.stacks[0].layers[0].position == Rope(theta=3e4, rotary_dim=8)


def test_gpt_neox_refuses_parts_that_cannot_be_rotated() -> None:
    assert "rotary_pct" in refused("gpt_neox", gpt_neox.SMALL, rotary_pct=0.2)  # 3 of 16 values
    assert "rotary_pct" in refused("gpt_neox", gpt_neox.SMALL, rotary_pct=1.5)
    assert "both name one thing" in refused("gpt_neox", gpt_neox.SMALL, rotary_emb_base=10000, rope_theta=20000)


def test_the_350m_of_opt_norms_after_and_has_a_narrow_table() -> None:
    spec = arch("opt", opt.SMALL, word_embed_proj_dim=32, do_layer_norm_before=False)
    assert spec.embedding_width == 32
    assert spec.stacks[0].layers[0].placement == "post"
    assert spec.stacks[0].final_norm is None
    assert spec.stacks[0].embedded_position == Learned(rows=66)
    assert spec.max_context == 64


def test_opt_without_its_final_norm() -> None:
    assert arch("opt", opt.SMALL).stacks[0].final_norm == LayerNorm(eps=1e-5)
    assert arch("opt", opt.SMALL, _remove_final_layer_norm=True).stacks[0].final_norm is None


def test_clips_of_mpt_and_olmo() -> None:
    clipped = arch("mpt", mpt.SMALL, attn_config={"clip_qkv": 6}), arch("olmo", olmo.SMALL, clip_qkv=8.0)
    layers = [each.stacks[0].layers[0] for each in (*clipped, arch("olmo", olmo.SMALL))]
    assert [getattr(layer.attention, "qkv_clip", "") for layer in layers] == [6.0, 8.0, None]
    assert isinstance(layers[0].position, Alibi)


@pytest.mark.parametrize(
    ("field", "value"),
    [("qk_ln", True), ("alibi", False), ("attn_type", "multiquery_attention"), ("kv_n_heads", 2), ("prefix_lm", True)],
)
def test_mpt_refuses_attentions_that_its_class_does_not_build(field: str, value: Any) -> None:
    assert f"attn_config.{field}" in refused("mpt", mpt.SMALL, attn_config={field: value})


FALCONS: list[tuple[dict[str, Any], int, str, int]] = [
    ({}, 1, "parallel", 1),
    ({"num_kv_heads": 12}, 1, "parallel", 1),
    ({"multi_query": False}, 12, "parallel", 1),
    ({"multi_query": False, "parallel_attn": False, "alibi": True}, 12, "serial", 1),
    ({"new_decoder_architecture": True, "num_kv_heads": 4}, 4, "parallel", 2),
    ({"new_decoder_architecture": True, "num_kv_heads": 4, "num_ln_in_parallel_attn": 1}, 4, "parallel", 1),
]


@pytest.mark.parametrize(("changes", "kv_heads", "block", "norms"), FALCONS)
def test_falcon_heads_and_blocks(changes: dict[str, Any], kv_heads: int, block: str, norms: int) -> None:
    spec = arch("falcon", falcon.SMALL, **changes)
    layer = spec.stacks[0].layers[0]
    assert attentions(spec)[0].n_kv_heads == kv_heads
    assert (layer.block, layer.parallel_norms) == (block, norms)
    assert isinstance(layer.position, Alibi if changes.get("alibi") else Rope)


def test_falcon_refuses_what_its_class_cannot_run() -> None:
    assert "num_ln_in_parallel_attn" in refused("falcon", falcon.SMALL, num_ln_in_parallel_attn=2)
    new = {"new_decoder_architecture": True, "parallel_attn": False}
    assert "parallel_attn" in refused("falcon", falcon.SMALL, **new)


def test_chatglm_is_two_architectures() -> None:
    first, second = arch("chatglm", chatglm.FIRST), arch("chatglm", chatglm.SECOND)
    assert first.structure == "prefix-decoder"
    assert first.stacks[0].layers[0].position == Rope(theta=10000.0, axes=2)
    assert first.stacks[0].layers[0].residual.alpha == 2.0  # (2 x 2 layers) ** 0.5
    assert second.structure == "causal-decoder"
    assert second.stacks[0].layers[0].position == Rope(theta=10000.0, rotary_dim=4)
    assert attentions(second)[0].n_kv_heads == 2
    scaled = arch("chatglm", chatglm.SECOND, rope_ratio=500)
    assert scaled.stacks[0].layers[0].position == Rope(theta=5_000_000.0, rotary_dim=4)


def test_chatglm_refuses_a_mixture_of_its_schemas_and_prefixes() -> None:
    assert "one schema" in refused("chatglm", {**chatglm.FIRST, "seq_length": 64})
    assert "pre_seq_len" in refused("chatglm", chatglm.SECOND, pre_seq_len=128)
    assert "'hidden_size' is missing" in refused("chatglm", {})


# --- encoders ---------------------------------------------------------------------------------


def test_an_encoder_has_the_head_that_its_class_says() -> None:
    headed = arch("bert", bert.SMALL, architectures=["BertForMaskedLM"])
    bare = arch("bert", bert.SMALL, architectures=["BertModel"])
    unsaid = imported({"model_type": "bert", **bert.SMALL})
    assert isinstance(headed.head, MlmHead)
    assert not headed.pooler
    assert isinstance(bare.head, NoHead)
    assert bare.pooler
    assert isinstance(unsaid.spec.base.head, MlmHead)
    assert any("architectures" in remark for remark in unsaid.remarks)


@pytest.mark.parametrize("name", ["BertForSequenceClassification", "BertForPreTraining", "RobertaModel"])
def test_an_encoder_refuses_other_classes(name: str) -> None:
    assert "architectures" in refused("bert", bert.SMALL, architectures=[name])


def test_a_decoder_refuses_the_head_of_a_classifier() -> None:
    assert "architectures" in refused("gpt2", gpt2.SMALL, architectures=["GPT2ForSequenceClassification"])


def test_the_masked_lm_head_is_exact_gelu() -> None:
    assert "hidden_act" in refused("bert", bert.SMALL, hidden_act="relu")
    assert isinstance(arch("roberta", bert.SMALL, hidden_act="relu").head, MlmHead)  # its head has GELU in any case


def test_positions_of_roberta_count_from_behind_the_padding() -> None:
    assert arch("bert", bert.SMALL).max_context == 64
    assert arch("roberta", bert.SMALL).max_context == 62
    assert arch("roberta", bert.SMALL, pad_token_id=3).max_context == 60
    assert "pad_token_id" in refused("roberta", bert.SMALL, pad_token_id=63)


def test_layers_of_modernbert() -> None:
    spec = arch("modernbert", modernbert.SMALL)
    assert [a.window for a in attentions(spec)] == [None, 16, 16, None, 16]
    thetas = [layer.position.theta for layer in spec.stacks[0].layers if isinstance(layer.position, Rope)]
    assert thetas == [160000.0, 10000.0, 10000.0, 160000.0, 10000.0]
    assert [layer.first_norm for layer in spec.stacks[0].layers] == [False, True, True, True, True]
    listed = arch("modernbert", modernbert.SMALL, layer_types=["sliding_attention"] * 4 + ["full_attention"])
    assert [a.window for a in attentions(listed)] == [16, 16, 16, 16, None]


# --- encoder-decoders -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model_type", "placement", "normed"),
    [("bart", "post", True), ("mbart", "pre", True), ("pegasus", "pre", False), ("marian", "post", False)],
)
def test_the_kin_of_bart(model_type: str, placement: str, normed: bool) -> None:
    spec = arch(model_type, bart.SMALL, pad_token_id=0, scale_embedding=True)
    for stack in spec.stacks:
        assert {layer.placement for layer in stack.layers} == {placement}
        assert (stack.embedding_norm is not None) == normed
        assert (stack.final_norm is not None) == (placement == "pre")
    assert spec.embedding_scale == 48**0.5
    assert [len(stack.layers) for stack in spec.stacks] == [2, 3]
    assert [
        stack.layers[0].attention.n_heads for stack in spec.stacks if isinstance(stack.layers[0].attention, Gqa)
    ] == [
        6,
        4,
    ]


def test_positions_of_the_kin_of_bart() -> None:
    position = {name: arch(name, bart.SMALL, pad_token_id=0).stacks[0].embedded_position for name in KIN}
    assert position == KIN


KIN = {
    "bart": Learned(rows=66),
    "mbart": Learned(rows=66),
    "blenderbot": Learned(rows=64),
    "pegasus": Sinusoidal(stored_rows=64),
    "marian": Sinusoidal(stored_rows=64),
    "m2m_100": Sinusoidal(),
}


@pytest.mark.parametrize(("model_type", "config"), [("bart", bart.SMALL), ("t5", t5.SMALL), ("whisper", whisper.SMALL)])
def test_one_side_alone_is_another_architecture(model_type: str, config: dict[str, Any]) -> None:
    assert "is_encoder_decoder" in refused(model_type, config, is_encoder_decoder=False)
    assert "is_decoder" in refused(model_type, config, is_decoder=True)


def test_fields_of_early_releases_must_say_what_the_class_builds() -> None:
    assert "normalize_before" in refused("bart", bart.SMALL, normalize_before=True)
    assert "tie_word_embeddings" in refused("bart", bart.SMALL, tie_word_embeddings=False)
    assert "decoder_vocab_size" in refused("marian", bart.SMALL, decoder_vocab_size=200)


def test_whisper_has_no_bias_on_its_keys_and_stored_sinusoids() -> None:
    spec = arch("whisper", whisper.SMALL)
    encoder, decoder = spec.stacks
    assert encoder.front is not None
    assert encoder.front.channels == 12
    assert encoder.embedded_position == Sinusoidal(stored_rows=40)
    assert decoder.embedded_position == Learned(rows=24)
    assert attentions(spec)[0].k_bias is False
    assert decoder.layers[0].cross_attention is not None
    assert decoder.layers[0].cross_attention.k_bias is False


def test_whisper_has_another_name_of_its_heads() -> None:
    assert arch("whisper", whisper.SMALL, num_key_value_heads=6).stacks == arch("whisper", whisper.SMALL).stacks
    assert "num_key_value_heads" in refused("whisper", whisper.SMALL, num_key_value_heads=2)


def test_t5_ties_as_its_config_says() -> None:
    tied, untied = arch("t5", t5.SMALL), arch("t5", t5.SMALL, tie_word_embeddings=False)
    assert tied.tied_embeddings
    assert tied.head == LmHead(input_scale=48**-0.5)
    assert not untied.tied_embeddings
    assert untied.head == LmHead()
    assert arch("t5", t5.SMALL, scale_decoder_outputs=False).head == LmHead()
    assert arch("mt5", t5.SMALL).head == LmHead()  # the class of mT5 never scales


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("relu", "relu"),
        ("gated-gelu", "geglu-tanh"),
        ("gated-silu", "swiglu"),
        ("gated-relu", "reglu"),
        ("gelu", "gelu"),
    ],
)
def test_feed_forwards_of_t5(said: str, kind: str) -> None:
    spec = arch("t5", t5.SMALL, feed_forward_proj=said)
    assert {getattr(layer.ffn, "kind", None) for stack in spec.stacks for layer in stack.layers} == {kind}


def test_what_t5_derives_must_agree() -> None:
    assert "dense_act_fn" in refused("t5", t5.SMALL, feed_forward_proj="gated-gelu", dense_act_fn="gelu")
    assert "is_gated_act" in refused("t5", t5.SMALL, is_gated_act=True)


def test_the_encoder_of_t5_alone() -> None:
    spec = arch("t5", t5.SMALL, architectures=["T5EncoderModel"])
    assert spec.structure == "encoder"
    assert isinstance(spec.head, NoHead)
    assert len(spec.stacks) == 1
