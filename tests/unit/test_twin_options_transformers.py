"""Models with options of norms, layers, heads and attention: the twin with their weights gives their logits.

As in `test_twin_transformers`: tiny random configs in fp32 with eager attention, agreement within 1e-4.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import transformers
from attention_layer import draw, one_layer, opened, through
from test_twin_transformers import _LLAMA_SIZES, BATCH, FP32, Copies, D, F, H, M, S, V, _llama_copies, check, loud, pair
from torch import Tensor, nn
from transformers.models.gpt_oss.modeling_gpt_oss import GptOssAttention, GptOssRotaryEmbedding
from twin_archs import bare, layer, model, stack

from llmprof.spec.arch import (
    AudioFront,
    Glu,
    Gqa,
    LayerNorm,
    Learned,
    LmHead,
    MlmHead,
    Mlp,
    Residual,
    RmsNorm,
    Rope,
    Sinusoidal,
)
from llmprof.twin.build import build
from llmprof.workload import Execution

pytestmark = pytest.mark.slow

LLAMA_NORMS = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}


def test_olmo2_reordered_norms_over_all_heads() -> None:
    network = loud(transformers.Olmo2ForCausalLM(transformers.Olmo2Config(**_LLAMA_SIZES, rms_norm_eps=1e-6)))
    attention = Gqa(n_heads=H, n_kv_heads=2, head_dim=D // H, qk_norm=RmsNorm(), qk_norm_over="all-heads")
    one = layer(
        attention=attention,
        ffn=Glu(kind="swiglu", d_ff=F),
        placement="reordered",
        position=Rope(theta=network.config.rope_parameters["rope_theta"]),
    )
    arch = model(stack(*[one] * 3), d_model=D, vocab_size=V)
    names = {"post_attention_layernorm": "attn_post_norm", "post_feedforward_layernorm": "ffn_post_norm"}
    check(arch, network, _llama_copies(network, names, tied=False), lambda tokens, _: network(tokens).logits)


def test_olmo_clips_queries_keys_and_values() -> None:
    network = loud(transformers.OlmoForCausalLM(transformers.OlmoConfig(**_LLAMA_SIZES, clip_qkv=0.25)))
    bare_norm = LayerNorm(weight=False, bias=False)
    one = layer(
        attention=Gqa(n_heads=H, n_kv_heads=2, head_dim=D // H, qkv_clip=0.25),
        ffn=Glu(kind="swiglu", d_ff=F),
        norm=bare_norm,
    )
    arch = model(stack(*[one] * 3, final_norm=bare_norm), d_model=D, vocab_size=V)
    seen: list[bool] = []
    network.model.layers[0].self_attn.v_proj.register_forward_hook(
        lambda _, __, made: seen.append(bool((made.abs() > 0.25).any()))
    )
    check(arch, network, _llama_copies(network, {}, tied=False), lambda tokens, _: network(tokens).logits)
    assert seen == [True, True], "nothing was cut"


def test_apertus_xielu() -> None:
    config = transformers.ApertusConfig(
        **_LLAMA_SIZES,
        rms_norm_eps=1e-6,
        rope_parameters={"rope_type": "default", "rope_theta": 1e4},
        dtype=torch.float32,
    )
    network = loud(transformers.ApertusForCausalLM(config))
    with torch.no_grad():
        for block in network.model.layers:
            for name in ("q_norm", "k_norm"):
                getattr(block.self_attn, name).weight.uniform_(0.6, 1.4, generator=torch.Generator().manual_seed(7))
            block.mlp.act_fn.alpha_p.fill_(0.7)
            block.mlp.act_fn.alpha_n.fill_(-0.4)
    one = layer(
        attention=Gqa(n_heads=H, n_kv_heads=2, head_dim=D // H, qk_norm=RmsNorm()),
        ffn=Mlp(kind="xielu", d_ff=F),
        position=Rope(theta=1e4),
    )
    arch = model(stack(*[one] * 3), d_model=D, vocab_size=V)

    def copies() -> Copies:
        names = {"attention_layernorm": "attn_norm", "feedforward_layernorm": "ffn_norm"}
        for i, block in enumerate(network.model.layers):
            block.mlp.gate_proj = block.mlp.up_proj
            yield f"layers.{i}.ffn.act.alpha_p", block.mlp.act_fn.alpha_p
            yield f"layers.{i}.ffn.act.alpha_n", block.mlp.act_fn.alpha_n
        yield from (each for each in _llama_copies(network, names, tied=False) if ".ffn.gate." not in each[0])

    check(arch, network, copies(), lambda tokens, _: network(tokens).logits)


def test_gemma_unit_offset() -> None:
    network = loud(
        transformers.GemmaForCausalLM(
            transformers.GemmaConfig(**_LLAMA_SIZES, head_dim=8, hidden_activation="gelu_pytorch_tanh")
        )
    )
    norm = RmsNorm(unit_offset=True)
    one = layer(attention=Gqa(n_heads=H, n_kv_heads=2, head_dim=8), ffn=Glu(kind="geglu-tanh", d_ff=F), norm=norm)
    arch = model(stack(*[one] * 3, final_norm=norm), d_model=D, vocab_size=V, tied=True, embedding_scale=D**0.5)
    check(arch, network, _llama_copies(network, LLAMA_NORMS, tied=True), lambda tokens, _: network(tokens).logits)


def test_granite_multipliers() -> None:
    config = transformers.GraniteConfig(
        **_LLAMA_SIZES,
        embedding_multiplier=6.0,
        residual_multiplier=0.22,
        attention_multiplier=0.4,
        logits_scaling=4.0,
    )
    network = loud(transformers.GraniteForCausalLM(config))
    one = layer(
        attention=Gqa(n_heads=H, n_kv_heads=2, head_dim=D // H, scale=0.4),
        ffn=Glu(kind="swiglu", d_ff=F),
        residual=Residual(scale=0.22),
    )
    arch = model(
        stack(*[one] * 3),
        d_model=D,
        vocab_size=V,
        tied=bool(config.tie_word_embeddings),
        embedding_scale=6.0,
        head=LmHead(output_scale=0.25),
    )
    copies = _llama_copies(network, LLAMA_NORMS, tied=bool(config.tie_word_embeddings))
    check(arch, network, copies, lambda tokens, _: network(tokens).logits)


def _pairs_apart(x: Tensor, heads: int) -> Tensor:
    """Rows of `[heads h, ..]` or `[heads, h]`: Cohere turns neighbours, the twin values half a head apart."""
    halves = x.reshape(heads, D // H // 2, 2, -1).transpose(1, 2)
    return halves.reshape(x.shape)


@pytest.mark.parametrize("normed", [False, True], ids=["plain", "a norm for each head"])
def test_cohere_parallel_logit_scale(normed: bool) -> None:
    config = transformers.CohereConfig(**_LLAMA_SIZES, logit_scale=0.5, use_qk_norm=normed, layer_norm_eps=1e-5)
    network = loud(transformers.CohereForCausalLM(config))
    with torch.no_grad():
        for block in network.model.layers if normed else ():
            block.self_attn.q_norm.weight.uniform_(0.6, 1.4, generator=torch.Generator().manual_seed(7))
    norm = LayerNorm(bias=False)
    attention = Gqa(
        n_heads=H,
        n_kv_heads=2,
        head_dim=D // H,
        qk_norm=norm if normed else None,
        qk_norm_over="each-head" if normed else "head",
    )
    one = layer(
        attention=attention,
        ffn=Glu(kind="swiglu", d_ff=F),
        norm=norm,
        block="parallel",
        position=Rope(theta=config.rope_parameters["rope_theta"]),
    )
    arch = model(stack(*[one] * 3, final_norm=norm), d_model=D, vocab_size=V, tied=True, head=LmHead(output_scale=0.5))

    def copies() -> Copies:
        for name, value in _llama_copies(network, {"input_layernorm": "attn_norm"}, tied=True):
            turned = ".q_" in name or ".k_" in name
            yield name, _pairs_apart(value, H if ".q_" in name else 2) if turned else value

    check(arch, network, copies(), lambda tokens, _: network(tokens).logits)


def test_modernbert_windows_both_ways() -> None:
    config = transformers.ModernBertConfig(
        vocab_size=V,
        hidden_size=D,
        intermediate_size=F,
        num_hidden_layers=4,
        num_attention_heads=H,
        local_attention=6,
        global_attn_every_n_layers=3,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        cls_token_id=1,
        sep_token_id=2,
        attn_implementation="eager",
    )
    network = loud(transformers.ModernBertForMaskedLM(config))
    norm = LayerNorm(bias=False)
    thetas = {name: each["rope_theta"] for name, each in config.rope_parameters.items()}

    def one(i: int) -> Any:
        local = i % 3 != 0
        return layer(
            attention=Gqa(n_heads=H, n_kv_heads=H, head_dim=D // H, window=6 if local else None),
            ffn=Glu(kind="geglu", d_ff=F),
            norm=norm,
            first_norm=i > 0,
            position=Rope(theta=thetas["sliding_attention" if local else "full_attention"]),
        )

    arch = model(
        stack(*[one(i) for i in range(4)], mask="bidirectional", embedding_norm=norm, final_norm=norm),
        structure="encoder",
        d_model=D,
        vocab_size=V,
        tied=True,
        head=MlmHead(dense_bias=False, norm=norm),
    )

    def copies() -> Copies:
        t = network.model
        yield from pair("embed", t.embeddings.tok_embeddings)
        yield from pair("embed_norm", t.embeddings.norm)
        yield from pair("final_norm", t.final_norm)
        yield from pair("head.dense", network.head.dense)
        yield from pair("head.norm", network.head.norm)
        yield "lm_head.bias", network.decoder.bias
        for i, block in enumerate(t.layers):
            p = f"layers.{i}"
            if i:
                yield from pair(f"{p}.attn_norm", block.attn_norm)
            yield from pair(f"{p}.ffn_norm", block.mlp_norm)
            for name, part in zip("qkv", block.attn.Wqkv.weight.chunk(3), strict=True):
                yield f"{p}.attn.{name}_proj.weight", part
            yield from pair(f"{p}.attn.o_proj", block.attn.Wo)
            gate, up = block.mlp.Wi.weight.chunk(2)
            yield f"{p}.ffn.gate.weight", gate
            yield f"{p}.ffn.up.weight", up
            yield from pair(f"{p}.ffn.down", block.mlp.Wo)

    def call(tokens: Tensor, _: dict[str, Tensor]) -> Tensor:
        return network(tokens, attention_mask=torch.ones_like(tokens)).logits

    check(arch, network, copies(), call)


def test_whisper() -> None:
    config = transformers.WhisperConfig(
        vocab_size=V,
        d_model=D,
        num_mel_bins=5,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=H,
        decoder_attention_heads=H,
        encoder_ffn_dim=F,
        decoder_ffn_dim=F,
        max_source_positions=M,
        max_target_positions=32,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
        attn_implementation="eager",
    )
    network = loud(transformers.WhisperForConditionalGeneration(config))
    norm = LayerNorm()
    attention = Gqa(n_heads=H, n_kv_heads=H, head_dim=D // H, qkv_bias=True, k_bias=False, out_bias=True)
    one = bare(attention=attention, ffn=Mlp(kind="gelu", d_ff=F, bias=True), norm=norm)
    encoder = stack(
        one, one, prefix="encoder.", mask="bidirectional", position=Sinusoidal(stored_rows=M), final_norm=norm
    )
    two = replace(one, cross_attention=attention)
    arch = model(
        replace(encoder, front=AudioFront(channels=5, kernel=3)),
        stack(two, two, prefix="decoder.", position=Learned(rows=32), final_norm=norm),
        structure="encoder-decoder",
        d_model=D,
        vocab_size=V,
        tied=True,
    )

    def block_copies(p: str, block: nn.Module, names: dict[str, str]) -> Copies:
        for theirs, ours in names.items():
            yield from pair(f"{p}.{ours}_norm", getattr(block, f"{theirs}_layer_norm"))
            attn = getattr(block, theirs)
            for x in ("q_proj", "k_proj", "v_proj"):
                yield from pair(f"{p}.{ours}.{x}", getattr(attn, x))
            yield from pair(f"{p}.{ours}.o_proj", attn.out_proj)
        yield from pair(f"{p}.ffn_norm", block.final_layer_norm)
        yield from pair(f"{p}.ffn.up", block.fc1)
        yield from pair(f"{p}.ffn.down", block.fc2)

    def copies() -> Copies:
        e, d = network.model.encoder, network.model.decoder
        yield from pair("embed", d.embed_tokens)
        for x in ("conv1", "conv2"):
            yield from pair(f"encoder.{x}", getattr(e, x))
        for name, side in (("encoder", e), ("decoder", d)):
            yield from pair(f"{name}.pos_embed", side.embed_positions)
            yield from pair(f"{name}.final_norm", side.layer_norm)
        for i, block in enumerate(e.layers):
            yield from block_copies(f"encoder.layers.{i}", block, {"self_attn": "attn"})
        for i, block in enumerate(d.layers):
            names = {"self_attn": "attn", "encoder_attn": "cross"}
            for name, value in block_copies(f"decoder.layers.{i}", block, names):
                yield name.replace(".cross.", ".cross_attn."), value

    def call(tokens: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        return network(input_features=inputs["features"], decoder_input_ids=tokens).logits

    check(arch, network, copies(), call)


@pytest.mark.parametrize("execution", ["unfused", "fused"])
@pytest.mark.parametrize("window", [None, 4], ids=["full", "window"])
def test_gpt_oss_attention(window: int | None, execution: str) -> None:
    """The attention of a dense part by itself: the sinks' logits take part in the softmax and bring no value."""
    config = transformers.GptOssConfig(
        hidden_size=24,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        num_hidden_layers=1,
        sliding_window=window or 128,
        layer_types=["sliding_attention" if window else "full_attention"],
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        attn_implementation="eager",
    )
    theirs = loud(GptOssAttention(config, 0))
    with torch.no_grad():
        theirs.sinks.normal_(generator=torch.Generator().manual_seed(8))
    attention = Gqa(n_heads=4, n_kv_heads=2, head_dim=8, qkv_bias=True, out_bias=True, sinks=True, window=window)
    twin = build(one_layer(attention, position=Rope(theta=10000.0)), dtypes=FP32, device="cpu")
    ours = twin.get_submodule("layers.0.attn")
    with torch.no_grad():
        ours.get_parameter("core.sinks").copy_(theirs.sinks)
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            ours.get_submodule(name).load_state_dict(theirs.get_submodule(name).state_dict())
    run = opened(twin, Execution(attention=execution, kernels="cpu"), draw(twin, BATCH, S))  # type: ignore[arg-type]
    x, y = through(run)
    q, k = torch.arange(S)[:, None], torch.arange(S)[None, :]
    seen = (k <= q) & (k > q - (window or S))
    mask = torch.zeros(1, 1, S, S).masked_fill(~seen, -torch.inf)
    rotation = GptOssRotaryEmbedding(config)(x, torch.arange(S)[None])
    with torch.no_grad():
        expected, _ = theirs(x, rotation, mask)
    assert expected.std() > 0.05
    torch.testing.assert_close(y, expected, atol=1e-5, rtol=1e-4)
