"""transformers' own class of the config, on meta, as a witness; its known errors are explained, not tolerated."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from llmprof.conformance import known
from llmprof.conformance.known import Case
from llmprof.conformance.matching import Matching, match
from llmprof.conformance.rows import Quantity, Result, Row, Witness, compared, unmeasured
from llmprof.conformance.twin import TABLES, UNFUSED
from llmprof.predict.api import predict
from llmprof.predict.parameters import parameters
from llmprof.spec.arch import ArchSpec
from llmprof.workload import Workload

if TYPE_CHECKING:
    from torch import nn

    from llmprof.measure.hf.passes import Counted, Passes

INSTALL = "transformers is not installed; pip install 'llmprof[hf]'"
NO_CONFIG = "no config.json of it is known; give one with --config FILE"
NOT_MATCHED = "(not matched by name)"


def reason_against() -> str | None:
    """Why transformers cannot testify at all, or None."""
    return None if importlib.util.find_spec("transformers") is not None else INSTALL


def add_unmeasured(result: Result, workloads: Sequence[Workload], reason: str) -> None:
    """Say for every total why transformers has none."""
    count = parameters(result.arch)
    result.rows.append(unmeasured("params_total", "transformers", reason, predicted=count.total))
    result.rows.append(unmeasured("params_embedding", "transformers", reason, predicted=count.embedding))
    result.rows += passes_unmeasured(result.arch, workloads, "transformers", reason)


def add_rows(result: Result, workloads: Sequence[Workload], config: Mapping[str, Any]) -> None:
    """Build the class of `config`, run it, and add what it says of `result`'s architecture."""
    from llmprof.measure.hf.model import CannotTestify, build, head_of
    from llmprof.measure.hf.passes import run

    arch = result.arch
    try:
        model = build(config, head_of(arch))
    except CannotTestify as error:
        add_unmeasured(result, workloads, str(error))
        return
    case = Case(arch=arch, workload=workloads[0], config=model.config.to_dict())
    rows = parameter_rows(arch, model.network, "transformers", result.matched)
    result.rows += [explained_row(row, case) for row in rows]
    result.ran["transformers"] = f"{model.name}, {arch.n_layers} layers{_of_another_release()}"
    prompt = workloads[0]
    try:
        passes = run(
            model,
            tokens=prompt.new_tokens,
            source=prompt.source_tokens,
            batch=prompt.batch,
            cached=arch.structure != "encoder",
        )
    except CannotTestify as error:
        result.rows += passes_unmeasured(arch, workloads, "transformers", str(error))
        return
    result.rows += [
        explained_row(row, replace(case, workload=workload))
        for workload in workloads
        for row in _pass_rows(arch, workload, passes)
    ]


def _of_another_release() -> str:
    """A remark where the library is not the one whose errors are known."""
    from importlib import metadata

    release = metadata.version("transformers")
    return "" if release == known.READ_IN else f" (release {release}; its known errors were read in {known.READ_IN})"


def parameter_rows(arch: ArchSpec, network: nn.Module, witness: Witness, matched: dict[str, str]) -> list[Row]:
    """Parameters in total, of tables, and of each module that differs; `matched` is told how many were held."""
    from llmprof.measure.hf.params import by_module, matrices

    count = parameters(arch)
    theirs = by_module(network)
    ours = {path: values for path, values in count.by_path.items() if values}
    found = match(ours, theirs, [stack.prefix for stack in arch.stacks])
    rows = [compared("params_total", witness, count.total, sum(theirs.values()))]
    tables = _tables(found, theirs, matrices(network))
    if tables is None:
        reason = "none of its modules is named like a token table"
        rows.append(unmeasured("params_embedding", witness, reason, predicted=count.embedding))
    else:
        rows.append(compared("params_embedding", witness, count.embedding, tables))
    rows += [
        compared("params", witness, group.ours, group.theirs, path=_both(group.paths), note=_both(group.modules))
        for group in found.groups
        if group.ours != group.theirs
    ]
    left_ours, left_theirs = sum(found.our_rest.values()), sum(found.their_rest.values())
    matched[witness] = f"{found.n_modules} of {len(theirs)} modules"
    if left_ours != left_theirs:
        path = next(iter(found.our_rest)) if len(found.our_rest) == 1 and not left_theirs else NOT_MATCHED
        rows.append(compared("params", witness, left_ours, left_theirs, path=path, note=_left(found)))
    return rows


def _tables(found: Matching, theirs: Mapping[str, int], matrices: Mapping[str, int]) -> int | None:
    """Their values in tables; None where no token table was found."""
    total, seen = 0, False
    for group in found.groups:
        lasts = {path.rpartition(".")[2] for path in group.paths}
        if lasts <= set(TABLES):
            seen |= "embed" in lasts
            total += sum(theirs[module] for module in group.modules)
        elif lasts == {"lm_head"}:
            total += sum(matrices.get(module, 0) for module in group.modules)
    return total if seen else None


def _pass_rows(arch: ArchSpec, workload: Workload, passes: Passes) -> list[Row]:
    prediction = predict(arch, workload, UNFUSED)
    counted = passes.prefill if workload.phase == "prefill" else passes.decode
    if counted is None:
        return passes_unmeasured(arch, [workload], "transformers", "its class keeps no cache, and makes no step")
    rows = [flops_row("transformers", prediction.cost.matmul_flops, counted, workload.phase)]
    if workload.phase == "prefill" and arch.structure != "encoder" and passes.kept is None:
        reason = "its class keeps no cache"
        rows.append(
            unmeasured("kv_cache_bytes", "transformers", reason, predicted=prediction.kv_cache_bytes, phase="prefill")
        )
    elif workload.phase == "prefill" and passes.kept is not None:
        kept, states = passes.kept, prediction.recurrent_state_bytes
        rows.append(
            compared("kv_cache_bytes", "transformers", prediction.kv_cache_bytes, kept.kv_bytes, phase="prefill")
        )
        if states or kept.state_bytes:
            rows.append(compared("recurrent_state_bytes", "transformers", states, kept.state_bytes, phase="prefill"))
    return rows


def flops_row(witness: Witness, predicted: int, counted: Counted, phase: str) -> Row:
    """FLOPs under torch's counter; no count where ops ran that it has no formula for."""
    if counted.missing:
        reason = f"FlopCounterMode has no formula for {', '.join(counted.missing)}"
        return unmeasured("matmul_flops", witness, reason, predicted=predicted, phase=phase)
    return compared("matmul_flops", witness, predicted, counted.flops, phase=phase)


def passes_unmeasured(arch: ArchSpec, workloads: Sequence[Workload], witness: Witness, reason: str) -> list[Row]:
    """Every figure of the passes, FLOPs of the prompt first, with the reason why a witness has none."""
    rows = []
    for workload in workloads:
        prediction = predict(arch, workload, UNFUSED)
        figures: list[tuple[Quantity, int]] = [("matmul_flops", prediction.cost.matmul_flops)]
        if workload.phase == "prefill" and arch.structure != "encoder":
            figures.append(("kv_cache_bytes", prediction.kv_cache_bytes))
        rows += [unmeasured(q, witness, reason, predicted=value, phase=workload.phase) for q, value in figures]
    return rows


def explained_row(row: Row, case: Case) -> Row:
    """The row, with the verdict EXPLAINED where known errors of the class make its difference exactly."""
    if row.verdict != "DIFFERS" or row.predicted is None or row.found is None:
        return row
    quantity: Quantity = "params_total" if row.quantity in ("params", "params_embedding") else row.quantity
    keys = known.explained(quantity, case, row.found - row.predicted, path=row.path)
    return replace(row, verdict="EXPLAINED", explanations=keys) if keys else row


def _both(names: Sequence[str]) -> str:
    return " + ".join(names)


def _left(found: Matching) -> str:
    """What was not matched, in words."""
    parts = [f"ours: {', '.join(list(found.our_rest)[:4])}" if found.our_rest else ""]
    parts.append(f"theirs: {', '.join(list(found.their_rest)[:4])}" if found.their_rest else "")
    return "; ".join(part for part in parts if part)
