"""Architectures from the sizes that a paper's table prints, where no spec of the catalogue has them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from llmprof.claims.papers.citations import CITATIONS
from llmprof.predict.api import Prediction, predict
from llmprof.spec.arch import ArchSpec
from llmprof.spec.load import load_text
from llmprof.workload import Execution, Recompute, Workload


def architecture(name: str, source: str, **fields: Any) -> ArchSpec:
    """The architecture of these fields of the spec language, a decoder unless `structure` says otherwise.

    `source`: the key of the citation that has the sizes.
    """
    cited = CITATIONS[source]
    read = {"url": cited.url, "where": cited.title, "read": cited.read}
    document = {"name": name, "source": read, "structure": "causal-decoder", "tied_embeddings": True, **fields}
    return load_text(json.dumps(document), name).arch(None)


def gpt(
    name: str,
    source: str,
    *,
    layers: int,
    d_model: int,
    heads: int,
    vocab_size: int,
    tokens: int,
    d_ff: int | None = None,
) -> ArchSpec:
    """A decoder of GPT-2's kind: learned positions, LayerNorm, GELU, biases; heads share d_model."""
    assert d_model % heads == 0, (name, d_model, heads)
    attention = {"kind": "gqa", "n_heads": heads, "n_kv_heads": heads, "head_dim": d_model // heads}
    return architecture(
        name,
        source,
        vocab_size=vocab_size,
        d_model=d_model,
        max_context=tokens,
        position={"kind": "learned", "rows": tokens},
        layers={
            "count": layers,
            "norm": {"kind": "layernorm", "placement": "pre"},
            "attention": {**attention, "qkv_bias": True, "out_bias": True},
            "ffn": {"kind": "gelu", "d_ff": d_ff or 4 * d_model, "bias": True},
        },
    )


def training_pass(
    arch: ArchSpec,
    tokens: int,
    *,
    batch: int = 1,
    fused: bool = False,
    dropout: float = 0.0,
    recompute: Recompute = "none",
) -> Prediction:
    """A training pass over sequences of so many tokens, with a loss at each."""
    workload = Workload(
        phase="train",
        batch=batch,
        new_tokens=tokens,
        context=tokens,
        objective="causal-lm",
        loss_tokens=tokens,
        dropout=dropout,
        recompute=recompute,
    )
    return predict(arch, workload, Execution(attention="fused" if fused else "unfused"))


def matmul_flops(made: Prediction) -> int:
    """Dense FLOPs of the contractions of the forward and the backward pass."""
    return made.cost.matmul_flops + made.matmul_flops_backward


def by_leaf(made: Prediction) -> Mapping[str, int]:
    """Dense FLOPs of the contractions of the forward pass by path, equal layers together: ``layers.attn.core``."""
    found: dict[str, int] = {}
    for op in made.program.ops:
        found[op.path] = found.get(op.path, 0) + op.times * op.matmul_flops
    for group in made.program.groups:
        for op in group.ops:
            path = f"layers.{op.path}"
            found[path] = found.get(path, 0) + group.count * op.times * op.matmul_flops
    return found


def core_flops(made: Prediction) -> int:
    """Of these, those of the attention cores."""
    return sum(flops for path, flops in by_leaf(made).items() if path.endswith(".core"))


def causal_core_flops(made: Prediction) -> int:
    """The same with the pairs of query and key alone that the mask lets through."""
    return sum(
        group.count * op.times * op.causal_flops
        for group in made.program.groups
        for op in group.ops
        if op.path.endswith(".core")
    )
