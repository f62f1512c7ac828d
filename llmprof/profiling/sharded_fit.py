"""Where ranks run, and whether they fit there: known before the first one starts."""

from __future__ import annotations

import importlib.util
from bisect import bisect_right
from dataclasses import dataclass, replace
from typing import Literal, cast

from llmprof.errors import DeviceError, InputError
from llmprof.predict.api import predict
from llmprof.profiling.fit import needed_bytes
from llmprof.profiling.run import cut_of
from llmprof.profiling.sharded import ShardedRequest
from llmprof.sharding import check_sharding
from llmprof.sharding_options import as_options
from llmprof.spec.slice import smallest_slice
from llmprof.units import format_bytes
from llmprof.workload import Dtypes

Kind = Literal["cpu", "cuda", "meta"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The kind of device that every rank has, how many of them share this machine, and what they talk over."""

    kind: Kind
    here: int
    note: str = ""

    @property
    def backend(self) -> str:
        """As torch.distributed names it."""
        return {"cpu": "gloo", "cuda": "nccl", "meta": "fake"}[self.kind]


def place(device: str, ranks: int) -> Place:
    """Where `ranks` ranks of this machine run. InputError or DeviceError where they cannot, with what would do."""
    require_distributed()
    import torch
    import torch.distributed as dist

    from llmprof.measure.device import resolve_device

    if ":" in device:
        raise InputError(
            f"--device {device} is one device, and each rank has its own; use --device cuda, and CUDA_VISIBLE_DEVICES "
            "to choose among them"
        )
    notes: list[str] = []
    kind = cast("Kind", resolve_device(device, notice=notes.append).type)
    if kind == "cuda":
        there = torch.cuda.device_count()
        if ranks > there:
            raise DeviceError(
                f"{ranks} ranks need a GPU each, and there {'is' if there == 1 else 'are'} {there}; use fewer ranks, "
                "--device cpu (gloo), or --device meta (shapes alone, any number of ranks)"
            )
        if not dist.is_nccl_available():
            raise DeviceError("this build of torch is without NCCL; use --device cpu (gloo) or --device meta")
    if kind == "cpu" and not dist.is_gloo_available():
        raise DeviceError("this build of torch is without gloo; use --device meta")
    return Place(kind=kind, here=ranks, note=notes[0] if notes else "")


def require_distributed() -> None:
    """DeviceError where torch is missing, or was built without `torch.distributed`."""
    from llmprof.profiling.question import require_torch

    require_torch(referees=False)
    import torch.distributed as dist

    if not dist.is_available() or importlib.util.find_spec("torch.distributed.tensor") is None:
        raise DeviceError("this build of torch is without torch.distributed, which ranks talk through")


def refuse_what_cannot_be_spread(request: ShardedRequest) -> None:
    """InputError where a degree fits no pass of `request`, naming those that do, or a slice is no pipeline."""
    arch, staged = request.arch, request.sharding.pipeline_parallel > 1
    for workload in request.workloads:
        try:
            check_sharding(arch, workload, request.sharding)
        except InputError as error:
            raise as_options(error, arch, workload, request.sharding) from None
    if request.layers is not None and staged:
        raise InputError(
            "--layers has no effect beside --pipeline-parallel: a stage of a few layers says nothing of the others; "
            "leave one of them out"
        )


def refuse_what_does_not_fit(request: ShardedRequest, where: Place) -> str | None:
    """DeviceError where the ranks' parts do not fit; and why they cannot be compared with the whole model, if so.

    A rank builds the model whole before it keeps its part, twice where heads are repeated or the vocabulary is padded;
    to compare, it has the unsharded one in fp32 beside that. On a CPU all ranks share one memory.
    """
    if where.kind == "meta":
        return None
    free = _free(where)
    if free is None:
        return None
    label, ranks = request.arch.label, request.sharding.ranks
    sharers = where.here if where.kind == "cpu" else 1
    need = sharers * _need(request, where, fp32=False)
    if need > free:
        fewer = _fewer(request, where, free // sharers, fp32=False)
        raise DeviceError(
            f"{label} needs {format_bytes(need)} to be built on {_them(sharers, ranks)}, where {format_bytes(free)} "
            f"is free; use {fewer}a shorter --context, a smaller --batch, or --device meta, which needs no memory"
        )
    more = sharers * _need(request, where, fp32=True)
    if request.compares and more > free:
        return (
            f"the unsharded model in fp32 beside each part needs {format_bytes(more)} on {_them(sharers, ranks)}, "
            f"where {format_bytes(free)} is free; use {_fewer(request, where, free // sharers, fp32=True)}--no-compare"
        )
    return None


def _fewer(request: ShardedRequest, where: Place, free: int, *, fp32: bool) -> str:
    """The option that runs as many layers as fit `free` bytes of a rank, where that is possible."""
    if request.sharding.pipeline_parallel > 1:
        return ""
    depths = range(smallest_slice(request.arch), cut_of(request).arch.n_layers)
    # More layers never need less.
    fitting = bisect_right(depths, free, key=lambda n: _need(replace(request, layers=n), where, fp32=fp32))
    return f"--layers {depths[fitting - 1]}, " if fitting else ""


def _them(sharers: int, ranks: int) -> str:
    return f"{sharers} ranks of one memory" if sharers > 1 else f"each of {ranks} ranks"


def _free(where: Place) -> int | None:
    """Bytes that are free for a rank of a GPU, of those that have the least; on a CPU for all of them together."""
    import torch

    from llmprof.measure.device import free_bytes

    if where.kind == "cpu":
        return free_bytes(torch.device("cpu"))
    found = [free_bytes(torch.device("cuda", index)) for index in range(where.here)]
    return min((each for each in found if each is not None), default=None)


def _need(request: ShardedRequest, where: Place, *, fp32: bool) -> int:
    """Bytes of one rank at most, weights in two builds beside those of the pass: `fp32` and whole, or as asked."""
    arch = cut_of(request).arch
    most = 0
    for workload in request.workloads:
        wide = replace(workload, dtypes=Dtypes(weights="fp32", activations="fp32", kv_cache="fp32"))
        asked = wide if fp32 else workload
        for attention in request.attentions:
            execution = request.execution(attention, "cpu" if where.kind == "cpu" else "cuda")
            made = predict(arch, asked, execution)
            weights = made.ledger.total("weight_bytes")
            most = max(most, needed_bytes(made) + (2 * weights if fp32 else weights))
    return most
