"""Lifetimes of reference-execution.md, section 3: which tensors are alive, and which are dead, when a module starts."""

from __future__ import annotations

import weakref
from typing import Any

import pytest
from mixture_layers import LAYERS, arch_of
from option_archs import ENCODER_WIDTH, WIDTHS
from torch import Tensor, UntypedStorage
from twin_archs import ALL, ENCODER_DECODERS

from llmprof.twin.build import build
from llmprof.twin.session import Session
from llmprof.workload import Dtypes, Execution, Workload

ARCHS = {
    **ALL,
    "width": WIDTHS["narrow"],
    "width, pooler": ENCODER_WIDTH,
    **{name: arch_of(LAYERS[name]) for name in ("latent", "latent, biases, shared")},
}


def is_alive(name: str, origin: str, probe: str) -> bool:
    """Whether the (first) result of module `origin` exists when module `probe` starts."""
    twin = build(ARCHS[name], dtypes=Dtypes())
    source = 5 if name in ENCODER_DECODERS else 0
    workload = Workload(phase="prefill", batch=2, new_tokens=7, context=7, source_tokens=source)
    session = Session(twin, workload, Execution(attention="unfused"))
    made: list[weakref.ref[UntypedStorage]] = []
    seen: list[bool] = []

    def note(module: Any, args: Any, result: Tensor | tuple[Tensor, ...]) -> None:
        first = result[0] if isinstance(result, tuple) else result
        made.append(weakref.ref(first.untyped_storage()))

    def look(module: Any, args: Any) -> None:
        seen.append(made[-1]() is not None)

    twin.get_submodule(origin).register_forward_hook(note)
    twin.get_submodule(probe).register_forward_pre_hook(look)
    session.run()
    (alive,) = seen
    return alive


@pytest.mark.parametrize(
    ("name", "origin", "probe"),
    [
        # A module's inputs live until it returns.
        ("gqa", "layers.0.attn_norm", "layers.0.attn.o_proj"),
        ("gqa", "layers.0", "layers.1.ffn.down"),
        ("gqa", "layers.0.ffn_norm", "layers.0.ffn.down"),
        # What a later module takes.
        ("gqa", "layers.0.attn_residual", "layers.0.ffn_residual"),
        ("parallel", "layers.0.attn_norm", "layers.0.ffn.down"),
        ("bert", "layers.1", "head.dense"),
        ("t5 pair", "encoder.final_norm", "decoder.layers.1.ffn.down"),
        ("t5 pair", "encoder.rel_bias", "encoder.layers.1.ffn.down"),
        # Without a cache, k is what the projection made.
        ("bert", "layers.0.attn.k_proj", "layers.0.attn.core"),
        ("width", "embed", "embed_proj"),
        ("width, pooler", "final_norm", "head.proj"),
        ("latent", "layers.0.ffn_norm", "layers.0.ffn.latent_up"),
        ("latent", "layers.0.ffn.latent_down", "layers.0.ffn.experts"),
        ("latent", "layers.0.ffn.experts", "layers.0.ffn.latent_up"),
        ("latent, biases, shared", "layers.0.ffn.latent_up", "layers.0.ffn.shared_gate"),
    ],
)
def test_alive(name: str, origin: str, probe: str) -> None:
    assert is_alive(name, origin, probe)


@pytest.mark.parametrize(
    ("name", "origin", "probe"),
    [
        ("gqa", "embed", "layers.1.attn_norm"),
        ("gqa", "layers.0.attn_norm", "layers.0.attn_residual"),
        # The rotated copy and the cache have taken their places.
        ("gqa", "layers.0.attn.q_proj", "layers.0.attn.core"),
        ("gqa", "layers.0.attn.k_proj", "layers.0.attn.core"),
        ("gqa", "layers.0.attn.v_proj", "layers.0.attn.core"),
        ("gqa", "layers.0.attn.rope", "layers.0.attn.o_proj"),
        ("no position", "layers.0.attn.q_proj", "layers.0.attn.o_proj"),
        ("qk rmsnorm", "layers.0.attn.q_norm", "layers.0.attn.core"),
        ("gqa", "layers.0.attn.core", "layers.0.attn_residual"),
        ("gqa", "layers.0.attn.o_proj", "layers.0.ffn_norm"),
        ("gqa", "layers.0.ffn.gate", "layers.0.ffn.down"),
        ("gqa", "layers.0.ffn.up", "layers.0.ffn.down"),
        ("gqa", "layers.0.ffn.act", "layers.0.ffn_residual"),
        ("gqa", "layers.0.attn_residual", "layers.1.attn_norm"),
        ("gqa", "layers.1", "lm_head"),
        ("parallel", "layers.0.attn_norm", "layers.0.residual"),
        ("parallel, two norms", "layers.0.attn_norm", "layers.0.ffn_norm"),
        ("post-norm", "layers.0.attn_residual", "layers.0.ffn.up"),
        # Taken by the residual, dead before the norm behind it.
        ("post-norm", "layers.0.attn_norm", "layers.0.ffn_norm"),
        ("post-norm pair", "decoder.layers.0.attn_norm", "decoder.layers.0.cross_norm"),
        ("post-norm pair", "decoder.layers.0.cross_norm", "decoder.layers.0.ffn_norm"),
        ("sandwich", "layers.0.attn_norm", "layers.0.attn_post_norm"),
        ("sandwich", "layers.0.attn", "layers.0.attn_residual"),
        ("bert", "layers.1", "head.act"),
        ("bert", "head.dense", "head.norm"),
        ("t5 pair", "encoder.rel_bias", "encoder.final_norm"),
        ("t5 pair", "encoder.final_norm", "decoder.final_norm"),
        ("t5 pair", "decoder.layers.0.cross_norm", "decoder.layers.0.cross_residual"),
        ("width", "embed", "layers.0.attn_norm"),
        ("width", "final_norm", "lm_head"),
        ("width, pooler", "final_norm", "lm_head"),
        ("latent", "layers.0.ffn.router", "layers.0.ffn.latent_up"),
        ("latent", "layers.0.ffn.latent_down", "layers.0.ffn.latent_up"),
        ("latent", "layers.0.ffn.experts", "layers.0.ffn_residual"),
        ("latent, biases, shared", "layers.0.ffn.experts", "layers.0.ffn.shared.up"),
        ("latent, biases, shared", "layers.0.ffn.latent_up", "layers.0.ffn_residual"),
    ],
)
def test_dead(name: str, origin: str, probe: str) -> None:
    assert not is_alive(name, origin, probe)
