"""``quantization_config``: what is packed and what is spared, as released configs say it; what is not sure is not said."""

from __future__ import annotations

from typing import Any

import pytest

from llmprof.importing.quantised.names import slots
from llmprof.predict.leaves import model_leaves
from llmprof.predict.mtp import further_leaves
from llmprof.predict.released import released
from llmprof.spec.release import Awq, Fp8, Fp8Blocks, Gptq, Integers, Mxfp4, Nvfp4, Packing, Release
from tests.importing import imported

LLAMA = {
    "model_type": "llama",
    "torch_dtype": "bfloat16",
    "vocab_size": 320,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
EXPERTS = {
    "model_type": "qwen3_moe",
    "torch_dtype": "bfloat16",
    "vocab_size": 320,
    "hidden_size": 128,
    "intermediate_size": 256,
    "moe_intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "mlp_only_layers": [1],
}
DEEPSEEK = {
    "model_type": "deepseek_v3",
    "torch_dtype": "bfloat16",
    "vocab_size": 320,
    "hidden_size": 256,
    "intermediate_size": 384,
    "moe_intermediate_size": 128,
    "num_hidden_layers": 3,
    "first_k_dense_replace": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "n_routed_experts": 8,
    "n_group": 2,
    "topk_group": 1,
    "num_experts_per_tok": 2,
    "q_lora_rank": 96,
    "kv_lora_rank": 64,
    "qk_nope_head_dim": 32,
    "qk_rope_head_dim": 16,
    "v_head_dim": 32,
    "num_nextn_predict_layers": 1,
}
INT4 = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32, "symmetric": True}
FP8_ROWS = {"num_bits": 8, "type": "float", "strategy": "channel", "symmetric": True, "dynamic": False}
FP8_BLOCKS = {"num_bits": 8, "type": "float", "strategy": "block", "block_structure": [128, 64], "dynamic": False}
FP8_MATRIX = {"num_bits": 8, "type": "float", "strategy": "tensor", "symmetric": True, "dynamic": False}
NV = {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16, "symmetric": True}
TOKENS = {"num_bits": 8, "type": "float", "strategy": "token", "dynamic": True}


def compressed(form: str, weights: dict[str, Any], inputs: dict[str, Any] | None, *ignore: str) -> dict[str, Any]:
    group = {"targets": ["Linear"], "weights": weights, "input_activations": inputs, "output_activations": None}
    return {
        "quant_method": "compressed-tensors",
        "format": form,
        "config_groups": {"group_0": group},
        "ignore": list(ignore),
        "kv_cache_scheme": None,
    }


def release(config: dict[str, Any], quantised: dict[str, Any]) -> Release:
    found = imported({**config, "quantization_config": quantised})
    assert found.spec.base.release is not None, found.remarks
    released(found.spec.base)  # every pattern must name a matrix
    return found.spec.base.release


FP8 = {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [128, 128]}
GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False, "sym": True, "damp_percent": 0.1}
AWQ = {"quant_method": "awq", "bits": 4, "group_size": 64, "version": "gemm", "zero_point": True}


@pytest.mark.parametrize(
    ("config", "quantised", "packing", "spared"),
    [
        (DEEPSEEK, FP8, Fp8Blocks(rows=128, columns=128), ()),
        (
            DEEPSEEK,
            {**FP8, "weight_block_size": None, "activation_scheme": "static"},
            Fp8(per="matrix", input_scale=True),
            (),
        ),
        (LLAMA, GPTQ, Gptq(bits=4, group=128), ()),
        (LLAMA, {**GPTQ, "bits": 8, "group_size": -1}, Gptq(bits=8), ()),
        (LLAMA, AWQ, Awq(group=64), ()),
        (LLAMA, {**AWQ, "modules_to_not_convert": ["lm_head"]}, Awq(group=64), ()),
        (
            LLAMA,
            {
                "quant_method": "fbgemm_fp8",
                "activation_scale_ub": 1200.0,
                "modules_to_not_convert": ["model.layers.0", "lm_head"],
            },
            Fp8(per="row"),
            tuple(
                f"layers.0.{leaf}"
                for leaf in (
                    "attn.q_proj",
                    "attn.k_proj",
                    "attn.v_proj",
                    "attn.o_proj",
                    "ffn.gate",
                    "ffn.up",
                    "ffn.down",
                )
            ),
        ),
        (LLAMA, compressed("pack-quantized", INT4, None, "lm_head"), Integers(bits=4, group=32, shape=True), ()),
        (LLAMA, compressed("float-quantized", FP8_ROWS, TOKENS, "lm_head"), Fp8(per="row", scale="bf16"), ()),
        (
            LLAMA,
            compressed("float-quantized", FP8_MATRIX, {**FP8_MATRIX}, "lm_head", "re:.*self_attn.*"),
            Fp8(per="matrix", scale="bf16", input_scale=True),
            ("layers.*.attn.*",),
        ),
        (LLAMA, compressed("nvfp4-pack-quantized", NV, {**NV, "dynamic": "local"}, "lm_head"), Nvfp4(), ()),
        (LLAMA, compressed("nvfp4-pack-quantized", NV, None, "lm_head"), Nvfp4(input_scale=False), ()),
        (
            LLAMA,
            compressed("float-quantized", FP8_BLOCKS, TOKENS, "lm_head"),
            Fp8Blocks(rows=128, columns=64, scale="bf16"),
            (),
        ),
        (
            LLAMA,
            {"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": ["lm_head", "model.layers.1.*"]},
            Nvfp4(),
            tuple(
                f"layers.1.{leaf}"
                for leaf in (
                    "attn.q_proj",
                    "attn.k_proj",
                    "attn.v_proj",
                    "attn.o_proj",
                    "ffn.gate",
                    "ffn.up",
                    "ffn.down",
                )
            ),
        ),
        (
            EXPERTS,
            compressed("pack-quantized", INT4, None, "lm_head", "re:.*mlp.gate$", "re:.*self_attn.*"),
            Integers(bits=4, group=32, shape=True),
            ("layers.*.attn.*",),
        ),
        (
            EXPERTS,
            {
                **AWQ,
                "modules_to_not_convert": [
                    "model.layers.0.mlp.gate",
                    "model.layers.2.mlp.gate",
                    "model.layers.1.mlp.down_proj",
                ],
            },
            Awq(group=64),
            ("layers.*.ffn.down",),
        ),
    ],
)
def test_what_is_packed(
    config: dict[str, Any], quantised: dict[str, Any], packing: Packing, spared: tuple[str, ...]
) -> None:
    assert release(config, quantised) == Release(dtype="bf16", packing=packing, spared=spared)


def test_gpt_oss_packs_its_experts_alone() -> None:
    config = {
        "model_type": "gpt_oss",
        "dtype": "bfloat16",
        "num_hidden_layers": 2,
        "hidden_size": 64,
        "intermediate_size": 64,
        "num_local_experts": 4,
    }
    spares = ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"]
    found = release(config, {"quant_method": "mxfp4", "modules_to_not_convert": spares})
    assert found == Release(dtype="bf16", packing=Mxfp4(), spared=("layers.*.attn.*",))


@pytest.mark.parametrize(
    ("config", "quantised", "why"),
    [
        (LLAMA, FP8, "fp32 or bf16 is not said"),
        (LLAMA, {"quant_method": "bitsandbytes", "load_in_4bit": True}, 'quant_method "bitsandbytes" is none of fp8'),
        (LLAMA, {}, "quant_method null is none of"),
        (LLAMA, {**GPTQ, "bits": 5}, "bits are 5"),
        (LLAMA, {**GPTQ, "lm_head": True}, "lm_head is true"),
        (LLAMA, {**GPTQ, "group_size": "all"}, 'group_size is "all"'),
        (LLAMA, {**AWQ, "version": "gemv"}, 'version is "gemv"'),
        (LLAMA, {**AWQ, "modules_to_not_convert": ["wqkv"]}, "no module that is known"),
        (LLAMA, {**AWQ, "modules_to_not_convert": "lm_head"}, "modules_to_not_convert is"),
        (LLAMA, {**AWQ, "modules_to_not_convert": ["self_attn"]}, "depends on who reads it"),
        (LLAMA, compressed("float-quantized", FP8_ROWS, TOKENS), "does not spare lm_head"),
        (LLAMA, compressed("float-quantized", INT4, None, "lm_head"), "is not known here"),
        (LLAMA, compressed("pack-quantized", INT4, None, "lm_head", "re:("), "is no regular expression"),
        (
            LLAMA,
            compressed("float-quantized", {**FP8_BLOCKS, "block_structure": ["x", -1]}, TOKENS, "lm_head"),
            "block_structure is",
        ),
        (LLAMA, {"quant_method": "compressed-tensors", "config_groups": []}, "not one group"),
        (LLAMA, {"quant_method": "modelopt", "quant_algo": "INT4"}, 'quant_algo "INT4" is none of'),
        (EXPERTS, GPTQ, "does not spare the router of layer 0"),
        (
            EXPERTS,
            compressed("pack-quantized", INT4, None, "lm_head", "re:.*mlp.gate$", "re:.*experts.0.*"),
            "some experts",
        ),
        (DEEPSEEK, {**FP8, "scale_fmt": "ue8m0"}, 'scale_fmt is "ue8m0"'),
        (DEEPSEEK, {**FP8, "weight_block_size": [128]}, "weight_block_size is"),
        ({key: value for key, value in LLAMA.items() if key != "torch_dtype"}, GPTQ, "the dtype of what is not packed"),
        ({"model_type": "phi3", "torch_dtype": "bfloat16"}, GPTQ, "family phi3 keep their matrices is not known"),
    ],
)
def test_what_is_not_sure_is_left_out_and_said(config: dict[str, Any], quantised: dict[str, Any], why: str) -> None:
    found = imported({**config, "quantization_config": quantised})
    assert found.spec.base.release is None
    assert any(why in remark for remark in found.remarks), found.remarks
    assert found.spec.base == imported({**config}).spec.base or found.spec.base.stacks


@pytest.mark.parametrize("beside", [{}, {"quantization_config": {"group_size": 64, "bits": 4}}])
def test_what_mlx_packed_is_left_out_and_said(beside: dict[str, Any]) -> None:
    """https://huggingface.co/mlx-community/EXAONE-Deep-32B-4bit/blob/main/config.json, read 2026-11-30."""
    found = imported({**LLAMA, "quantization": {"group_size": 64, "bits": 4}, **beside})
    assert found.spec.base.release is None
    assert any("its quant_method null is none of" in remark for remark in found.remarks), found.remarks
    assert found.spec.base.stacks == imported(LLAMA).spec.base.stacks


def test_without_quantisation_the_dtype_alone_is_said() -> None:
    assert imported(LLAMA).spec.base.release == Release(dtype="bf16")
    assert imported({**LLAMA, "torch_dtype": "float8_e4m3fn"}).spec.base.release is None


@pytest.mark.parametrize("config", [LLAMA, EXPERTS, DEEPSEEK], ids=lambda c: c["model_type"])
def test_the_names_are_those_of_all_matrices_that_can_be_packed(config: dict[str, Any]) -> None:
    arch = imported(config).spec.base
    found = slots(arch)
    assert found is not None
    leaves = {**model_leaves(arch), **further_leaves(arch)}
    packable = {path for path, inside in leaves.items() if any(p.packable and p.owned for p in inside)}
    assert {f"{stack}{index}.{leaf}" for stack, index, leaf in found} == packable


@pytest.mark.parametrize("said", [{"dtype": "float16"}, {"dtype": "float8_e4m3fn"}, {"dtype": {"": 1}}])
def test_two_names_of_the_dtype_that_disagree_say_nothing(said: dict[str, Any]) -> None:
    found = imported(LLAMA | said)
    assert found.spec.base.release is None
    assert any("and torch_dtype is" in remark for remark in found.remarks)


def test_two_names_of_the_dtype_that_agree_are_one() -> None:
    assert imported(LLAMA | {"dtype": "torch.bfloat16"}).spec.base.release == Release(dtype="bf16")
