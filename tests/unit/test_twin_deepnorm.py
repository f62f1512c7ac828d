"""DeepNorm on tensors: its alpha is in the residuals of the twin, its beta in the deviations of its weights.

The constants are worked out here from the papers' formulas (DeepNet, https://arxiv.org/abs/2203.00555, figure 2; GLM-130B,
https://arxiv.org/abs/2210.02414, section 2.1), not taken from the spec.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from llmprof.catalog import resolve
from llmprof.spec.arch import ArchSpec
from llmprof.twin.build import build
from llmprof.twin.model import Twin
from llmprof.twin.residuals import Residual
from llmprof.twin.session import Session
from llmprof.workload import Dtypes, Execution, Workload

FP32 = Dtypes(weights="fp32", activations="fp32", kv_cache="fp32")
DEVIATION = 0.02

ONE_STACK = """
name: deep
source: {url: https://arxiv.org/abs/2203.00555, where: figure 2, read: recalled}
structure: causal-decoder
vocab_size: 64
d_model: 64
max_context: 512
tied_embeddings: true
position: {kind: rope, theta: 10000}
layers:
  count: 12
  norm: {kind: layernorm, placement: post}
  attention: {kind: gqa, n_heads: 4, n_kv_heads: 4, head_dim: 16}
  ffn: {kind: FFN, d_ff: 128}
  residual: {kind: deepnorm, rule: RULE}
"""

TWO_STACKS = """
name: deep-pair
source: {url: https://arxiv.org/abs/2203.00555, where: figure 2, read: recalled}
structure: encoder-decoder
vocab_size: 64
d_model: 64
max_context: 512
tied_embeddings: true
position: {kind: sinusoidal}
encoder:
  count: 12
  norm: {kind: layernorm, placement: post}
  attention: {kind: gqa, n_heads: 4, n_kv_heads: 4, head_dim: 16}
  ffn: {kind: relu, d_ff: 128}
  residual: {kind: deepnorm, rule: deepnet}
decoder:
  count: 6
  norm: {kind: layernorm, placement: post}
  attention: {kind: gqa, n_heads: 4, n_kv_heads: 4, head_dim: 16}
  cross_attention: {kind: gqa, n_heads: 4, n_kv_heads: 4, head_dim: 16}
  ffn: {kind: relu, d_ff: 128}
  residual: {kind: deepnorm, rule: deepnet}
"""


@dataclass(frozen=True)
class Expected:
    """The constants of the layers below `prefix`."""

    prefix: str
    alpha: float
    beta: float


N, M = 12, 6
"""Layers of the encoder, or of the only stack; layers of the decoder beside it."""

CASES = {
    "decoder alone": (
        ONE_STACK.replace("RULE", "deepnet").replace("FFN", "relu"),
        [Expected("layers.", (2 * N) ** (1 / 4), (8 * N) ** (-1 / 4))],
    ),
    "encoder and decoder": (
        TWO_STACKS,
        [
            Expected("encoder.layers.", 0.81 * (N**4 * M) ** (1 / 16), 0.87 * (N**4 * M) ** (-1 / 16)),
            Expected("decoder.layers.", (3 * M) ** (1 / 4), (12 * M) ** (-1 / 4)),
        ],
    ),
    "glm": (
        ONE_STACK.replace("RULE", "glm").replace("FFN", "geglu"),
        [Expected("layers.", (2 * N) ** (1 / 2), (2 * N) ** (-1 / 2))],
    ),
}


@pytest.fixture(params=CASES, name="case")
def _case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Twin, list[Expected]]:
    text, expected = CASES[request.param]
    return build(_loaded(text, tmp_path_factory), dtypes=FP32, device="cpu", seed=7), expected


def _loaded(text: str, tmp_path_factory: pytest.TempPathFactory) -> ArchSpec:
    file = tmp_path_factory.mktemp("specs") / "deep.yaml"
    file.write_text(text, encoding="utf-8")
    (arch,) = resolve([str(file)])
    return arch


def _run(twin: Twin) -> None:
    source = 5 if twin.arch.encoder is not None else 0
    work = Workload(phase="prefill", batch=2, new_tokens=4, context=4, source_tokens=source, dtypes=FP32)
    Session(twin, work, Execution(attention="unfused", kernels="cpu")).run()


def residuals(twin: Twin, prefix: str) -> Iterator[tuple[str, Residual]]:
    return (
        (path, module)
        for path, module in twin.named_modules()
        if path.startswith(prefix) and isinstance(module, Residual)
    )


def test_every_residual_computes_alpha_x_plus_f(case: tuple[Twin, list[Expected]]) -> None:
    twin, expected = case
    seen: dict[str, tuple[Tensor, Tensor, Tensor]] = {}

    def watch(path: str, module: nn.Module) -> None:
        def note(module: nn.Module, args: tuple[Tensor, Tensor], out: Tensor) -> None:
            seen[path] = (*(tensor.double() for tensor in args), out.double())

        module.register_forward_hook(note)

    for part in expected:
        found = list(residuals(twin, part.prefix))
        per_layer = 3 if part.prefix.startswith("decoder") else 2  # attention, cross-attention, feed-forward
        assert len(found) == per_layer * (M if part.prefix.startswith("decoder") else N)
        for path, module in found:
            watch(path, module)
    _run(twin)
    for part in expected:
        for path, _ in residuals(twin, part.prefix):
            x, f, out = seen[path]
            assert float(f.abs().max()) > 0, "the branch adds something"
            assert torch.allclose(out, part.alpha * x + f, rtol=1e-5, atol=1e-6), path
            # The constant is that of the paper to more digits than any other rule would give.
            assert float(((out - f) * x).sum() / (x * x).sum()) == pytest.approx(part.alpha, rel=1e-5), path


SCALED = ("v_proj", "o_proj", "up", "gate", "down")
NOT_SCALED = ("q_proj", "k_proj")


def _deviation_bound(values: int) -> float:
    """Six standard errors of a normal sample's deviation, which has one of about 1 / sqrt(2 n)."""
    return 6 / math.sqrt(2 * values)


def matrices(twin: Twin, prefix: str, names: tuple[str, ...]) -> Iterator[tuple[str, Tensor]]:
    for path, parameter in twin.named_parameters():
        leaf = path.split(".")[-2]
        if path.startswith(prefix) and leaf in names and parameter.dim() == 2:
            yield path, parameter


@pytest.mark.parametrize("scaled", [True, False])
def test_beta_scales_the_deviation_of_values_outputs_and_feed_forward(
    case: tuple[Twin, list[Expected]], scaled: bool
) -> None:
    twin, expected = case
    for part in expected:
        found = list(matrices(twin, part.prefix, SCALED if scaled else NOT_SCALED))
        cross = [path for path, _ in found if ".cross_attn." in path]
        assert bool(cross) is part.prefix.startswith("decoder")
        wanted = DEVIATION * (part.beta if scaled else 1.0)
        for path, matrix in found:
            deviation = float(matrix.double().pow(2).mean().sqrt())
            assert deviation == pytest.approx(wanted, rel=_deviation_bound(matrix.numel())), path
        # All of a stack together leave no room for another rule: the constants differ by more than the bound.
        together = torch.cat([matrix.flatten() for _, matrix in found]).double()
        assert float(together.pow(2).mean().sqrt()) == pytest.approx(wanted, rel=_deviation_bound(len(together)))


def test_the_constants_are_told_apart_by_these_bounds() -> None:
    """What the statistical test could confuse would differ by less than its bound on a whole stack."""
    values = N * (2 * 64 * 64 + 2 * 64 * 128)
    constants = sorted({part.beta for _, parts in CASES.values() for part in parts} | {1.0})
    assert all(b / a - 1 > 2 * _deviation_bound(values) for a, b in pairwise(constants))


def test_the_tables_and_the_head_are_not_scaled(case: tuple[Twin, list[Expected]]) -> None:
    twin, _ = case
    table = twin.embed.weight
    assert float(table.double().pow(2).mean().sqrt()) == pytest.approx(DEVIATION, rel=_deviation_bound(table.numel()))
