"""Refuse what does not fit the device, before anything is allocated."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from llmprof.errors import DeviceError, InputError
from llmprof.predict.api import Prediction, predict
from llmprof.profiling.question import Request
from llmprof.spec.arch import ArchSpec
from llmprof.spec.slice import slice_arch, smallest_slice
from llmprof.units import format_bytes

if TYPE_CHECKING:
    import torch


ADDRESSABLE = 2**63
"""Sizes in torch are signed 64-bit integers."""


def kernels_of(device: torch.device) -> Literal["cuda", "cpu"]:
    """The kernel family of a device; meta follows CUDA."""
    return "cpu" if device.type == "cpu" else "cuda"


def needed_bytes(prediction: Prediction) -> int:
    """Bytes that a pass needs at once: weights, caches, states, and the predicted activation peak."""
    ledger = prediction.ledger
    if prediction.workload.phase == "train":
        return _needed_for_a_step(prediction)
    kept = ledger.total("kv_cache_bytes") + ledger.total("recurrent_state_bytes")
    return ledger.total("weight_bytes") + kept + (ledger.at("", "peak_live_bytes") or 0)


def _needed_for_a_step(prediction: Prediction) -> int:
    """Bytes that measuring a training step needs at once: in backward, or in the optimiser's step.

    Where the peak is not predicted, it is at least the gradients, and the logits three times: as they are, in fp32 for
    the loss, and their gradient. The optimiser steps a copy of the weights; gradients of 16 bits are cast to fp32.
    """
    ledger = prediction.ledger
    weights, gradients = ledger.total("weight_bytes"), ledger.total("gradient_bytes")
    logits, states = ledger.total("logits_bytes"), ledger.total("optimizer_bytes")
    backward = ledger.at("", "peak_live_bytes") or gradients + 3 * logits
    wide = prediction.workload.dtypes.weights in ("fp32", "tf32")
    return weights + max(backward, weights + gradients + states + (0 if wide else 2 * gradients) + logits)


def refuse_what_does_not_fit(request: Request, sliced: ArchSpec, device: torch.device) -> None:
    """Raise DeviceError, before anything is allocated, where the largest pass does not fit the free memory."""
    from llmprof.measure.device import free_bytes, require_fit

    free = free_bytes(device)
    need = _need(sliced, request, device)
    if need >= ADDRESSABLE:  # not even a tensor without data can have such a size
        raise InputError(
            f"{request.arch.label} needs {need:,} bytes, beyond the sizes that torch can express; "
            "use a shorter --context or a smaller --batch"
        )
    if free is None:  # the meta device needs none, and what is unknown is no reason to refuse
        return
    if need > free:
        require_fit(need, device, request.arch.label, _advice(request, sliced, device, free))


@contextmanager
def out_of_memory_refused(label: str, device: torch.device) -> Iterator[None]:
    """DeviceError where an allocator gives up in the middle: others use the device too, and allocators keep scratch."""
    import torch

    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise _out_of_memory(label, device) from error
    except RuntimeError as error:
        # The CPU's allocator has no exception of its own.
        if "can't allocate memory" not in str(error) and "not enough memory" not in str(error):
            raise
        raise _out_of_memory(label, device) from error


def _out_of_memory(label: str, device: torch.device) -> DeviceError:
    return DeviceError(
        f"{label}: {device} ran out of memory; use --layers N, a shorter --context, a smaller --batch or --device meta"
    )


def _advice(request: Request, sliced: ArchSpec, device: torch.device, free: int) -> str:
    """What would fit instead: fewer layers, or the meta device, which needs no memory."""

    def need_of(n_layers: int) -> int:
        return _need(slice_arch(request.arch, n_layers).arch, request, device)

    deepest = max(len(stack.layers) for stack in sliced.stacks)
    depths = range(smallest_slice(request.arch), deepest)
    fitting = bisect_right(depths, free, key=need_of)  # more layers never need less
    if fitting:
        n_layers = depths[fitting - 1]
        return f"--layers {n_layers} would fit ({format_bytes(need_of(n_layers))}), and --device meta needs no memory"
    return "--device meta confirms the counts without memory; or use a shorter --context or a smaller --batch"


def _need(arch: ArchSpec, request: Request, device: torch.device) -> int:
    """Bytes of the largest pass of `request` on `arch`."""
    return max(
        needed_bytes(predict(arch, workload, request.execution(attention, kernels_of(device))))
        for workload in request.workloads
        for attention in request.attentions
    )
