"""The tensors of released models by their published naming schemes, from shapes alone: what golden totals are built of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

Entry = tuple[str, tuple[str, list[int]]]
"""Name, dtype and shape of one tensor."""


@dataclass(frozen=True, kw_only=True)
class Llama:
    """A model of LLaMA's class: sizes, and what a release has beside the parameters."""

    layers: int
    d: int
    f: int
    v: int
    q: int
    kv: int
    qk_norm: int = 0
    frequencies: int = 0
    dtype: str = "BF16"

    def matrices(self) -> Iterator[tuple[str, int, int]]:
        """Every matrix of a layer by its name, outputs and inputs."""
        yield from (("self_attn.q_proj", self.q, self.d), ("self_attn.k_proj", self.kv, self.d))
        yield from (("self_attn.v_proj", self.kv, self.d), ("self_attn.o_proj", self.d, self.q))
        yield from (("mlp.gate_proj", self.f, self.d), ("mlp.up_proj", self.f, self.d))
        yield ("mlp.down_proj", self.d, self.f)

    def around(self) -> Iterator[Entry]:
        """All but the matrices of the layers."""
        yield "model.embed_tokens.weight", (self.dtype, [self.v, self.d])
        yield "lm_head.weight", (self.dtype, [self.v, self.d])
        yield "model.norm.weight", (self.dtype, [self.d])
        for i in range(self.layers):
            at = f"model.layers.{i}"
            yield f"{at}.input_layernorm.weight", (self.dtype, [self.d])
            yield f"{at}.post_attention_layernorm.weight", (self.dtype, [self.d])
            if self.qk_norm:
                yield f"{at}.self_attn.q_norm.weight", (self.dtype, [self.qk_norm])
                yield f"{at}.self_attn.k_norm.weight", (self.dtype, [self.qk_norm])
            if self.frequencies:
                yield f"{at}.self_attn.rotary_emb.inv_freq", ("F32", [self.frequencies])

    def plain(self) -> dict[str, tuple[str, list[int]]]:
        """The release as it was trained."""
        made = dict(self.around())
        for i in range(self.layers):
            made |= {f"model.layers.{i}.{name}.weight": (self.dtype, [o, n]) for name, o, n in self.matrices()}
        return made

    def packed(self, form: str, *, bits: int = 4, group: int = 128) -> dict[str, tuple[str, list[int]]]:
        """The same with the matrices of the layers quantised: gptq, awq, compressed, nvfp4, fp8, bnb4, bnb8 or mlx."""
        made = dict(self.around())
        for i in range(self.layers):
            for name, o, n in self.matrices():
                made |= {
                    f"model.layers.{i}.{name}.{end}": entry
                    for end, entry in _quantised(form, o, n, bits, group, self.dtype)
                }
        return made


def _quantised(form: str, o: int, n: int, bits: int, group: int, dtype: str) -> Iterator[Entry]:
    """The tensors that a matrix of `o` outputs and `n` inputs becomes, by the end of their names."""
    words = o * bits // 32
    if form == "gptq":
        yield "qweight", ("I32", [n * bits // 32, o])
        yield "qzeros", ("I32", [n // group, words])
        yield "scales", ("F16", [n // group, o])
        yield "g_idx", ("I32", [n])
    elif form == "awq":
        yield "qweight", ("I32", [n, words])
        yield "qzeros", ("I32", [n // group, words])
        yield "scales", ("F16", [n // group, o])
    elif form == "compressed":
        yield "weight_packed", ("I32", [o, n * bits // 32])
        yield "weight_scale", (dtype, [o, n // group])
        yield "weight_shape", ("I64", [2])
    elif form == "nvfp4":
        yield "weight", ("U8", [o, n // 2])
        yield "weight_scale", ("F8_E4M3", [o, n // 16])
        yield "weight_scale_2", ("F32", [])
        yield "input_scale", ("F32", [])
    elif form == "fp8":
        yield "weight", ("F8_E4M3", [o, n])
        yield "weight_scale_inv", ("F32", [-(-o // 128), -(-n // 128)])
    elif form == "bnb4":
        yield "weight", ("U8", [o * n // 2, 1])
        yield "weight.absmax", ("U8", [o * n // 64])
        yield "weight.quant_map", ("F32", [16])
        yield "weight.nested_absmax", ("F32", [o * n // 64 // 256])
        yield "weight.nested_quant_map", ("F32", [256])
        yield "weight.quant_state.bitsandbytes__nf4", ("U8", [90])
    elif form == "bnb8":
        yield "weight", ("I8", [o, n])
        yield "SCB", ("F32", [o])
        yield "weight_format", ("U8", [])
    elif form == "mlx":
        yield "weight", ("U32", [o, n * bits // 32])
        yield "scales", (dtype, [o, n // group])
        yield "biases", (dtype, [o, n // group])
    else:
        raise AssertionError(form)


def gpt2() -> dict[str, tuple[str, list[int]]]:
    """GPT-2 as first released: without a prefix, with the masks of every layer."""
    d, made = 768, {"wte.weight": ("F32", [50257, 768]), "wpe.weight": ("F32", [1024, 768])}
    shapes = {
        "ln_1.weight": [d],
        "ln_1.bias": [d],
        "attn.bias": [1, 1, 1024, 1024],
        "attn.c_attn.weight": [d, 3 * d],
        "attn.c_attn.bias": [3 * d],
        "attn.c_proj.weight": [d, d],
        "attn.c_proj.bias": [d],
        "ln_2.weight": [d],
        "ln_2.bias": [d],
        "mlp.c_fc.weight": [d, 4 * d],
        "mlp.c_fc.bias": [4 * d],
        "mlp.c_proj.weight": [4 * d, d],
        "mlp.c_proj.bias": [d],
    }
    for i in range(12):
        made |= {f"h.{i}.{name}": ("F32", shape) for name, shape in shapes.items()}
    return made | {"ln_f.weight": ("F32", [d]), "ln_f.bias": ("F32", [d])}


def deepseek_v3() -> dict[str, tuple[str, list[int]]]:
    """DeepSeek-V3: fp8 with a scale for each block of 128 x 128, and layer 61, which predicts a further token."""
    d, made = 7168, {}

    def fp8(name: str, o: int, n: int) -> None:
        made[f"{name}.weight"] = ("F8_E4M3", [o, n])
        made[f"{name}.weight_scale_inv"] = ("F32", [-(-o // 128), -(-n // 128)])

    def norm(name: str, width: int = d) -> None:
        made[f"{name}.weight"] = ("BF16", [width])

    def glu(at: str, f: int) -> None:
        fp8(f"{at}.gate_proj", f, d)
        fp8(f"{at}.up_proj", f, d)
        fp8(f"{at}.down_proj", d, f)

    made["model.embed_tokens.weight"] = ("BF16", [129280, d])
    for i in range(62):
        at = f"model.layers.{i}"
        if i == 61:
            made[f"{at}.embed_tokens.weight"] = ("BF16", [129280, d])
            norm(f"{at}.enorm")
            norm(f"{at}.hnorm")
            made[f"{at}.eh_proj.weight"] = ("BF16", [d, 2 * d])
            norm(f"{at}.shared_head.norm")
            made[f"{at}.shared_head.head.weight"] = ("BF16", [129280, d])
        norm(f"{at}.input_layernorm")
        norm(f"{at}.post_attention_layernorm")
        fp8(f"{at}.self_attn.q_a_proj", 1536, d)
        norm(f"{at}.self_attn.q_a_layernorm", 1536)
        fp8(f"{at}.self_attn.q_b_proj", 128 * 192, 1536)
        fp8(f"{at}.self_attn.kv_a_proj_with_mqa", 512 + 64, d)
        norm(f"{at}.self_attn.kv_a_layernorm", 512)
        fp8(f"{at}.self_attn.kv_b_proj", 128 * 256, 512)
        fp8(f"{at}.self_attn.o_proj", d, 128 * 128)
        if i < 3:
            glu(f"{at}.mlp", 18432)
            continue
        made[f"{at}.mlp.gate.weight"] = ("BF16", [256, d])
        made[f"{at}.mlp.gate.e_score_correction_bias"] = ("F32", [256])
        for e in range(256):
            glu(f"{at}.mlp.experts.{e}", 2048)
        glu(f"{at}.mlp.shared_experts", 2048)
    norm("model.norm")
    made["lm_head.weight"] = ("BF16", [129280, d])
    return made


def gpt_oss(layers: int, experts: int) -> dict[str, tuple[str, list[int]]]:
    """GPT-OSS: the experts in MXFP4, 32 values with one scale, all else in bf16."""
    d, v = 2880, 201088
    made: dict[str, tuple[str, list[int]]] = {"model.embed_tokens.weight": ("BF16", [v, d])}
    for i in range(layers):
        at = f"model.layers.{i}"
        shapes = {
            "input_layernorm.weight": [d],
            "post_attention_layernorm.weight": [d],
            "self_attn.q_proj.weight": [4096, d],
            "self_attn.q_proj.bias": [4096],
            "self_attn.k_proj.weight": [512, d],
            "self_attn.k_proj.bias": [512],
            "self_attn.v_proj.weight": [512, d],
            "self_attn.v_proj.bias": [512],
            "self_attn.o_proj.weight": [d, 4096],
            "self_attn.o_proj.bias": [d],
            "self_attn.sinks": [64],
            "mlp.router.weight": [experts, d],
            "mlp.router.bias": [experts],
            "mlp.experts.gate_up_proj_bias": [experts, 2 * d],
            "mlp.experts.down_proj_bias": [experts, d],
        }
        made |= {f"{at}.{name}": ("BF16", shape) for name, shape in shapes.items()}
        for name, o in (("gate_up_proj", 2 * d), ("down_proj", d)):
            made[f"{at}.mlp.experts.{name}_blocks"] = ("U8", [experts, o, d // 32, 16])
            made[f"{at}.mlp.experts.{name}_scales"] = ("U8", [experts, o, d // 32])
    return made | {"model.norm.weight": ("BF16", [d]), "lm_head.weight": ("BF16", [v, d])}


QWEN3_06B = Llama(layers=28, d=1024, f=3072, v=151936, q=2048, kv=1024, qk_norm=128)
LLAMA2_7B = Llama(layers=32, d=4096, f=11008, v=32000, q=4096, kv=4096, frequencies=64, dtype="F16")
