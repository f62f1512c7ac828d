"""What a real model of transformers saves for its backward is what is predicted, byte by byte but for named causes.

A two-layer Llama and GPT-2 with random weights, eager attention, on the CPU: autograd's own hooks collect the storages
that are saved, and the prediction says how large each of them is. Beside them the implementations save what follows
from how they are written, and each such tensor is named here (transformers 5.23.0, 2026-11-30).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest
import torch
import transformers

from llmprof.objectives import training_workload
from llmprof.predict.api import predict
from llmprof.spec.arch import ArchSpec, Glu, Gqa, LayerNorm, Learned, Mlp, RmsNorm
from llmprof.workload import Dtypes, Execution
from tests.confirming import BF16, FP32
from tests.unit.twin_archs import bare, layer, model, stack

BATCH, TEXT, LAYERS = 2, 12, 2
HEADS = 4
LLAMA = model(
    stack(
        *[
            layer(
                attention=Gqa(n_heads=HEADS, n_kv_heads=2, head_dim=8),
                ffn=Glu(kind="swiglu", d_ff=40),
                norm=RmsNorm(),
            )
        ]
        * LAYERS
    )
)
D, V = LLAMA.d_model, LLAMA.vocab_size
GPT2 = model(
    stack(
        *[
            bare(
                attention=Gqa(n_heads=HEADS, n_kv_heads=HEADS, head_dim=D // HEADS, qkv_bias=True, out_bias=True),
                ffn=Mlp(kind="gelu-tanh", d_ff=40, bias=True),
                norm=LayerNorm(),
            )
        ]
        * LAYERS,
        position=Learned(rows=32),
        final_norm=LayerNorm(),
    ),
    tied=True,
)
EAGER: dict[str, Any] = {"attn_implementation": "eager"}
TARGETS = BATCH * TEXT * 8
SCORES = BATCH * HEADS * TEXT * TEXT


def _llama() -> torch.nn.Module:
    return transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            hidden_size=D,
            intermediate_size=40,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            num_key_value_heads=2,
            head_dim=8,
            vocab_size=V,
            max_position_embeddings=32,
            **EAGER,
        )
    )


def _gpt2() -> torch.nn.Module:
    return transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            n_embd=D,
            n_inner=40,
            n_layer=LAYERS,
            n_head=HEADS,
            vocab_size=V,
            n_positions=32,
            activation_function="gelu_pytorch_tanh",
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=None,
            eos_token_id=None,
            **EAGER,
        )
    )


MODELS = {"llama": (LLAMA, _llama), "gpt2": (GPT2, _gpt2)}


def _beside(name: str, e: int) -> Counter[int]:
    """The sizes of what the implementation saves and a reference does not, in bytes."""
    sizes = [TARGETS]  # a constant of the reference; here made of the tokens, within the pass
    if name == "gpt2":
        return Counter([*sizes, TEXT * 8])  # positions, made within the pass
    sizes += [TEXT * 8 * e] * 2  # cosines and sines of 8 values a head, made within the pass
    if e == 2:
        sizes += [4 * SCORES] * LAYERS  # softmax in fp32; its result in 16 bit is saved as a factor beside it
    return Counter(sizes)


def _saved_by(real: torch.nn.Module) -> Counter[int]:
    """The sizes of the storages that a pass of `real` saves, without parameters and the tokens."""
    tokens = torch.randint(0, V, (BATCH, TEXT), generator=torch.Generator().manual_seed(0))
    known = {tensor.untyped_storage()._cdata for tensor in (tokens, *real.parameters(), *real.buffers())}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in known:
            kept[storage._cdata] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result: Any = real(input_ids=tokens, labels=tokens, use_cache=False)
    assert result.loss.requires_grad
    return Counter(storage.nbytes() for storage in kept.values())


def _predicted(arch: ArchSpec, dtypes: Dtypes) -> Counter[int]:
    work = training_workload(arch, "causal-lm", text=TEXT, batch=BATCH, prefix_tokens=None, dtypes=dtypes)
    step = predict(arch, work, Execution(attention="unfused", kernels="cpu")).training
    sizes = Counter(tensor.nbytes for tensor in step.saved)
    assert sizes.total() > 30
    return sizes


DTYPES: Mapping[str, tuple[Dtypes, torch.dtype, int]] = {
    "bf16": (BF16, torch.bfloat16, 2),
    "fp32": (FP32, torch.float32, 4),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", MODELS)
def test_every_tensor_that_is_saved(name: str, dtype: str) -> None:
    arch, make = MODELS[name]
    dtypes, torch_dtype, e = DTYPES[dtype]
    real = make().to(torch_dtype).train()
    assert _saved_by(real) == _predicted(arch, dtypes) + _beside(name, e)
