"""Releases whose code stands beside the weights on the hub, and so in no library: their names, place by place.

Names and shapes are those of the modeling files of the releases (baichuan-inc/Baichuan-7B, Qwen/Qwen-7B,
internlm/internlm2-7b, LGAI-EXAONE/EXAONE-3.0-7.8B, THUDM/chatglm2-6b, XiaomiMiMo/MiMo-7B, apple/OpenELM, and Meta's own
LLaMA), all recalled.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from llmprof import catalog
from llmprof.importing.headers.safetensors import read_safetensors
from llmprof.spec.arch import ArchSpec
from llmprof.stored.join import join
from llmprof.stored.joined import Kind
from tests.importing import cases, imported
from tests.weights import write_safetensors

Shapes = Mapping[str, list[int]]


def first(model_type: str) -> ArchSpec:
    """The architecture of the first case of a family."""
    case = next(each for each in cases() if each.model_type == model_type)
    return imported(dict(case.configs())["as it stands"]).spec.base


def tensors(outer: Shapes, layer: str, inside: Shapes, count: int) -> dict[str, tuple[str, list[int]]]:
    """All tensors of a model of equal layers; `layer` is what stands before the names of one, with a number."""
    made = {name: ("BF16", shape) for name, shape in outer.items()}
    for i in range(count):
        made |= {f"{layer.format(i)}.{name}": ("BF16", shape) for name, shape in inside.items()}
    return made


BAICHUAN = tensors(
    {"model.embed_tokens.weight": [64000, 4096], "lm_head.weight": [64000, 4096], "model.norm.weight": [4096]},
    "model.layers.{}",
    {
        "self_attn.W_pack.weight": [3 * 4096, 4096],
        "self_attn.o_proj.weight": [4096, 4096],
        "self_attn.rotary_emb.inv_freq": [64],
        "mlp.gate_proj.weight": [11008, 4096],
        "mlp.up_proj.weight": [11008, 4096],
        "mlp.down_proj.weight": [4096, 11008],
        "input_layernorm.weight": [4096],
        "post_attention_layernorm.weight": [4096],
    },
    32,
)
QWEN = tensors(
    {"transformer.wte.weight": [151936, 4096], "lm_head.weight": [151936, 4096], "transformer.ln_f.weight": [4096]},
    "transformer.h.{}",
    {
        "attn.c_attn.weight": [3 * 4096, 4096],
        "attn.c_attn.bias": [3 * 4096],
        "attn.c_proj.weight": [4096, 4096],
        "mlp.w1.weight": [11008, 4096],
        "mlp.w2.weight": [11008, 4096],
        "mlp.c_proj.weight": [4096, 11008],
        "ln_1.weight": [4096],
        "ln_2.weight": [4096],
    },
    32,
)
INTERNLM2 = tensors(
    {"model.tok_embeddings.weight": [92544, 4096], "output.weight": [92544, 4096], "model.norm.weight": [4096]},
    "model.layers.{}",
    {
        "attention.wqkv.weight": [4096 + 2 * 1024, 4096],
        "attention.wo.weight": [4096, 4096],
        "feed_forward.w1.weight": [14336, 4096],
        "feed_forward.w2.weight": [4096, 14336],
        "feed_forward.w3.weight": [14336, 4096],
        "attention_norm.weight": [4096],
        "ffn_norm.weight": [4096],
    },
    32,
)
EXAONE = tensors(
    {"transformer.wte.weight": [102400, 4096], "lm_head.weight": [102400, 4096], "transformer.ln_f.weight": [4096]},
    "transformer.h.{}",
    {
        "attn.attention.q_proj.weight": [4096, 4096],
        "attn.attention.k_proj.weight": [1024, 4096],
        "attn.attention.v_proj.weight": [1024, 4096],
        "attn.attention.out_proj.weight": [4096, 4096],
        "mlp.c_fc_0.weight": [14336, 4096],
        "mlp.c_fc_1.weight": [14336, 4096],
        "mlp.c_proj.weight": [4096, 14336],
        "ln_1.weight": [4096],
        "ln_2.weight": [4096],
    },
    32,
)
CHATGLM2 = tensors(
    {
        "transformer.embedding.word_embeddings.weight": [65024, 4096],
        "transformer.encoder.final_layernorm.weight": [4096],
        "transformer.output_layer.weight": [65024, 4096],
        "transformer.rotary_pos_emb.inv_freq": [32],
    },
    "transformer.encoder.layers.{}",
    {
        "self_attention.query_key_value.weight": [4096 + 2 * 256, 4096],
        "self_attention.query_key_value.bias": [4096 + 2 * 256],
        "self_attention.dense.weight": [4096, 4096],
        "mlp.dense_h_to_4h.weight": [2 * 13696, 4096],
        "mlp.dense_4h_to_h.weight": [4096, 13696],
        "input_layernorm.weight": [4096],
        "post_attention_layernorm.weight": [4096],
    },
    28,
)
LLAMA = tensors(
    {
        "tok_embeddings.weight": [32000, 4096],
        "output.weight": [32000, 4096],
        "norm.weight": [4096],
        "rope.freqs": [64],
    },
    "layers.{}",
    {
        "attention.wq.weight": [4096, 4096],
        "attention.wk.weight": [4096, 4096],
        "attention.wv.weight": [4096, 4096],
        "attention.wo.weight": [4096, 4096],
        "feed_forward.w1.weight": [11008, 4096],
        "feed_forward.w2.weight": [4096, 11008],
        "feed_forward.w3.weight": [11008, 4096],
        "attention_norm.weight": [4096],
        "ffn_norm.weight": [4096],
    },
    32,
)
MAMBA = tensors(
    {"backbone.embedding.weight": [50280, 2560], "backbone.norm_f.weight": [2560], "lm_head.weight": [50280, 2560]},
    "backbone.layers.{}",
    {
        "norm.weight": [2560],
        "mixer.in_proj.weight": [2 * 5120, 2560],
        "mixer.conv1d.weight": [5120, 1, 4],
        "mixer.conv1d.bias": [5120],
        "mixer.x_proj.weight": [160 + 2 * 16, 5120],
        "mixer.dt_proj.weight": [5120, 160],
        "mixer.dt_proj.bias": [5120],
        "mixer.A_log": [5120, 16],
        "mixer.D": [5120],
        "mixer.out_proj.weight": [2560, 5120],
    },
    64,
)
PHI = tensors(
    {
        "transformer.embd.wte.weight": [51200, 2048],
        "lm_head.ln.weight": [2048],
        "lm_head.ln.bias": [2048],
        "lm_head.linear.weight": [51200, 2048],
        "lm_head.linear.bias": [51200],
    },
    "transformer.h.{}",
    {
        "ln.weight": [2048],
        "ln.bias": [2048],
        "mixer.Wqkv.weight": [3 * 2048, 2048],
        "mixer.Wqkv.bias": [3 * 2048],
        "mixer.out_proj.weight": [2048, 2048],
        "mixer.out_proj.bias": [2048],
        "mlp.fc1.weight": [8192, 2048],
        "mlp.fc1.bias": [8192],
        "mlp.fc2.weight": [2048, 8192],
        "mlp.fc2.bias": [2048],
    },
    24,
)
CHATGLM = tensors(
    {
        "transformer.word_embeddings.weight": [130528, 4096],
        "transformer.final_layernorm.weight": [4096],
        "transformer.final_layernorm.bias": [4096],
        "lm_head.weight": [130528, 4096],
    },
    "transformer.layers.{}",
    {
        "attention.rotary_emb.inv_freq": [32],
        "attention.query_key_value.weight": [3 * 4096, 4096],
        "attention.query_key_value.bias": [3 * 4096],
        "attention.dense.weight": [4096, 4096],
        "attention.dense.bias": [4096],
        "mlp.dense_h_to_4h.weight": [16384, 4096],
        "mlp.dense_h_to_4h.bias": [16384],
        "mlp.dense_4h_to_h.weight": [4096, 16384],
        "mlp.dense_4h_to_h.bias": [4096],
        "input_layernorm.weight": [4096],
        "input_layernorm.bias": [4096],
        "post_attention_layernorm.weight": [4096],
        "post_attention_layernorm.bias": [4096],
    },
    28,
)
QWEN2 = {
    "self_attn.q_proj.weight": [4096, 4096],
    "self_attn.q_proj.bias": [4096],
    "self_attn.k_proj.weight": [1024, 4096],
    "self_attn.k_proj.bias": [1024],
    "self_attn.v_proj.weight": [1024, 4096],
    "self_attn.v_proj.bias": [1024],
    "self_attn.o_proj.weight": [4096, 4096],
    "mlp.gate_proj.weight": [11008, 4096],
    "mlp.up_proj.weight": [11008, 4096],
    "mlp.down_proj.weight": [4096, 11008],
    "input_layernorm.weight": [4096],
    "post_attention_layernorm.weight": [4096],
}
MIMO = tensors(
    {"model.embed_tokens.weight": [151680, 4096], "lm_head.weight": [151680, 4096], "model.norm.weight": [4096]},
    "model.layers.{}",
    QWEN2,
    36,
) | tensors(
    {},
    "model.mtp_layers.{}",
    {
        **QWEN2,
        "token_layernorm.weight": [4096],
        "hidden_layernorm.weight": [4096],
        "input_proj.weight": [4096, 8192],
        "final_layernorm.weight": [4096],
    },
    1,
)

LING = tensors(
    {"model.word_embeddings.weight": [300, 48], "lm_head.weight": [300, 48], "model.norm.weight": [48]},
    "model.layers.{}",
    {
        "attention.query_key_value.weight": [48 + 2 * 16, 48],
        "attention.dense.weight": [48, 48],
        "attention.query_layernorm.weight": [8],
        "attention.key_layernorm.weight": [8],
        "input_layernorm.weight": [48],
        "post_attention_layernorm.weight": [48],
    },
    3,
)
for _name, _wide in (("gate_proj", True), ("up_proj", True), ("down_proj", False)):
    LING[f"model.layers.0.mlp.{_name}.weight"] = ("BF16", [80, 48] if _wide else [48, 80])
    for _where in ("shared_experts", *(f"experts.{_number}" for _number in range(6))):
        for _layer in (1, 2):
            LING[f"model.layers.{_layer}.mlp.{_where}.{_name}.weight"] = ("BF16", [24, 48] if _wide else [48, 24])
for _layer in (1, 2):
    LING[f"model.layers.{_layer}.mlp.gate.weight"] = ("BF16", [6, 48])
    LING[f"model.layers.{_layer}.mlp.gate.expert_bias"] = ("F32", [6])
TELECHAT = tensors(
    {"transformer.word_embeddings.weight": [300, 48], "lm_head.weight": [300, 48], "transformer.ln_f.weight": [48]},
    "transformer.h.{}",
    {
        "self_attention.query.weight": [48, 48],
        "self_attention.key_value.weight": [2 * 48, 48],
        "self_attention.dense.weight": [48, 48],
        "self_attention.dense.bias": [48],
        "mlp.gate_proj.weight": [80, 48],
        "mlp.up_proj.weight": [80, 48],
        "mlp.down_proj.weight": [48, 80],
        "mlp.down_proj.bias": [48],
        "input_layernorm.weight": [48],
        "post_attention_layernorm.weight": [48],
    },
    3,
)

RELEASES: dict[str, tuple[Any, dict[str, Any], set[Kind]]] = {
    "baichuan": (lambda: first("baichuan"), BAICHUAN, {Kind.BUFFER}),
    "qwen": (lambda: first("qwen"), QWEN, set()),
    "internlm2": (lambda: first("internlm2"), INTERNLM2, set()),
    "exaone": (lambda: first("exaone"), EXAONE, set()),
    "chatglm2": (lambda: catalog.find("chatglm2-6b").base, CHATGLM2, {Kind.BUFFER}),
    "llama": (lambda: catalog.find("llama-2-7b").base, LLAMA, {Kind.BUFFER}),
    "mamba": (lambda: catalog.find("mamba-2.8b").base, MAMBA, {Kind.COPY}),
    "phi-msft": (lambda: first("phi-msft"), PHI, set()),
    "chatglm": (lambda: catalog.find("chatglm-6b").base, CHATGLM, {Kind.BUFFER, Kind.COPY}),
    "mimo": (lambda: first("mimo"), MIMO, {Kind.MTP}),
    "ling": (lambda: first("bailing_moe_v2"), LING, {Kind.BUFFER}),
    "telechat": (lambda: first("telechat"), TELECHAT, set()),
}


@pytest.mark.parametrize("name", RELEASES)
def test_every_tensor_has_its_place(name: str, tmp_path: Path) -> None:
    arch, made, beside = RELEASES[name]
    joined = join(arch(), read_safetensors(write_safetensors(tmp_path / "x.safetensors", made)))
    assert joined.explained, (joined.lacking[:3], [item for item in joined.items if item.kind is Kind.UNEXPLAINED][:3])
    assert set(joined.by_kind) - {Kind.PARAMETER} == beside
    assert joined.by_kind[Kind.PARAMETER][1] == joined.params_total


@pytest.mark.parametrize(
    ("name", "tensor", "path"),
    [
        ("baichuan", "model.layers.3.self_attn.W_pack.weight", "layers.3.attn.{q_proj,k_proj,v_proj}"),
        ("qwen", "transformer.h.0.mlp.w1.weight", "layers.0.ffn.up"),
        ("qwen", "transformer.h.0.mlp.w2.weight", "layers.0.ffn.gate"),
        ("qwen", "transformer.h.0.mlp.c_proj.weight", "layers.0.ffn.down"),
        ("internlm2", "model.layers.0.feed_forward.w1.weight", "layers.0.ffn.gate"),
        ("internlm2", "model.layers.0.feed_forward.w2.weight", "layers.0.ffn.down"),
        ("exaone", "transformer.h.1.mlp.c_fc_0.weight", "layers.1.ffn.gate"),
        ("chatglm2", "transformer.encoder.layers.1.mlp.dense_h_to_4h.weight", "layers.1.ffn.{gate,up}"),
        ("chatglm2", "transformer.encoder.layers.1.post_attention_layernorm.weight", "layers.1.ffn_norm"),
        ("chatglm", "transformer.layers.0.input_layernorm.weight", "embed_norm"),
        ("chatglm", "transformer.layers.0.post_attention_layernorm.bias", "layers.0.attn_norm"),
        ("chatglm", "transformer.layers.1.input_layernorm.weight", "layers.0.ffn_norm"),
        ("chatglm", "transformer.final_layernorm.weight", "layers.27.ffn_norm"),
        ("llama", "layers.31.attention.wo.weight", "layers.31.attn.o_proj"),
        ("mamba", "backbone.layers.0.mixer.A_log", "layers.0.attn.core"),
    ],
)
def test_the_place_of_a_tensor(name: str, tensor: str, path: str, tmp_path: Path) -> None:
    arch, made, _ = RELEASES[name]
    joined = join(arch(), read_safetensors(write_safetensors(tmp_path / "x.safetensors", made)))
    assert [item.path for item in joined.items if item.tensor.name == tensor] == [path]


@pytest.mark.parametrize("model_type", ["apertus", "dbrx", "ernie4_5_moe", "phimoe", "umt5"])
def test_what_transformers_writes_has_its_place(model_type: str, tmp_path: Path) -> None:
    import torch
    import transformers
    from transformers.core_model_loading import revert_weight_conversion

    case = next(each for each in cases() if each.model_type == model_type)
    config = dict(case.configs())["as it stands"]
    auto: Any = transformers.AutoModelForSeq2SeqLM if model_type == "umt5" else transformers.AutoModelForCausalLM
    with torch.device("meta"):
        made = auto.from_config(transformers.AutoConfig.for_model(**config))
    tied = made._tied_weights_keys if made.config.tie_word_embeddings else ()
    held = revert_weight_conversion(made, dict(made.state_dict()))
    shapes = {name: ("BF16", list(tensor.shape)) for name, tensor in held.items() if name not in tied}
    joined = join(imported(config).spec.base, read_safetensors(write_safetensors(tmp_path / "x.safetensors", shapes)))
    assert joined.explained, (joined.lacking[:3], [item for item in joined.items if item.kind is Kind.UNEXPLAINED][:3])
    assert joined.by_kind[Kind.PARAMETER][1] == joined.params_total
