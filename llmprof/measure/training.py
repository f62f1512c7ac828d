"""Measures one training step on one twin: forward, backward and optimiser, what is saved and what is live meanwhile.

docs/objectives.md, sections 2 and 3, and docs/reference-training.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from llmprof.ledger import Basis, Entry, Ledger, Quantity
from llmprof.measure.bytes import ByteCounter
from llmprof.measure.causal import causal_flops
from llmprof.measure.flops import FlopCounter
from llmprof.measure.kernel_names import KernelNames
from llmprof.measure.live import LiveBytes
from llmprof.measure.optimizer import by_leaf, measure_step
from llmprof.measure.params import weights_by_path
from llmprof.measure.saved import SavedBytes
from llmprof.measure.trace import BACKWARD, tracing, tracing_backward
from llmprof.twin.model import Twin
from llmprof.twin.training import TrainingSession
from llmprof.workload import Execution, Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerGradient:
    """The L2 norm of the gradient of all parameters of the layer at `path`; None where there are shapes alone."""

    path: str
    norm: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingMeasured:
    """What one training pass showed.

    `ledger` has parameters, weight bytes, dense and causal forward FLOPs and bytes, saved bytes, and those of gradients
    and of the optimiser's state of every leaf path, zeros included (what a layer that runs again saves, at its own
    path); the bytes of the logits at `lm_head`, the positions with loss at `loss`; at path "" FLOPs and bytes of the
    backward pass, bytes and peak of the optimiser's step, and the peak of live bytes over forward and backward.
    `kernels` names the kernel that each core was seen to launch, `unmeasured` says, by (path, quantity), what has no
    entry and why, `loss` is None where there are shapes alone, and `gradients` are in the order of the layers.
    """

    ledger: Ledger
    kernels: Mapping[str, str]
    unmeasured: Mapping[tuple[str, Quantity], str]
    loss: float | None
    gradients: tuple[LayerGradient, ...]


def measure_training(
    twin: Twin, workload: Workload, execution: Execution, *, text: int, seed: int = 0
) -> TrainingMeasured:
    """Run the training pass `workload`, made from `text` tokens per sequence, once on `twin` and count.

    Raises what `TrainingSession` raises; NoFusedKernel where a core has none that fits or none with a gradient.
    """
    session = TrainingSession(twin, workload, execution, text=text, seed=seed)
    flops, traffic, kernels = FlopCounter(), ByteCounter(), KernelNames(twin)
    backward, backward_traffic = FlopCounter(), ByteCounter()
    weights_and_buffers = _stored(session)
    live = LiveBytes(excluded=weights_and_buffers, constants=session.constants)
    ledger = Ledger()
    unmeasured: dict[tuple[str, Quantity], str] = {}

    def enter(path: str, quantity: Quantity, value: int) -> None:
        if (path, quantity) not in unmeasured:
            ledger.add(Entry(path=path, quantity=quantity, value=value, basis=Basis.COUNTED))

    with session.training():
        saved, kept = _saved(session, weights_and_buffers)
        with tracing(twin, (live, flops, traffic, kernels)):
            output = session.forward()
        assert output.loss is not None
        assert output.logits is not None
        if live.live != kept:
            raise RuntimeError(f"{live.live} bytes are live after forward, but autograd and the caller keep {kept}")
        with tracing_backward((live, backward, backward_traffic)):
            gradients = session.gradients(output.loss)
        step = measure_step(twin, gradients)
        causal = causal_flops(flops.by_path, session.pairs, twin.material.device)
        unmeasured.update(((path, "matmul_flops_causal"), reason) for path, reason in causal.unmeasured.items())
        for path, weights in weights_by_path(twin):
            enter(path, "params", weights.params)
            enter(path, "weight_bytes", weights.stored_bytes)
            enter(path, "matmul_flops", flops.by_path.get(path, 0))
            enter(path, "matmul_flops_causal", causal.by_path.get(path, 0))
            enter(path, "hbm_bytes", traffic.by_path.get(path, 0))
            enter(path, "saved_bytes", 0)
        for path, size in by_leaf(twin, {name: _nbytes(gradient) for name, gradient in gradients.items()}):
            enter(path, "gradient_bytes", size)
        for path, size in by_leaf(twin, step.kept):
            enter(path, "optimizer_bytes", size)
    if kernels.by_path != session.kernels:
        raise RuntimeError(f"planned kernels {session.kernels}, but saw {kernels.by_path}")
    for path, size in saved.items():
        enter(path, "saved_bytes", size)
    enter("lm_head", "logits_bytes", _nbytes(output.logits))
    enter("loss", "loss_tokens", session.batch.loss_tokens)
    enter("", "matmul_flops_backward", backward.by_path.get(BACKWARD, 0))
    enter("", "hbm_bytes_backward", backward_traffic.by_path.get(BACKWARD, 0))
    enter("", "optimizer_peak_bytes", step.peak)
    enter("", "hbm_bytes_optimizer", step.hbm_bytes)
    enter("", "peak_live_bytes", live.peak)
    shapes_alone = output.loss.is_meta
    return TrainingMeasured(
        ledger=ledger,
        kernels=kernels.by_path,
        unmeasured=unmeasured,
        loss=None if shapes_alone else output.loss.item(),
        gradients=tuple(_by_layer(twin, None if shapes_alone else gradients)),
    )


def _stored(session: TrainingSession) -> list[Tensor]:
    """Parameters, and buffers that are stored like them: they are there before and after."""
    constants = {id(constant) for constant in session.constants}
    buffers = (buffer for buffer in session.twin.buffers() if id(buffer) not in constants)
    return [*session.twin.parameters(), *buffers]


def _saved(session: TrainingSession, stored: Sequence[Tensor]) -> tuple[Mapping[str, int], int]:
    """Bytes that a forward pass saves, by path, and all that it leaves alive: that, constants, logits and loss.

    Nothing of that pass is kept.
    """
    saved = SavedBytes(ignored=[*stored, *session.constants])
    with saved.watching(session.twin):
        output = session.forward()
    assert output.loss is not None
    assert output.logits is not None
    return saved.by_path, saved.together_with(*session.constants, output.logits, output.loss)


def _nbytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _by_layer(twin: Twin, gradients: Mapping[str, Tensor] | None) -> list[LayerGradient]:
    """One norm per layer of every stack, in their order."""
    paths = [f"{stack.spec.prefix}layers.{i}" for stack in twin.stacks for i in range(len(stack.layers))]
    if gradients is None:
        return [LayerGradient(path=path, norm=None) for path in paths]
    squares = dict.fromkeys(paths, 0.0)
    for name, gradient in gradients.items():
        for path in paths:
            if name.startswith(f"{path}."):
                squares[path] += torch.linalg.vector_norm(gradient, dtype=torch.float64).item() ** 2
    return [LayerGradient(path=path, norm=math.sqrt(squares[path])) for path in paths]
