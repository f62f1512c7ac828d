"""The twin on meta as a witness: parameters at full depth, passes at full depth or on every kind of layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from llmprof import confirm
from llmprof.conformance.rows import Result, Row, compared
from llmprof.ledger import Ledger
from llmprof.predict.api import Prediction, predict
from llmprof.predict.parameters import parameters
from llmprof.spec.arch import ArchSpec, Gqa, Moe, NoAttention
from llmprof.spec.slice import slice_arch, smallest_slice
from llmprof.workload import Execution, Workload

if TYPE_CHECKING:
    from llmprof.twin.model import Twin

UNFUSED = Execution(attention="unfused")
TABLES = ("embed", "pos_embed", "type_embed")
"""The last names of paths whose parameters are tables."""

OfPass = Literal["matmul_flops", "kv_cache_bytes", "recurrent_state_bytes"]
OF_A_PASS: tuple[OfPass, ...] = ("matmul_flops", "kv_cache_bytes", "recurrent_state_bytes")


def depth(arch: ArchSpec) -> ArchSpec:
    """What runs: all layers where each is attention and a dense feed-forward, else one layer of every kind.

    The twin runs experts and scans of states op by op, which takes seconds for each layer; what one of a kind takes
    stands for the others.
    """
    plain = all(
        isinstance(layer.attention, Gqa | NoAttention) and layer.mixer is None and not isinstance(layer.ffn, Moe)
        for stack in arch.stacks
        for layer in stack.layers
    )
    return arch if plain else slice_arch(arch, smallest_slice(arch)).arch


def add_rows(result: Result, workloads: Sequence[Workload]) -> None:
    """Build the twin of `result`'s architecture on meta, run it, and add what it says."""
    from llmprof.measure.params import weights_by_path
    from llmprof.twin.build import build

    arch = result.arch
    dtypes = workloads[0].dtypes
    count = parameters(arch)
    whole = build(arch, dtypes=dtypes)
    found = {path: weights.params for path, weights in weights_by_path(whole)}
    result.rows.append(compared("params_total", "twin", count.total, sum(found.values())))
    result.rows.append(compared("params_embedding", "twin", count.embedding, tables_of(whole)))
    paths = list(dict.fromkeys([*count.by_path, *found]))
    result.rows += [
        compared("params", "twin", count.by_path.get(path, 0), found.get(path, 0), path=path)
        for path in paths
        if count.by_path.get(path, 0) != found.get(path, 0)
    ]
    result.matched["twin"] = f"{len(paths)} of {len(paths)} modules"
    ran = depth(arch)
    n = ran.n_layers
    result.ran["twin"] = f"{n} layers" if n == arch.n_layers else f"{n} of {arch.n_layers} layers, one of every kind"
    twin = whole if ran == arch else build(ran, dtypes=dtypes)
    for workload in workloads:
        result.rows += _of_pass(arch, ran, twin, workload)


def tables_of(twin: Twin) -> int:
    """Values of the twin's tables: of tokens, positions and segments, and the output matrix where it is its own."""
    total = 0
    seen: set[int] = set()
    for path, leaf in twin.leaves:
        last = path.rpartition(".")[2]
        for parameter in leaf.parameters(recurse=False):
            key = parameter.untyped_storage()._cdata
            if key in seen:
                continue
            seen.add(key)
            if last in TABLES or (last == "lm_head" and parameter.dim() > 1):
                total += parameter.numel()
    return total


def _of_pass(arch: ArchSpec, ran: ArchSpec, twin: Twin, workload: Workload) -> list[Row]:
    """What a pass took and what it left, in total; and each module in which that differs."""
    from llmprof.measure.run import measure

    prediction = predict(arch, workload, UNFUSED)
    measured = measure(twin, workload, UNFUSED).ledger
    if ran != arch:
        cut = slice_arch(arch, smallest_slice(arch))
        measured = confirm.extrapolate(measured, cut.representative, confirm.keys(prediction.ledger))
    rows = []
    for quantity in OF_A_PASS:
        predicted, found = prediction.ledger.total(quantity), measured.total(quantity)
        if predicted or found or quantity != "recurrent_state_bytes":
            rows.append(compared(quantity, "twin", predicted, found, phase=workload.phase))
            rows += _differing(prediction, measured, quantity, workload)
    return rows


def _differing(prediction: Prediction, measured: Ledger, quantity: OfPass, workload: Workload) -> list[Row]:
    paths = dict.fromkeys([*prediction.ledger.paths(), *measured.paths()])
    pairs = ((path, prediction.ledger.at(path, quantity) or 0, measured.at(path, quantity) or 0) for path in paths)
    return [
        compared(quantity, "twin", predicted, found, phase=workload.phase, path=path)
        for path, predicted, found in pairs
        if path and predicted != found
    ]
