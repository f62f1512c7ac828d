"""A user's own nn.Module, built on meta and run there, as a witness of the architecture that it should be."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llmprof.conformance import foreign
from llmprof.conformance.known import Case
from llmprof.conformance.rows import Result, Row, compared, unmeasured
from llmprof.conformance.transformers import explained_row, flops_row, parameter_rows, passes_unmeasured
from llmprof.conformance.twin import UNFUSED
from llmprof.errors import InputError
from llmprof.predict.api import predict
from llmprof.workload import Workload

if TYPE_CHECKING:
    from torch import nn

CACHES = ("past_key_values", "cache_params", "state")
"""Names of a cache among outputs and arguments, as the classes of transformers have them."""


def add_rows(result: Result, workloads: Sequence[Workload], factory: Callable[[], object]) -> None:
    """Call `factory` under the meta device, run what it makes, in bf16, and add what that says.

    Raises InputError where the factory fails or makes no nn.Module. A forward pass that fails leaves its figures
    unmeasured, and a message in `result.errors`.
    """
    import torch

    def make() -> object:
        with torch.device("meta"):
            return factory()

    network = foreign.guarded("--module: the factory failed", make)
    if not isinstance(network, torch.nn.Module):
        raise InputError(f"--module: the factory made a {type(network).__name__}; expected an nn.Module")
    lazy = next((name for name, p in _parameters_of(network) if torch.nn.parameter.is_lazy(p)), None)
    if lazy is not None:
        raise InputError(
            f"--module: the parameter {lazy} has no shape before a first pass (torch.nn.LazyLinear and the like); "
            "make it with its sizes"
        )
    stray = next((name for name, p in _parameters_of(network) if p.device.type != "meta"), None)
    if stray is not None:
        raise InputError(
            f"--module: the parameter {stray} is not on meta, although the factory was called under "
            "torch.device('meta'); make it without a device of its own"
        )
    network = network.to(torch.bfloat16).eval()
    result.ran["module"] = type(network).__name__
    rows = parameter_rows(result.arch, network, "module", result.matched)
    rows += _of_passes(result, workloads, network)
    result.rows += [_explained(row, result, workloads, network) for row in rows]


def _parameters_of(network: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """The parameters, whose listing a module may have changed. Raises InputError where that fails."""
    return foreign.guarded("--module: its parameters cannot be listed", lambda: list(network.named_parameters()))


def _of_passes(result: Result, workloads: Sequence[Workload], network: nn.Module) -> list[Row]:
    import torch

    from llmprof.measure.hf.kept import kept_by
    from llmprof.measure.hf.passes import counted

    arch, prompt = result.arch, workloads[0]
    prediction = predict(arch, prompt, UNFUSED)
    takes = _parameters(network)
    ids = torch.zeros(prompt.batch, prompt.new_tokens, dtype=torch.long, device="meta")
    if arch.encoder is not None:
        reason = "a module of two stacks is held to its parameters alone"
        return passes_unmeasured(arch, workloads, "module", reason)
    options: dict[str, Any] = {"use_cache": True} if "use_cache" in takes and len(workloads) > 1 else {}
    try:
        found = foreign.guarded("its forward pass failed", lambda: counted(network, lambda: network(ids, **options)))
    except InputError as error:
        result.errors.append(f"--module: {error}")
        return passes_unmeasured(arch, workloads, "module", str(error))
    rows = [flops_row("module", prediction.cost.matmul_flops, found, "prefill")]
    if len(workloads) == 1:
        return rows
    name, cache = _cache(found.output)
    if cache is None:
        reason = "what it returns holds no cache: no past_key_values, and no tuple of tensors"
        return rows + passes_unmeasured(arch, workloads, "module", reason)[1:]
    kept = foreign.guarded("--module: its cache cannot be read", lambda: kept_by(cache, network, name=name))
    rows.append(compared("kv_cache_bytes", "module", prediction.kv_cache_bytes, kept.kv_bytes, phase="prefill"))
    states = prediction.recurrent_state_bytes
    if states or kept.state_bytes:
        rows.append(compared("recurrent_state_bytes", "module", states, kept.state_bytes, phase="prefill"))
    return [*rows, _step(result, workloads[1], network, name if name in takes else None, cache)]


def _step(result: Result, workload: Workload, network: nn.Module, name: str | None, cache: object) -> Row:
    """A step after the prompt, where the module takes its own cache back."""
    import torch

    from llmprof.measure.hf.passes import counted

    flops = predict(result.arch, workload, UNFUSED).cost.matmul_flops
    if name is None:
        reason = f"its forward takes no {CACHES[0]}"
        return unmeasured("matmul_flops", "module", reason, predicted=flops, phase="decode")
    step = torch.zeros(workload.batch, 1, dtype=torch.long, device="meta")
    options: dict[str, Any] = {name: cache, **({"use_cache": True} if "use_cache" in _parameters(network) else {})}
    try:
        found = foreign.guarded(
            "a step after the prompt failed", lambda: counted(network, lambda: network(step, **options))
        )
    except InputError as error:
        result.errors.append(f"--module: {error}")
        return unmeasured("matmul_flops", "module", str(error), predicted=flops, phase="decode")
    return flops_row("module", flops, found, "decode")


def _cache(output: Any) -> tuple[str, object | None]:
    """What a forward pass returned as a cache, and its name: an attribute, a key, or a nest of tensors in a tuple."""
    for name in CACHES:
        found = output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)
        if found is not None:
            return name, found
    if isinstance(output, tuple | list):
        nest = next((each for each in output[1:] if isinstance(each, tuple | list) and each), None)
        return CACHES[0], nest
    return "", None


def _parameters(network: nn.Module) -> frozenset[str]:
    """The names of what forward takes."""
    try:
        return frozenset(inspect.signature(network.forward).parameters)
    except (TypeError, ValueError):
        return frozenset()


def _explained(row: Row, result: Result, workloads: Sequence[Workload], network: nn.Module) -> Row:
    """Where the module is a class of transformers, its known errors count; a user's own has none."""
    if not type(network).__module__.startswith("transformers.models."):
        return row
    config: Any = getattr(network, "config", None)
    values = {} if config is None else config.to_dict()
    workload = next((w for w in workloads if w.phase == row.phase), workloads[0])
    return explained_row(row, Case(arch=result.arch, workload=workload, config=values))
