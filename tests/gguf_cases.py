"""Small models of every architecture whose GGUF files are read, written with the package gguf: its writer decides how
keys are called, its table of names how tensors are, and transformers which tensors there are and in which shapes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from llmprof.importing.headers.shards import read_folder

LAYERS = 3
BASE = {
    "vocab_size": 320,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "tie_word_embeddings": False,
    "rms_norm_eps": 1e-6,
    "pad_token_id": 0,
}


@dataclass(frozen=True, kw_only=True)
class Case:
    """A config of transformers, and the keys that a converter writes of it beside the common ones.

    `defaults` are the class's defaults that the import is known to take, for the file says nothing of them and
    llama.cpp has nothing else.
    """

    arch: str
    model_type: str
    config: Mapping[str, Any]
    keys: Callable[[gguf.GGUFWriter, Mapping[str, Any]], None]
    changes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def configs(self) -> dict[str, dict[str, Any]]:
        """The config as it stands, and its variations."""
        return {name: {**self.config, **more} for name, more in {"as it stands": {}, **self.changes}.items()}


def _rms(w: gguf.GGUFWriter, c: Mapping[str, Any]) -> None:
    w.add_layer_norm_rms_eps(c.get("rms_norm_eps", 1e-6))


def _layer_norm(w: gguf.GGUFWriter, c: Mapping[str, Any]) -> None:
    w.add_layer_norm_eps(c.get("norm_epsilon", c.get("layer_norm_epsilon", 1e-5)))


def _sizes(w: gguf.GGUFWriter, c: Mapping[str, Any]) -> None:
    w.add_context_length(c["max_position_embeddings"])
    w.add_embedding_length(c["hidden_size"])
    w.add_block_count(c["num_hidden_layers"])
    w.add_feed_forward_length(c["intermediate_size"])
    w.add_head_count(c["num_attention_heads"])
    w.add_head_count_kv(c["num_key_value_heads"])
    w.add_vocab_size(c["vocab_size"])
    w.add_rope_freq_base(c.get("rope_theta", 10000.0))


def _llama(w: gguf.GGUFWriter, c: Mapping[str, Any]) -> None:
    _sizes(w, c)
    _rms(w, c)
    head_dim = c.get("head_dim", c["hidden_size"] // c["num_attention_heads"])
    w.add_rope_dimension_count(head_dim)
    if "head_dim" in c:
        w.add_key_length(head_dim)
        w.add_value_length(head_dim)
    if "num_local_experts" in c:
        w.add_expert_count(c["num_local_experts"])
        w.add_expert_used_count(c["num_experts_per_tok"])


def _keyed(w: gguf.GGUFWriter, c: Mapping[str, Any]) -> None:
    _sizes(w, c)
    _rms(w, c)
    if "head_dim" in c:
        w.add_key_length(c["head_dim"])
        w.add_value_length(c["head_dim"])


def _gemma2(w: gguf.GGUFWriter, c: Mapping[str, Any]) -> None:
    _keyed(w, c)
    w.add_attn_logit_softcapping(c["attn_logit_softcapping"])
    w.add_final_logit_softcapping(c["final_logit_softcapping"])
    w.add_sliding_window(c["sliding_window"])


def _gemma3(w: gguf.GGUFWriter, c: Mapping[str, Any]) -> None:
    _keyed(w, c)
    w.add_sliding_window(c["sliding_window"])
    if "rope_parameters" in c:
        w.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        w.add_rope_scaling_factor(c["rope_parameters"]["full_attention"]["factor"])


def _phi3(w: gguf.GGUFWriter, c: Mapping[str, Any]) -> None:
    _sizes(w, c)
    _rms(w, c)
    w.add_rope_dimension_count(int(16 * c.get("partial_rotary_factor", 1.0)))
    w.add_sliding_window(c.get("sliding_window") or 0)


def _starcoder2(w: gguf.GGUFWriter, c: Mapping[str, Any]) -> None:
    _sizes(w, c)
    _layer_norm(w, c)


def _qwen3moe(w: gguf.GGUFWriter, c: Mapping[str, Any]) -> None:
    _keyed(w, c)
    w.add_expert_count(c["num_experts"])
    w.add_expert_used_count(c["num_experts_per_tok"])
    w.add_expert_feed_forward_length(c["moe_intermediate_size"])


def _qwen2moe(w: gguf.GGUFWriter, c: Mapping[str, Any]) -> None:
    _qwen3moe(w, c)
    w.add_expert_shared_feed_forward_length(c["shared_expert_intermediate_size"])


def _granite(w: gguf.GGUFWriter, c: Mapping[str, Any]) -> None:
    _llama(w, c)
    w.add_attention_scale(c["attention_multiplier"])
    w.add_embedding_scale(c["embedding_multiplier"])
    w.add_residual_scale(c["residual_multiplier"])
    w.add_logit_scale(c["logits_scaling"])


def _gptneox(w: gguf.GGUFWriter, c: Mapping[str, Any]) -> None:
    w.add_context_length(c["max_position_embeddings"])
    w.add_embedding_length(c["hidden_size"])
    w.add_block_count(c["num_hidden_layers"])
    w.add_feed_forward_length(c["intermediate_size"])
    w.add_head_count(c["num_attention_heads"])
    w.add_rope_dimension_count(int(c["rotary_pct"] * c["hidden_size"] // c["num_attention_heads"]))
    w.add_parallel_residual(c["use_parallel_residual"])
    w.add_layer_norm_eps(c["layer_norm_eps"])


def _gpt_oss(w: gguf.GGUFWriter, c: Mapping[str, Any]) -> None:
    _keyed(w, c)
    w.add_sliding_window(c["sliding_window"])
    w.add_expert_count(c["num_local_experts"])
    w.add_expert_used_count(c["num_experts_per_tok"])
    w.add_expert_feed_forward_length(c["intermediate_size"])
    w.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    w.add_rope_scaling_factor(32.0)
    w.add_rope_scaling_orig_ctx_len(4096)


def _gpt2(w: gguf.GGUFWriter, c: Mapping[str, Any]) -> None:
    w.add_context_length(c["n_positions"])
    w.add_embedding_length(c["n_embd"])
    w.add_block_count(c["n_layer"])
    w.add_feed_forward_length(4 * c["n_embd"])
    w.add_head_count(c["n_head"])
    _layer_norm(w, c)


def _bloom(w: gguf.GGUFWriter, c: Mapping[str, Any]) -> None:
    w.add_context_length(128)
    w.add_embedding_length(c["hidden_size"])
    w.add_block_count(c["n_layer"])
    w.add_feed_forward_length(4 * c["hidden_size"])
    w.add_head_count(c["n_head"])
    w.add_head_count_kv(c["n_head"])
    _layer_norm(w, c)


def _falcon(w: gguf.GGUFWriter, c: Mapping[str, Any]) -> None:
    w.add_context_length(2048)
    w.add_tensor_data_layout("jploski")
    w.add_embedding_length(c["hidden_size"])
    w.add_block_count(c["num_hidden_layers"])
    w.add_feed_forward_length(4 * c["hidden_size"])
    w.add_head_count(c["num_attention_heads"])
    w.add_head_count_kv(c.get("num_kv_heads", 1))
    _layer_norm(w, c)


def _mamba(w: gguf.GGUFWriter, c: Mapping[str, Any]) -> None:
    w.add_context_length(2**20)
    w.add_embedding_length(c["hidden_size"])
    w.add_feed_forward_length(0)
    w.add_head_count(0)
    w.add_block_count(c["num_hidden_layers"])
    w.add_ssm_conv_kernel(c["conv_kernel"])
    w.add_ssm_inner_size(2 * c["hidden_size"])
    w.add_ssm_state_size(c["state_size"])
    w.add_ssm_time_step_rank(c["time_step_rank"])
    w.add_layer_norm_rms_eps(1e-5)


def _deepseek2(w: gguf.GGUFWriter, c: Mapping[str, Any]) -> None:
    _sizes(w, c)
    _rms(w, c)
    key = c["qk_nope_head_dim"] + c["qk_rope_head_dim"]
    w.add_kv_lora_rank(c["kv_lora_rank"])
    if c["q_lora_rank"] is not None:
        w.add_q_lora_rank(c["q_lora_rank"])
    w.add_key_length(key)
    w.add_value_length(c["v_head_dim"])
    w.add_rope_dimension_count(c["qk_rope_head_dim"])
    w.add_leading_dense_block_count(c["first_k_dense_replace"])
    w.add_expert_count(c["n_routed_experts"])
    w.add_expert_used_count(c["num_experts_per_tok"])
    w.add_expert_shared_count(c["n_shared_experts"])
    w.add_expert_feed_forward_length(c["moe_intermediate_size"])
    w.add_expert_weights_scale(c["routed_scaling_factor"])
    if "rope_scaling" in c:
        scaling = c["rope_scaling"]
        w.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        w.add_rope_scaling_factor(scaling["factor"])
        w.add_rope_scaling_orig_ctx_len(scaling["original_max_position_embeddings"])
        w.add_rope_scaling_yarn_log_mul(0.1 * scaling["mscale_all_dim"])
    if c["model_type"] == "deepseek_v3":
        w.add_expert_weights_norm(c["norm_topk_prob"])
        w.add_expert_gating_func(gguf.ExpertGatingFuncType.SIGMOID)
        w.add_expert_group_count(c["n_group"])
        w.add_expert_group_used_count(c["topk_group"])


_LATENT = {
    **BASE,
    "num_key_value_heads": 4,
    "q_lora_rank": 24,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 12,
    "first_k_dense_replace": 1,
    "n_routed_experts": 8,
    "num_experts_per_tok": 2,
    "n_shared_experts": 2,
    "moe_intermediate_size": 20,
    "routed_scaling_factor": 2.5,
}
_YARN = {
    "rope_type": "yarn",
    "type": "yarn",
    "factor": 40.0,
    "original_max_position_embeddings": 32,
    "beta_fast": 32,
    "beta_slow": 1,
}
_WITHOUT_EPS = {key: value for key, value in BASE.items() if key != "rms_norm_eps"}
_GEMMA = {**BASE, "head_dim": 24, "tie_word_embeddings": True}
_SCALED = {**_GEMMA, "query_pre_attn_scalar": 24, "sliding_window": 32}

CASES = (
    Case(
        arch="llama",
        model_type="llama",
        config={**BASE, "rms_norm_eps": 1e-5},
        keys=_llama,
        changes={
            "stated head_dim": {"head_dim": 24},
            "tied": {"tie_word_embeddings": True},
            "biases": {"attention_bias": True},
        },
    ),
    Case(
        arch="llama",
        model_type="mixtral",
        config={**BASE, "num_local_experts": 4, "num_experts_per_tok": 2, "rope_theta": 1e6},
        keys=_llama,
    ),
    Case(arch="qwen2", model_type="qwen2", config=BASE, keys=_keyed, changes={"tied": {"tie_word_embeddings": True}}),
    Case(arch="qwen3", model_type="qwen3", config={**BASE, "head_dim": 24}, keys=_keyed),
    Case(
        arch="qwen3moe",
        model_type="qwen3_moe",
        config={
            **BASE,
            "head_dim": 24,
            "num_experts": 8,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 40,
            "norm_topk_prob": True,
        },
        keys=_qwen3moe,
    ),
    Case(
        arch="qwen2moe",
        model_type="qwen2_moe",
        config={
            **BASE,
            "num_experts": 8,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 40,
            "shared_expert_intermediate_size": 56,
        },
        keys=_qwen2moe,
    ),
    Case(arch="olmo2", model_type="olmo2", config=BASE, keys=_keyed),
    Case(
        arch="granite",
        model_type="granite",
        config={
            **BASE,
            "attention_multiplier": 0.0625,
            "embedding_multiplier": 12.0,
            "residual_multiplier": 0.22,
            "logits_scaling": 8.0,
        },
        keys=_granite,
    ),
    Case(
        arch="gptneox",
        model_type="gpt_neox",
        config={
            "vocab_size": 320,
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": 4,
            "max_position_embeddings": 256,
            "rotary_pct": 0.25,
            "layer_norm_eps": 1e-5,
            "use_parallel_residual": True,
        },
        keys=_gptneox,
        changes={"one half after the other": {"use_parallel_residual": False}},
    ),
    Case(arch="gemma", model_type="gemma", config=_GEMMA, keys=_keyed),
    Case(
        arch="gemma2",
        model_type="gemma2",
        config={**_SCALED, "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0},
        keys=_gemma2,
    ),
    Case(
        arch="gemma3",
        model_type="gemma3_text",
        config={**_SCALED, "num_hidden_layers": 7, "rope_theta": 1e6},
        keys=_gemma3,
        changes={
            "longer contexts": {
                "rope_parameters": {
                    "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
                    "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
                }
            }
        },
    ),
    Case(
        arch="phi3",
        model_type="phi3",
        config=BASE,
        keys=_phi3,
        changes={"a part rotated": {"partial_rotary_factor": 0.75}, "a window": {"sliding_window": 32}},
    ),
    Case(
        arch="starcoder2",
        model_type="starcoder2",
        config={**_WITHOUT_EPS, "use_bias": True, "sliding_window": None},
        keys=_starcoder2,
        changes={"without biases": {"use_bias": False}},
    ),
    Case(
        arch="gpt2",
        model_type="gpt2",
        config={"vocab_size": 320, "n_embd": 64, "n_layer": LAYERS, "n_head": 4, "n_positions": 128},
        keys=_gpt2,
    ),
    Case(
        arch="bloom",
        model_type="bloom",
        config={"vocab_size": 320, "hidden_size": 64, "n_layer": LAYERS, "n_head": 4},
        keys=_bloom,
    ),
    Case(
        arch="falcon",
        model_type="falcon",
        config={"vocab_size": 320, "hidden_size": 64, "num_hidden_layers": LAYERS, "num_attention_heads": 4},
        keys=_falcon,
        changes={
            "new, two norms": {"new_decoder_architecture": True, "num_kv_heads": 2},
            "new, one norm": {"new_decoder_architecture": True, "num_kv_heads": 2, "num_ln_in_parallel_attn": 1},
        },
    ),
    Case(
        arch="mamba",
        model_type="mamba",
        config={
            "vocab_size": 320,
            "hidden_size": 64,
            "num_hidden_layers": LAYERS,
            "state_size": 8,
            "time_step_rank": 4,
            "conv_kernel": 4,
        },
        keys=_mamba,
    ),
    Case(
        arch="deepseek2",
        model_type="deepseek_v2",
        config={**_LATENT, "norm_topk_prob": False, "topk_method": "greedy"},
        keys=_deepseek2,
        changes={
            "queries at once": {"q_lora_rank": None},
            "longer contexts": {"rope_scaling": {**_YARN, "mscale": 0.707, "mscale_all_dim": 0.707}},
        },
    ),
    Case(
        arch="deepseek2",
        model_type="deepseek_v3",
        config={**_LATENT, "n_group": 2, "topk_group": 1, "norm_topk_prob": True},
        keys=_deepseek2,
        changes={"longer contexts": {"rope_scaling": {**_YARN, "mscale": 1.0, "mscale_all_dim": 1.0}}},
    ),
    Case(
        arch="gpt-oss",
        model_type="gpt_oss",
        config={
            **BASE,
            "head_dim": 16,
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "sliding_window": 32,
            "rope_theta": 150000.0,
        },
        keys=_gpt_oss,
    ),
)


def build(config: Mapping[str, Any], model_type: str) -> Any:
    """transformers' model of a config, with random weights."""
    import transformers

    made = transformers.AutoConfig.for_model(model_type, **dict(config))
    return transformers.AutoModelForCausalLM.from_config(made)  # type: ignore[no-untyped-call]


_EXPERT = re.compile(r"\.experts\.([0-9]+)\.")


def gguf_tensors(arch: gguf.MODEL_ARCH, layers: int, folder: Path) -> dict[str, tuple[int, ...]]:
    """What a converter makes of a saved model: gguf's names, and the shapes of what it writes, rows last."""
    names = gguf.get_tensor_name_map(arch, layers)
    made: dict[str, tuple[int, ...]] = {}
    for tensor in read_folder(folder).tensors:
        name, shape, expert = tensor.name, tensor.shape, _EXPERT.search(tensor.name)
        if expert is not None:  # the matrices of experts are stacked
            name = name.replace(expert[0], ".experts.", 1)
            shape = (0, *shape)
        if name.endswith(".mlp.gate.e_score_correction_bias"):
            name = name.replace("e_score_correction_bias", "e_score_correction.bias")
        if arch is gguf.MODEL_ARCH.BLOOM:
            name = name.removeprefix("transformer.")
        for called, of in _written(arch, name, shape):
            found = names.get_name(called, try_suffixes=(".weight", ".bias"))
            assert found is not None, called
            if of and of[0] == 0:
                before = made.get(found)
                made[found] = (1 if before is None else before[0] + 1, *of[1:])
            else:
                made[found] = of
    return made


def _written(arch: gguf.MODEL_ARCH, name: str, shape: tuple[int, ...]) -> list[tuple[str, tuple[int, ...]]]:
    """One saved tensor as the tensors that are written of it: turned, squeezed, split or renamed."""
    if arch is gguf.MODEL_ARCH.GPT2 and re.search(r"\.(?:c_attn|c_proj|c_fc)\.weight$", name):
        return [(name, shape[::-1])]
    if arch is gguf.MODEL_ARCH.MAMBA and name.endswith("conv1d.weight"):
        return [(name, (shape[0], shape[2]))]
    if name.endswith(".sinks"):
        return [(f"{name}.weight", shape)]
    if arch is gguf.MODEL_ARCH.GPT_OSS and "gate_up_proj" in name:
        suffix = ".bias" if name.endswith("_bias") else ".weight"
        stem = name.removesuffix("_bias").removesuffix("gate_up_proj")
        half = (shape[0], shape[1] // 2) if suffix == ".bias" else (shape[0], shape[2] // 2, shape[1])
        return [(f"{stem}gate_proj{suffix}", half), (f"{stem}up_proj{suffix}", half)]
    if arch is gguf.MODEL_ARCH.GPT_OSS and "experts.down_proj" in name:
        if name.endswith("_bias"):
            return [(f"{name.removesuffix('_bias')}.bias", shape)]
        return [(f"{name}.weight", (shape[0], shape[2], shape[1]))]
    return [(name, shape)]


def write(case: Case, config: Mapping[str, Any], folder: Path, path: Path) -> Path:
    """The GGUF file of a saved model: its header by gguf's writer, its data a hole."""
    layers = config.get("num_hidden_layers", config.get("n_layer", LAYERS))
    number = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == case.arch)
    writer = gguf.GGUFWriter(path, case.arch)
    writer.add_name(f"A small {case.arch}")
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    case.keys(writer, {**config, "model_type": case.model_type})
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([f"token {i}" for i in range(config["vocab_size"])])
    behind = 0
    for name, shape in gguf_tensors(number, layers, folder).items():
        writer.add_tensor_info(name, shape, np.dtype(np.float32), 4 * prod(shape))
        behind += -(-4 * prod(shape) // 32) * 32
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    size = path.stat().st_size
    with open(path, "r+b") as stream:
        stream.truncate(-(-size // 32) * 32 + behind)
    return path
