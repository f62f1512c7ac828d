"""Hold what reaches memory on a device against a cache that is simulated while the twin runs (docs/reference-dram.md).

The twin is one of shapes alone: which kernels run, what they touch and what lives how long does not depend on values,
and the device of the catalogue need not be there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from llmprof import confirm
from llmprof.device import Device
from llmprof.ledger import Basis, Entry, Ledger, Quantity, Row
from llmprof.predict.api import Prediction, predict
from llmprof.predict.levels import levels, levels_of

if TYPE_CHECKING:
    from llmprof.profiling.question import Request, Result
    from llmprof.twin.model import Twin

Bytes = Mapping[str, int]

QUANTITIES: tuple[Quantity, ...] = ("compulsory_bytes", "dram_bytes")

REREAD = "the fused kernel reads keys and values again, which a cache of whole tensors cannot see"

OUT_OF_PLACE = "where its dispatch is watched, torch adds the mask of sdpa-math into a new tensor, which takes room"


def confirm_memory(request: Request, result: Result, device: Device, progress: Callable[[str], None]) -> None:
    """Add to `result` the rows of every pass of `request`: compulsory and DRAM bytes of each leaf on `device`.

    Raises InputError where nothing is known of the device's cache.
    """
    from llmprof.twin.build import build

    first = request.workloads[0]
    twin = build(request.arch, dtypes=first.dtypes, device="meta", mtp=first.mtp)
    for workload in request.workloads:
        for attention in request.attentions:
            progress(f"{request.arch.label}: {workload.phase}, {attention} attention below the cache of {device.name}")
            prediction = predict(request.arch, workload, request.execution(attention, "cuda"))
            result.rows += rows(prediction, device, twin)


def rows(prediction: Prediction, device: Device, twin: Twin) -> list[Row]:
    """The rows of one pass; those that no simulated cache can confirm say why."""
    from llmprof.measure.lru import memory_bytes
    from llmprof.twin.core import NoFusedKernel

    predicted = Ledger(entry for entry in levels(prediction, device) if entry.quantity in QUANTITIES)
    workload, execution = prediction.workload, prediction.execution
    assert device.last_level_cache is not None, "levels of a device without a cache are refused"
    capacity = device.last_level_cache.value
    measured, unmeasured = Ledger(), _unmeasured(prediction, device, predicted)
    if len(unmeasured) < len(predicted):
        try:
            moved = memory_bytes(twin, workload, execution, (None, capacity))
        except NoFusedKernel as reason:
            unmeasured = dict.fromkeys(confirm.keys(predicted), str(reason))
        else:
            measured = _ledger(predicted, {"compulsory_bytes": moved[None], "dram_bytes": moved[capacity]})
    return confirm.join(
        predicted,
        measured,
        attention=execution.attention,
        phase=workload.phase,
        witness=f"simulated cache of {device.name}",
        unmeasured=unmeasured,
    )


def _unmeasured(prediction: Prediction, device: Device, predicted: Ledger) -> dict[tuple[str, Quantity], str]:
    """What the simulated cache does not see, and why."""
    dtypes = prediction.workload.dtypes
    if dtypes.quantised:
        reason = f"no kernel here reads {dtypes.weights} weights and a {dtypes.kv_cache} cache"
        return dict.fromkeys(confirm.keys(predicted), reason)
    if prediction.execution.attention == "unfused" and prediction.execution.reference == "sdpa-math":
        return {key: OUT_OF_PLACE for key in confirm.keys(predicted) if key[1] == "dram_bytes"}
    cores = levels_of(prediction, device).cores
    return {(path, "dram_bytes"): REREAD for path, core in cores.items() if core.reread_bytes}


def _ledger(predicted: Ledger, found: Mapping[Quantity, Bytes]) -> Ledger:
    """What was found, zeros at the paths where only the prediction has something."""
    paths = list(dict.fromkeys(entry.path for entry in predicted))
    return Ledger(
        Entry(path=path, quantity=quantity, value=moved.get(path, 0), basis=Basis.COUNTED)
        for quantity, moved in found.items()
        for path in dict.fromkeys([*paths, *moved])
    )
