"""Count the parameters that each module of somebody's network owns.

Values that correct the choice of experts are no parameters here (docs/reference-experts.md, section 2). Most classes
keep them as a buffer, and ERNIE's as a parameter that never takes a gradient (transformers 5.23.0,
`models/ernie4_5_moe/modeling_ernie4_5_moe.py`, `Ernie4_5_MoeStatics`, read 2026-11-30): it is left out.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

_CORRECTION = "e_score_correction_bias"


def by_module(network: nn.Module) -> dict[str, int]:
    """Module -> the parameters that it owns itself; what modules share counts at the first of them."""
    found: dict[str, int] = {}
    for module, _, values in _owned(network):
        found[module] = found.get(module, 0) + values
    return found


def matrices(network: nn.Module) -> dict[str, int]:
    """The same of matrices alone: without biases, and without the weights of norms."""
    found: dict[str, int] = {}
    for module, parameter, values in _owned(network):
        if parameter.dim() > 1:
            found[module] = found.get(module, 0) + values
    return found


def _owned(network: nn.Module) -> Iterator[tuple[str, nn.Parameter, int]]:
    seen: set[int] = set()
    # Tables first: what is tied to a table counts there, whatever stands first.
    modules = sorted(network.named_modules(), key=lambda each: not isinstance(each[1], nn.Embedding))
    for name, module in modules:
        for own, parameter in module.named_parameters(recurse=False):
            if own.endswith(_CORRECTION) and not parameter.requires_grad:
                continue
            if id(parameter) not in seen and parameter.numel():
                seen.add(id(parameter))
                yield name, parameter, parameter.numel()
