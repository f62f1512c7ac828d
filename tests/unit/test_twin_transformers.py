"""The twin with a published implementation's weights gives that implementation's logits.

Each model is built from a tiny random config of `transformers`, in fp32 with eager attention, and its weights are copied into the
twin by name. Agreement within 1e-4 in absolute terms, of logits that spread over more than 0.1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
import transformers
from torch import Tensor, nn
from twin_archs import bare, layer, model, stack

from llmprof.spec.arch import (
    Alibi,
    ArchSpec,
    Glu,
    Gqa,
    LayerNorm,
    Learned,
    LmHead,
    MlmHead,
    Mlp,
    NoPosition,
    RmsNorm,
    Rope,
    T5Bias,
)
from llmprof.twin import masks
from llmprof.twin.build import build
from llmprof.twin.model import Twin
from llmprof.twin.session import Session
from llmprof.workload import Dtypes, Execution, Workload

pytestmark = pytest.mark.slow

FP32 = Dtypes(weights="fp32", activations="fp32", kv_cache="fp32")
V, D, F, H, S, M, BATCH = 61, 32, 56, 4, 11, 7, 2
Copies = Iterator[tuple[str, Tensor]]


def loud(network: nn.Module) -> nn.Module:
    """All parameters redrawn so that nothing is an identity; eval mode."""
    generator = torch.Generator().manual_seed(5)
    for name, parameter in network.named_parameters():
        with torch.no_grad():
            if parameter.dim() == 1 and "weight" in name:
                parameter.uniform_(0.6, 1.4, generator=generator)
            else:
                parameter.normal_(std=0.15, generator=generator)
    return network.eval()


def check(
    arch: ArchSpec, network: nn.Module, copies: Copies, call: Callable[[Tensor, dict[str, Tensor]], Tensor]
) -> None:
    """Copy the weights, leave none out, and compare logits of both executions."""
    twin = build(arch, dtypes=FP32, device="cpu")
    _copy(twin, copies)
    encoder_decoder = arch.structure == "encoder-decoder"
    for attention in ("unfused", "fused"):
        if attention == "fused" and arch.main.layers[0].attention.softcap is not None:
            continue
        workload = Workload(
            phase="prefill",
            batch=BATCH,
            new_tokens=S,
            context=S,
            source_tokens=M if encoder_decoder else 0,
            dtypes=FP32,
        )
        session = Session(twin, workload, Execution(attention=attention, kernels="cpu"))  # type: ignore[arg-type]
        actual = session.run().logits
        with torch.no_grad():
            expected = call(session.inputs["tokens"], dict(session.inputs))
        assert expected.std() > 0.1
        torch.testing.assert_close(actual, expected, atol=1e-4, rtol=0)


def _copy(twin: Twin, copies: Copies) -> None:
    missing = dict(twin.named_parameters())
    with torch.no_grad():
        for name, value in copies:
            missing.pop(name).copy_(value)
    assert not missing, f"no weights for {sorted(missing)}"


def pair(name: str, module: nn.Module, *, transposed: bool = False) -> Copies:
    """The weight and, where there is one, the bias of a module."""
    weight = module.weight
    yield f"{name}.weight", weight.T if transposed else weight
    if getattr(module, "bias", None) is not None:
        yield f"{name}.bias", module.bias


def split(names: list[str], weight: Tensor, bias: Tensor | None, sizes: list[int]) -> Copies:
    """One fused matrix `[sum of sizes, d]` as several."""
    for name, part in zip(names, weight.split(sizes), strict=True):
        yield f"{name}.weight", part
    if bias is not None:
        for name, part in zip(names, bias.split(sizes), strict=True):
            yield f"{name}.bias", part


def test_gpt2() -> None:
    network = loud(
        transformers.GPT2LMHeadModel(
            transformers.GPT2Config(
                vocab_size=V, n_embd=D, n_layer=2, n_head=H, n_inner=F, n_positions=32, attn_implementation="eager"
            )
        )
    )
    norm = LayerNorm()
    arch = model(
        stack(
            *[
                layer(
                    attention=Gqa(n_heads=H, n_kv_heads=H, head_dim=D // H, qkv_bias=True, out_bias=True),
                    ffn=Mlp(kind="gelu-tanh", d_ff=F, bias=True),
                    norm=norm,
                    position=NoPosition(),
                )
            ]
            * 2,
            position=Learned(rows=32),
            final_norm=norm,
        ),
        d_model=D,
        vocab_size=V,
        tied=True,
    )

    def copies() -> Copies:
        t = network.transformer
        yield from pair("embed", t.wte)
        yield from pair("pos_embed", t.wpe)
        yield from pair("final_norm", t.ln_f)
        for i, block in enumerate(t.h):
            p = f"layers.{i}"
            names = [f"{p}.attn.{x}_proj" for x in "qkv"]
            yield from split(names, block.attn.c_attn.weight.T, block.attn.c_attn.bias, [D] * 3)
            yield from pair(f"{p}.attn.o_proj", block.attn.c_proj, transposed=True)
            yield from pair(f"{p}.ffn.up", block.mlp.c_fc, transposed=True)
            yield from pair(f"{p}.ffn.down", block.mlp.c_proj, transposed=True)
            yield from pair(f"{p}.attn_norm", block.ln_1)
            yield from pair(f"{p}.ffn_norm", block.ln_2)

    check(arch, network, copies(), lambda tokens, _: network(tokens).logits)


def _llama_copies(network: nn.Module, norms: dict[str, str], *, tied: bool) -> Copies:
    """Llama and those that are built like it. `norms`: the twin's names by theirs."""
    yield from pair("embed", network.model.embed_tokens)
    if hasattr(network.model.norm, "weight"):
        yield from pair("final_norm", network.model.norm)
    if not tied:
        yield from pair("lm_head", network.lm_head)
    for i, block in enumerate(network.model.layers):
        p = f"layers.{i}"
        for theirs, ours in norms.items():
            yield from pair(f"{p}.{ours}", getattr(block, theirs))
        for x in ("q_proj", "k_proj", "v_proj", "o_proj"):
            yield from pair(f"{p}.attn.{x}", getattr(block.self_attn, x))
        for x in ("q_norm", "k_norm"):
            if hasattr(block.self_attn, x):
                yield from pair(f"{p}.attn.{x}", getattr(block.self_attn, x))
        for x in ("gate", "up", "down"):
            yield from pair(f"{p}.ffn.{x}", getattr(block.mlp, f"{x}_proj"))


_LLAMA_SIZES = {
    "vocab_size": V,
    "hidden_size": D,
    "intermediate_size": F,
    "num_hidden_layers": 3,
    "num_attention_heads": H,
    "num_key_value_heads": 2,
    "attn_implementation": "eager",
}


def test_llama() -> None:
    config = transformers.LlamaConfig(**_LLAMA_SIZES, rms_norm_eps=1e-5)
    network = loud(transformers.LlamaForCausalLM(config))
    norm = RmsNorm(eps=1e-5)
    one = layer(attention=Gqa(n_heads=H, n_kv_heads=2, head_dim=D // H), ffn=Glu(kind="swiglu", d_ff=F), norm=norm)
    arch = model(stack(*[one] * 3, final_norm=norm), d_model=D, vocab_size=V)
    names = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
    check(arch, network, _llama_copies(network, names, tied=False), lambda tokens, _: network(tokens).logits)


def test_qwen3_qk_norm() -> None:
    config = transformers.Qwen3Config(**_LLAMA_SIZES, head_dim=16, tie_word_embeddings=True)
    network = loud(transformers.Qwen3ForCausalLM(config))
    attention = Gqa(n_heads=H, n_kv_heads=2, head_dim=16, qk_norm=RmsNorm())
    one = layer(attention=attention, ffn=Glu(kind="swiglu", d_ff=F), position=Rope(theta=10000.0))
    arch = model(stack(*[one] * 3), d_model=D, vocab_size=V, tied=True)
    names = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
    check(arch, network, _llama_copies(network, names, tied=True), lambda tokens, _: network(tokens).logits)


def test_gemma2_sandwich_softcap_window() -> None:
    config = transformers.Gemma2Config(
        **_LLAMA_SIZES,
        head_dim=8,
        query_pre_attn_scalar=16,
        sliding_window=4,
        attn_logit_softcapping=5.0,
        final_logit_softcapping=3.0,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
    )
    network = loud(transformers.Gemma2ForCausalLM(config))

    def one(window: int | None) -> object:
        attention = Gqa(n_heads=H, n_kv_heads=2, head_dim=8, softcap=5.0, scale=16**-0.5, window=window)
        return layer(attention=attention, ffn=Glu(kind="geglu-tanh", d_ff=F), placement="sandwich")

    arch = model(
        stack(one(4), one(None), one(4)),  # type: ignore[arg-type]
        d_model=D,
        vocab_size=V,
        tied=True,
        head=LmHead(softcap=3.0),
        embedding_scale=D**0.5,
    )
    names = {
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "attn_post_norm",
        "pre_feedforward_layernorm": "ffn_norm",
        "post_feedforward_layernorm": "ffn_post_norm",
    }

    def copies() -> Copies:
        # Gemma multiplies by one plus what it stores.
        for name, value in _llama_copies(network, names, tied=True):
            yield name, value + 1 if "norm" in name else value

    check(arch, network, copies(), lambda tokens, _: network(tokens).logits)


def test_gpt_neox_parallel_partial_rope() -> None:
    network = loud(
        transformers.GPTNeoXForCausalLM(
            transformers.GPTNeoXConfig(
                vocab_size=V,
                hidden_size=D,
                intermediate_size=F,
                num_hidden_layers=2,
                num_attention_heads=H,
                rotary_pct=0.5,
                hidden_act="gelu",
                use_parallel_residual=True,
                attn_implementation="eager",
            )
        )
    )
    norm = LayerNorm()
    one = layer(
        attention=Gqa(n_heads=H, n_kv_heads=H, head_dim=D // H, qkv_bias=True, out_bias=True),
        ffn=Mlp(kind="gelu", d_ff=F, bias=True),
        norm=norm,
        position=Rope(theta=10000.0, rotary_dim=4),
        block="parallel",
        parallel_norms=2,
    )
    arch = model(stack(one, one, final_norm=norm), d_model=D, vocab_size=V)

    def copies() -> Copies:
        t = network.gpt_neox
        yield from pair("embed", t.embed_in)
        yield from pair("lm_head", network.get_output_embeddings())
        yield from pair("final_norm", t.final_layer_norm)
        for i, block in enumerate(t.layers):
            p = f"layers.{i}"
            # Rows of the fused matrix: head, then q, k or v, then head_dim.
            fused = block.attention.query_key_value
            weight = fused.weight.view(H, 3, D // H, D).transpose(0, 1).reshape(3 * D, D)
            bias = fused.bias.view(H, 3, D // H).transpose(0, 1).reshape(3 * D)
            yield from split([f"{p}.attn.{x}_proj" for x in "qkv"], weight, bias, [D] * 3)
            yield from pair(f"{p}.attn.o_proj", block.attention.dense)
            yield from pair(f"{p}.ffn.up", block.mlp.dense_h_to_4h)
            yield from pair(f"{p}.ffn.down", block.mlp.dense_4h_to_h)
            yield from pair(f"{p}.attn_norm", block.input_layernorm)
            yield from pair(f"{p}.ffn_norm", block.post_attention_layernorm)

    check(arch, network, copies(), lambda tokens, _: network(tokens).logits)


def test_bloom_alibi() -> None:
    network = loud(
        transformers.BloomForCausalLM(
            transformers.BloomConfig(vocab_size=V, hidden_size=D, n_layer=2, n_head=H, attn_implementation="eager")
        )
    )
    norm = LayerNorm()
    one = bare(
        Alibi(),
        attention=Gqa(n_heads=H, n_kv_heads=H, head_dim=D // H, qkv_bias=True, out_bias=True),
        ffn=Mlp(kind="gelu-tanh", d_ff=4 * D, bias=True),
        norm=norm,
    )
    arch = model(stack(one, one, embedding_norm=norm, final_norm=norm), d_model=D, vocab_size=V, tied=True)

    def copies() -> Copies:
        t = network.transformer
        yield from pair("embed", t.word_embeddings)
        yield from pair("embed_norm", t.word_embeddings_layernorm)
        yield from pair("final_norm", t.ln_f)
        for i, block in enumerate(t.h):
            p = f"layers.{i}"
            fused = block.self_attention.query_key_value
            weight = fused.weight.view(H, 3, D // H, D).transpose(0, 1).reshape(3 * D, D)
            bias = fused.bias.view(H, 3, D // H).transpose(0, 1).reshape(3 * D)
            yield from split([f"{p}.attn.{x}_proj" for x in "qkv"], weight, bias, [D] * 3)
            yield from pair(f"{p}.attn.o_proj", block.self_attention.dense)
            yield from pair(f"{p}.ffn.up", block.mlp.dense_h_to_4h)
            yield from pair(f"{p}.ffn.down", block.mlp.dense_4h_to_h)
            yield from pair(f"{p}.attn_norm", block.input_layernorm)
            yield from pair(f"{p}.ffn_norm", block.post_attention_layernorm)

    check(arch, network, copies(), lambda tokens, _: network(tokens).logits)


@pytest.mark.parametrize("per_layer", [False, True], ids=["T5", "UMT5"])
def test_t5(per_layer: bool) -> None:
    family = "UMT5" if per_layer else "T5"
    network = loud(
        getattr(transformers, f"{family}ForConditionalGeneration")(
            getattr(transformers, f"{family}Config")(
                vocab_size=V,
                d_model=D,
                d_kv=12,
                d_ff=F,
                num_layers=2,
                num_decoder_layers=3,
                num_heads=H,
                relative_attention_num_buckets=8,
                relative_attention_max_distance=9,
                feed_forward_proj="relu",
                attn_implementation="eager",
            )
        )
    )
    attention = Gqa(n_heads=H, n_kv_heads=H, head_dim=12, scale=1.0)
    table = T5Bias(n_buckets=8, max_distance=9, per_layer=per_layer)
    one = bare(table, attention=attention, ffn=Mlp(kind="relu", d_ff=F), norm=RmsNorm())
    two = replace(one, cross_attention=attention)
    arch = model(
        stack(one, one, prefix="encoder.", mask="bidirectional"),
        stack(two, two, two, prefix="decoder."),
        structure="encoder-decoder",
        d_model=D,
        vocab_size=V,
        tied=True,
        head=LmHead(input_scale=D**-0.5),
    )

    def copies() -> Copies:
        yield from pair("embed", network.shared)
        for side, theirs in (("encoder", network.encoder), ("decoder", network.decoder)):
            yield from pair(f"{side}.final_norm", theirs.final_layer_norm)
            tables = [block.layer[0].SelfAttention for block in theirs.block]
            if not per_layer:
                yield from pair(f"{side}.rel_bias", tables[0].relative_attention_bias)
            for i, block in enumerate(theirs.block):
                p = f"{side}.layers.{i}"
                parts = list(block.layer)
                if per_layer:
                    yield from pair(f"{p}.attn.rel_bias", tables[i].relative_attention_bias)
                yield from pair(f"{p}.attn_norm", parts[0].layer_norm)
                yield from pair(f"{p}.ffn_norm", parts[-1].layer_norm)
                yield from pair(f"{p}.ffn.up", parts[-1].DenseReluDense.wi)
                yield from pair(f"{p}.ffn.down", parts[-1].DenseReluDense.wo)
                for x in "qkvo":
                    yield from pair(f"{p}.attn.{x}_proj", getattr(parts[0].SelfAttention, x))
                if side == "decoder":
                    yield from pair(f"{p}.cross_norm", parts[1].layer_norm)
                    for x in "qkvo":
                        yield from pair(f"{p}.cross_attn.{x}_proj", getattr(parts[1].EncDecAttention, x))

    check(
        arch,
        network,
        copies(),
        lambda tokens, inputs: network(input_ids=inputs["source_tokens"], decoder_input_ids=tokens).logits,
    )


def test_bart() -> None:
    network = loud(
        transformers.BartForConditionalGeneration(
            transformers.BartConfig(
                vocab_size=V,
                d_model=D,
                encoder_layers=2,
                decoder_layers=2,
                encoder_attention_heads=H,
                decoder_attention_heads=H,
                encoder_ffn_dim=F,
                decoder_ffn_dim=F,
                max_position_embeddings=32,
                attn_implementation="eager",
            )
        )
    )
    norm = LayerNorm()
    attention = Gqa(n_heads=H, n_kv_heads=H, head_dim=D // H, qkv_bias=True, out_bias=True)
    ffn = Mlp(kind="gelu", d_ff=F, bias=True)
    rows = Learned(rows=34)
    one = bare(attention=attention, ffn=ffn, norm=norm, placement="post")
    two = bare(attention=attention, ffn=ffn, norm=norm, placement="post", cross_attention=attention)
    arch = model(
        stack(one, one, prefix="encoder.", mask="bidirectional", position=rows, embedding_norm=norm, final_norm=None),
        stack(two, two, prefix="decoder.", position=rows, embedding_norm=norm, final_norm=None),
        structure="encoder-decoder",
        d_model=D,
        vocab_size=V,
        tied=True,
    )

    def attention_copies(name: str, module: nn.Module) -> Copies:
        for x in "qkv":
            yield from pair(f"{name}.{x}_proj", getattr(module, f"{x}_proj"))
        yield from pair(f"{name}.o_proj", module.out_proj)

    def copies() -> Copies:
        yield from pair("embed", network.model.shared)
        for side, theirs in (("encoder", network.model.encoder), ("decoder", network.model.decoder)):
            yield from pair(f"{side}.embed_norm", theirs.layernorm_embedding)
            # BART's first position stands in row 2 of its table.
            yield f"{side}.pos_embed.weight", theirs.embed_positions.weight.roll(-2, 0)
            for i, block in enumerate(theirs.layers):
                p = f"{side}.layers.{i}"
                yield from attention_copies(f"{p}.attn", block.self_attn)
                yield from pair(f"{p}.attn_norm", block.self_attn_layer_norm)
                yield from pair(f"{p}.ffn.up", block.fc1)
                yield from pair(f"{p}.ffn.down", block.fc2)
                yield from pair(f"{p}.ffn_norm", block.final_layer_norm)
                if side == "decoder":
                    yield from attention_copies(f"{p}.cross_attn", block.encoder_attn)
                    yield from pair(f"{p}.cross_norm", block.encoder_attn_layer_norm)

    check(
        arch,
        network,
        copies(),
        lambda tokens, inputs: network(input_ids=inputs["source_tokens"], decoder_input_ids=tokens).logits,
    )


def test_bert() -> None:
    network = loud(
        transformers.BertForMaskedLM(
            transformers.BertConfig(
                vocab_size=V,
                hidden_size=D,
                intermediate_size=F,
                num_hidden_layers=2,
                num_attention_heads=H,
                max_position_embeddings=32,
                attn_implementation="eager",
            )
        )
    )
    norm = LayerNorm(eps=1e-12)
    one = bare(
        attention=Gqa(n_heads=H, n_kv_heads=H, head_dim=D // H, qkv_bias=True, out_bias=True),
        ffn=Mlp(kind="gelu", d_ff=F, bias=True),
        norm=norm,
        placement="post",
    )
    arch = model(
        stack(one, one, mask="bidirectional", position=Learned(rows=32), embedding_norm=norm, final_norm=None),
        structure="encoder",
        d_model=D,
        vocab_size=V,
        tied=True,
        head=MlmHead(norm=norm),
        type_vocab_size=2,
    )

    def copies() -> Copies:
        e = network.bert.embeddings
        yield from pair("embed", e.word_embeddings)
        yield from pair("type_embed", e.token_type_embeddings)
        yield from pair("pos_embed", e.position_embeddings)
        yield from pair("embed_norm", e.LayerNorm)
        head = network.cls.predictions
        yield from pair("head.dense", head.transform.dense)
        yield from pair("head.norm", head.transform.LayerNorm)
        yield "lm_head.bias", head.decoder.bias
        for i, block in enumerate(network.bert.encoder.layer):
            p = f"layers.{i}"
            for ours, theirs in (("q", "query"), ("k", "key"), ("v", "value")):
                yield from pair(f"{p}.attn.{ours}_proj", getattr(block.attention.self, theirs))
            yield from pair(f"{p}.attn.o_proj", block.attention.output.dense)
            yield from pair(f"{p}.attn_norm", block.attention.output.LayerNorm)
            yield from pair(f"{p}.ffn.up", block.intermediate.dense)
            yield from pair(f"{p}.ffn.down", block.output.dense)
            yield from pair(f"{p}.ffn_norm", block.output.LayerNorm)

    check(arch, network, copies(), lambda tokens, inputs: network(tokens, token_type_ids=inputs["segments"]).logits)


@pytest.mark.parametrize("two_sided", [True, False])
@pytest.mark.parametrize(("buckets", "distance"), [(32, 128), (8, 20), (16, 50), (64, 1000)])
def test_t5_buckets_are_those_of_transformers(buckets: int, distance: int, two_sided: bool) -> None:
    from transformers.models.t5.modeling_t5 import T5Attention

    length = 300
    spec = T5Bias(n_buckets=buckets, max_distance=distance)
    see = masks.sight("bidirectional", None, rows=length, context=length, prefix=0)
    actual = masks.t5_buckets(see, spec, two_sided=two_sided, device=torch.device("cpu"))
    positions = torch.arange(length)
    expected = T5Attention._relative_position_bucket(
        positions[None, :] - positions[:, None], bidirectional=two_sided, num_buckets=buckets, max_distance=distance
    )
    assert torch.equal(actual, expected)
