"""Which matrices a ``quantization_config`` leaves alone, by the rule of its method, as patterns over module paths."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase

from llmprof.importing.quantised.names import ELSEWHERE, IN_A_LAYER, ROUTERS, called, slots
from llmprof.importing.quantised.unsure import Unsure
from llmprof.spec.arch import ArchSpec, Moe

Rule = Callable[[str, str], bool]
"""Whether a pattern of the config means a module's name."""


def by_start_or_end(pattern: str, name: str) -> bool:
    """The beginning of a name up to a dot, or its end: ``should_convert_module`` of transformers 5.23.0.

    Raises Unsure where the pattern stands elsewhere in the name: AutoAWQ and older releases take that for a match too.
    """
    found = re.match(rf"(?:{_expression(pattern)})(?:(?<=\.)|(?=\.|$))", name) is not None or name.endswith(pattern)
    if not found and pattern in name:
        raise Unsure(f"whether {pattern!r} means {name!r} depends on who reads it")
    return found


def _expression(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error:
        return re.escape(pattern)
    return pattern


def by_name_or_expression(pattern: str, name: str) -> bool:
    """compressed-tensors' ``ignore``: a whole name, or ``re:`` and an expression that its beginning fits."""
    if pattern.startswith("re:"):
        try:
            return re.match(pattern[3:], name) is not None
        except re.error:
            raise Unsure(f"{pattern!r} is no regular expression") from None
    return pattern == name


def by_wildcard(pattern: str, name: str) -> bool:
    """ModelOpt's ``ignore`` and ``exclude_modules``: a name with ``*`` for any text, or a module above it."""
    return fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")


def spared(
    arch: ArchSpec,
    patterns: Sequence[str],
    rule: Rule,
    *,
    prefixes: Sequence[str],
    router_must_be: bool,
    head_must_be: bool,
) -> tuple[str, ...]:
    """The paths that the patterns spare, folded to few.

    `prefixes` are what may stand before the layers in names. `router_must_be` and `head_must_be`: the method would pack
    the matrix of a router or of the output too, so it must be among those that are spared. Raises Unsure where a
    pattern means nothing that is known, or a part of a leaf.
    """
    found = slots(arch)
    if found is None:
        raise Unsure("the names of some of its matrices in files are not known here")
    n_layers, n_experts = len(arch.main.layers), _experts(arch)
    if head_must_be and not any(rule(p, "lm_head") for p in patterns):
        raise Unsure("it does not spare lm_head, and an output matrix that is packed has no place in a spec")
    used: set[str] = set()
    kept: dict[tuple[str, int], list[str]] = {}
    of_layer: dict[tuple[str, int], list[str]] = {}
    for stack, index, leaf in found:
        names = called(stack, index, leaf, n_layers, n_experts, prefixes)
        means = [{p for p in patterns for name in some if rule(p, name)} for some in names]
        if any(means) and not all(means) and leaf != "ffn.experts":
            raise Unsure(f"it spares a part of {stack}{index}.{leaf}")
        if leaf == "ffn.experts" and any(means) and len({bool(m) for m in _known_experts(names, means)}) > 1:
            raise Unsure(f"it spares some experts of {stack}{index} alone")
        of_layer.setdefault((stack, index), []).append(leaf)
        if any(means):
            kept.setdefault((stack, index), []).append(leaf)
            used |= set().union(*means)
    routed = [(stack, i) for (stack, i), names_of in of_layer.items() if "ffn.experts" in names_of]
    for stack, index in routed:
        number = index if stack == "layers." else n_layers + index
        routers = [f"{prefix}layers.{number}.{router}" for prefix in prefixes for router in ROUTERS]
        if router_must_be and not any(rule(p, name) for p in patterns for name in routers):
            raise Unsure(f"it does not spare the router of layer {number}, whose packed form has no place in a spec")
    known = [*ELSEWHERE, *(f"{p}layers.{i}.{own}" for p in prefixes for i in range(n_layers + 1) for own in IN_A_LAYER)]
    for pattern in patterns:
        if pattern not in used and not any(rule(pattern, name) or name.startswith(pattern) for name in known):
            beyond = pattern.startswith(ELSEWHERE)
            if not beyond:
                raise Unsure(f"it spares {pattern!r}, which is no module that is known here")
    return _folded(of_layer, kept)


def _known_experts(names: list[tuple[str, ...]], means: list[set[str]]) -> list[set[str]]:
    """What is said of the matrices of experts by the names that one class uses: gate, up and down, or w1, w2 and w3."""
    own = [some[0].rpartition(".")[2] for some in names]
    first = [m for name, m in zip(own, means, strict=True) if name in ("gate_proj", "up_proj", "down_proj")]
    second = [m for name, m in zip(own, means, strict=True) if name in ("w1", "w2", "w3")]
    return first if any(first) else second


def _experts(arch: ArchSpec) -> int:
    return max((layer.ffn.n_experts for layer in arch.main.layers if isinstance(layer.ffn, Moe)), default=1)


def _folded(of_layer: dict[tuple[str, int], list[str]], kept: dict[tuple[str, int], list[str]]) -> tuple[str, ...]:
    """The spared leaves as patterns: of all layers that have one where it is spared in all of them."""
    patterns: dict[str, None] = {}
    for stack in dict.fromkeys(stack for stack, _ in of_layer):
        layers = {i: leaves for (own, i), leaves in of_layer.items() if own == stack}
        gone = {i: set(kept.get((stack, i), ())) for i in layers}
        every = list(dict.fromkeys(leaf for leaves in layers.values() for leaf in leaves))
        whole = [leaf for leaf in every if all(leaf in gone[i] for i, leaves in layers.items() if leaf in leaves)]
        for part in ("attn", "ffn"):
            of_part = [leaf for leaf in every if leaf.startswith(f"{part}.")]
            if of_part and all(leaf in whole for leaf in of_part):
                patterns[f"{stack}*.{part}.*"] = None
            else:
                patterns |= {f"{stack}*.{leaf}": None for leaf in of_part if leaf in whole}
        for i, leaves in layers.items():
            patterns |= {f"{stack}{i}.{leaf}": None for leaf in leaves if leaf in gone[i] and leaf not in whole}
    return tuple(patterns)
