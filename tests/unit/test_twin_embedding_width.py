"""A token table of its own width, which a matrix takes to d_model and another takes d_model back to."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import transformers
import twin_reference
from option_archs import ENCODER_WIDTH, WIDTHS
from option_checks import check_continuations, check_gradients, check_meta, check_prefill, check_training, runs
from test_twin_numerics import CLOSE, FP32, UNFUSED, draw, loud_twin
from test_twin_transformers import Copies, D, F, H, V, check, loud, pair
from torch import Tensor
from twin_archs import bare, decoder, layer, model, stack

from llmprof.measure.run import measure
from llmprof.spec.arch import Gqa, LayerNorm, Learned, Mlp, NoHead
from llmprof.twin.build import build
from llmprof.twin.session import Session
from llmprof.workload import Dtypes, Execution, Workload

ALL = {**WIDTHS, "encoder": ENCODER_WIDTH}


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(("name", "execution"), runs(ALL))
def test_a_prefill_equals_the_naive_model(name: str, execution: Execution, batch: int) -> None:
    check_prefill(ALL[name], execution, batch)


@pytest.mark.parametrize(("name", "execution"), runs(WIDTHS))
def test_new_tokens_after_a_past_equal_the_naive_model(name: str, execution: Execution) -> None:
    check_continuations(WIDTHS[name], execution, 2)


@pytest.mark.parametrize("name", ALL)
def test_training_agrees_fused_and_unfused(name: str) -> None:
    """Of the encoder only some positions carry loss: the matrix before the head sees those rows alone."""
    # A pooler carries no loss, and so its parameters take no gradient.
    check_training(replace(ALL[name], pooler=False))


@pytest.mark.parametrize("name", ["narrow", "wide, tied"])
def test_gradients_equal_those_of_the_naive_model(name: str) -> None:
    check_gradients(WIDTHS[name], UNFUSED)


@pytest.mark.parametrize("name", ALL)
def test_every_phase_runs_with_shapes_alone(name: str) -> None:
    check_meta(ALL[name])


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("length", [1, 5])
@pytest.mark.parametrize("name", WIDTHS)
def test_logits_of_the_last_token_are_those_of_all(name: str, length: int, batch: int) -> None:
    arch = WIDTHS[name]
    twin = loud_twin(arch)
    tokens, _ = draw(arch, batch, length)
    load = Workload(phase="prefill", batch=batch, new_tokens=length, context=length, logits="last", dtypes=FP32)
    session = Session(twin, load, UNFUSED)
    session.inputs["tokens"].copy_(tokens)
    last = session.run().logits
    wanted = twin_reference.forward(arch, dict(twin.named_parameters()), tokens)["logits"].float()
    torch.testing.assert_close(last, wanted[:, -1:], **CLOSE)


def test_where_its_leaves_stand() -> None:
    """Right after the token table, and right before the output matrix."""
    assert [path for path, _ in build(ENCODER_WIDTH, dtypes=Dtypes()).leaves if "layers" not in path] == [
        "embed",
        "embed_proj",
        "final_norm",
        "pooler",
        "head.proj",
        "lm_head",
    ]
    headless = build(decoder(layer(), embedding_width=10, head=NoHead()), dtypes=Dtypes())
    assert [path for path, _ in headless.leaves if "layers" not in path] == ["embed", "embed_proj", "final_norm"]
    plain = build(decoder(layer()), dtypes=Dtypes())
    assert [path for path, _ in plain.leaves if "layers" not in path] == ["embed", "final_norm", "lm_head"]


def test_a_tied_head_has_the_table_itself() -> None:
    tied = build(WIDTHS["wide, tied"], dtypes=Dtypes())
    assert tied.lm_head is not None
    assert tied.lm_head.weight is tied.embed.weight
    assert tied.embed.weight.shape == (37, 40)
    apart = build(WIDTHS["narrow"], dtypes=Dtypes())
    assert apart.lm_head is not None
    assert apart.lm_head.weight is not apart.embed.weight
    assert apart.lm_head.weight.shape == (37, 10)


@pytest.mark.parametrize("form", ["fp8", "int8", "int4"])
def test_both_matrices_compute_with_what_they_store(form: str) -> None:
    """Packed like those of a layer, while the tables stay as they are; their traffic is no kernel's."""
    dtypes = Dtypes(weights=form, activations="fp32", kv_cache="fp32", group_size=16)  # type: ignore[arg-type]
    arch = WIDTHS["narrow"]
    twin = build(arch, dtypes=dtypes, device="cpu", seed=1)
    load = Workload(phase="prefill", batch=2, new_tokens=5, context=5, dtypes=dtypes, logits="last")
    session = Session(twin, load, UNFUSED)
    # What stands for a packed matrix is a buffer that is in no state: all weights as the naive model is to see them.
    weights = {f"{path}.weight": matrix for path, leaf in twin.leaves for matrix, _ in leaf.packed_matrices()}
    assert {"embed_proj.weight", "head.proj.weight"} < weights.keys()
    logits = session.run().logits
    wanted = twin_reference.forward(arch, dict(twin.named_parameters()) | weights, session.inputs["tokens"])["logits"]
    torch.testing.assert_close(logits, wanted[:, -1:].float(), **CLOSE)
    found = measure(twin, load, UNFUSED)
    unread = {path for path, quantity in found.unmeasured if quantity == "hbm_bytes"}
    assert {"embed_proj", "head.proj"} < unread
    assert not {"embed", "lm_head"} & unread


@pytest.mark.slow
@pytest.mark.parametrize("tied", [True, False])
def test_opt_350m(tied: bool) -> None:
    """transformers 5.23.0, norms behind the layers and no final one, as OPT-350m has them."""
    width = 12
    config = transformers.OPTConfig(
        vocab_size=V,
        hidden_size=D,
        word_embed_proj_dim=width,
        ffn_dim=F,
        num_hidden_layers=2,
        num_attention_heads=H,
        max_position_embeddings=32,
        do_layer_norm_before=False,
        tie_word_embeddings=tied,
        attn_implementation="eager",
    )
    network = loud(transformers.OPTForCausalLM(config))
    norm = LayerNorm()
    one = bare(
        attention=Gqa(n_heads=H, n_kv_heads=H, head_dim=D // H, qkv_bias=True, out_bias=True),
        ffn=Mlp(kind="relu", d_ff=F, bias=True),
        norm=norm,
        placement="post",
    )
    arch = model(
        stack(one, one, position=Learned(rows=32 + 2), final_norm=None),
        d_model=D,
        vocab_size=V,
        tied=tied,
        embedding_width=width,
    )

    def copies() -> Copies:
        t = network.model.decoder
        yield from pair("embed", t.embed_tokens)
        yield from pair("embed_proj", t.project_in)
        # OPT starts to count its positions at the third row.
        yield "pos_embed.weight", t.embed_positions.weight.roll(-2, 0)
        for i, block in enumerate(t.layers):
            p = f"layers.{i}"
            for x in "qkv":
                yield from pair(f"{p}.attn.{x}_proj", getattr(block.self_attn, f"{x}_proj"))
            yield from pair(f"{p}.attn.o_proj", block.self_attn.out_proj)
            yield from pair(f"{p}.attn_norm", block.self_attn_layer_norm)
            yield from pair(f"{p}.ffn.up", block.fc1)
            yield from pair(f"{p}.ffn.down", block.fc2)
            yield from pair(f"{p}.ffn_norm", block.final_layer_norm)
        yield from pair("head.proj", t.project_out)
        if not tied:
            yield from pair("lm_head", network.lm_head)

    def call(tokens: Tensor, _: dict[str, Tensor]) -> Tensor:
        return network(tokens, attention_mask=torch.ones_like(tokens)).logits

    check(arch, network, copies(), call)
    twin = build(arch, dtypes=Dtypes())
    assert sum(p.numel() for p in twin.parameters()) == sum(p.numel() for p in network.parameters())
