"""Which degrees fit an architecture and a workload (docs/reference-sharding.md): others are refused, with a reason."""

from __future__ import annotations

from collections.abc import Iterable

from llmprof.errors import InputError
from llmprof.sharding_rules import Facts, facts
from llmprof.spec.arch import ArchSpec, GatedDeltaNet, Mamba2
from llmprof.workload import QUANTISED, Dtypes, Workload

LISTED = 1024
"""The largest degree that a message lists: a batch may have more divisors than anybody reads."""


def tensor_parallel_degrees(
    arch: ArchSpec, *, expert_parallel: int = 1, dtypes: Dtypes | None = None
) -> tuple[int, ...]:
    """The degrees that fit every layer of `arch`, an architecture that the page has rules for.

    `expert_parallel` of the ranks share the experts of each layer; those alone are listed that it divides. `dtypes`:
    those that the parts of packed matrices allow.
    """
    known = facts(arch)
    if known.indivisible is not None:
        return (1,) if expert_parallel == 1 else ()
    heads = [spec.n_heads for spec in (*known.grouped, *known.recurrent)] + list(known.latent_heads)
    most = min(heads or known.widths or known.expert_widths, default=1)
    return tuple(
        n
        for n in range(expert_parallel, most + 1, expert_parallel)
        if tensor_misfit(arch, n, columns=n // expert_parallel, dtypes=dtypes) is None
    )


def tensor_misfit(arch: ArchSpec, n: int, *, columns: int, dtypes: Dtypes | None = None) -> str | None:
    """Why n ranks cannot share the layers of `arch`, `columns` of them those of one expert; None where they can."""
    known = facts(arch)
    for gqa in known.grouped:
        if gqa.n_heads % n:
            return f"it does not divide n_heads ({gqa.n_heads})"
        if gqa.n_kv_heads % n and n % gqa.n_kv_heads:
            return f"it neither divides n_kv_heads ({gqa.n_kv_heads}) nor is a multiple of them"
        if n > 1 and gqa.qk_norm is not None and gqa.qk_norm_over == "all-heads":
            return "it divides the heads that one norm of queries or keys runs over (all-heads), in layers"
    for n_heads in known.latent_heads:
        if n_heads % n:
            return f"it does not divide n_heads ({n_heads})"
    for spec in known.recurrent:
        for name, number in _heads(spec):
            if number % n:
                return f"it does not divide {name} ({number}) of {spec.kind} in layers"
    for d_ff in known.widths:
        if d_ff % n:
            return f"it does not divide d_ff ({d_ff})"
    for d_ff in known.expert_widths:
        if d_ff % columns:
            each = "it does" if columns == n else f"the {columns} ranks that share each expert do"
            return f"{each} not divide the d_ff of an expert ({d_ff})"
    if dtypes is not None and dtypes.weights == "int4":
        return _split_groups(known, n, columns, dtypes.group_size)
    return None


def _heads(spec: GatedDeltaNet | Mamba2) -> tuple[tuple[str, int], ...]:
    """What of a mixer ranks share, by its name in the language."""
    if isinstance(spec, Mamba2):
        return ("n_heads", spec.n_heads), ("n_groups", spec.n_groups), ("norm_groups", spec.norm_groups)
    return ("n_heads", spec.n_heads), ("n_key_heads", spec.n_key_heads)


def _split_groups(known: Facts, n: int, columns: int, group_size: int) -> str | None:
    """Where a part of the inputs of an int4 matrix would be no whole number of groups, or of bytes."""
    for widths, ranks in ((known.row_widths, n), (known.expert_widths, columns)):
        for width in widths if ranks > 1 else ():
            if width // ranks % group_size or width // ranks % 2:
                return (
                    f"the {width // ranks} inputs that a rank has of {width} are no whole number of int4 groups of "
                    f"{group_size}"
                )
    return None


def expert_misfit(arch: ArchSpec, x: int, *, tensor: int, data: int) -> str | None:
    """Why x > 1 of the ranks cannot share the experts of `arch`, `tensor` of them in each of `data` replicas."""
    known = facts(arch)
    if not known.n_experts:
        return f"{arch.label} has no experts"
    if tensor % x and not (data > 1 and x == tensor * data):
        others = f", nor all ranks of {data} replicas ({tensor * data})" if data > 1 else ", whose ranks share experts"
        return f"it is no divisor of tensor_parallel ({tensor}){others}"
    for number in known.n_experts:
        if number % x:
            return f"it does not divide n_experts ({number}) of {arch.label}"
    for d_ff in known.expert_widths if tensor % x == 0 else ():
        if d_ff % (tensor // x):
            return f"the {tensor // x} ranks that share each expert do not divide d_ff ({d_ff}) of {arch.label}"
    return None


def check_context_parallel(arch: ArchSpec, workload: Workload, c: int) -> None:
    """Raise InputError where c > 1 ranks cannot share the tokens of a sequence."""
    w, known = workload, facts(arch)
    without = f"context_parallel is {c}, but"
    if w.phase != "prefill" or w.new_tokens != w.context:
        what = "the phase is decode" if w.phase == "decode" else f"{w.context - w.new_tokens} tokens came before"
        raise InputError(f"{without} {what}: ranks share the tokens of a fresh prompt alone; leave it at 1")
    if w.new_tokens % (2 * c):
        works = list_of(
            n for n in range(1, min(w.new_tokens // 2, LISTED) + 1) if n == 1 or w.new_tokens % (2 * n) == 0
        )
        raise InputError(
            f"{without} {2 * c} chunks, two for each rank, do not divide the {w.new_tokens} new tokens; use one of: "
            f"{works}"
        )
    if known.latent_heads:
        raise InputError(
            f"{without} {arch.label} has attention of kind mla, for which rings have no rule; leave it at 1"
        )
    if known.recurrent:
        kind = known.recurrent[0].kind
        raise InputError(
            f"{without} {arch.label} has attention of kind {kind}, for which rings have no rule; leave it at 1"
        )
    if known.alibi:
        raise InputError(
            f"{without} {arch.label} has positions of kind alibi, for which rings have no rule; leave it at 1"
        )
    if w.dtypes.kv_cache in QUANTISED:
        raise InputError(
            f"{without} the cache is packed ({w.dtypes.kv_cache}), and no kernel of a ring makes the blocks that are "
            "sent of such a one; use a float cache, or leave it at 1"
        )
    multiple = 4 if w.dtypes.activations in ("fp32", "tf32") else 8
    for gqa in known.grouped:
        if gqa.sinks:
            raise InputError(f"{without} {arch.label} has sinks, which no rule of a ring is about; leave it at 1")
        if gqa.softcap is not None:
            raise InputError(f"{without} {arch.label} caps its scores (softcap), which no kernel of a ring does")
        for name, reach in (("window", gqa.window), ("chunk", gqa.chunk)):
            if reach is not None and reach < w.context:
                raise InputError(
                    f"{without} {arch.label} has a {name} of {reach}, shorter than the {w.context} tokens, for which "
                    "rings have no rule; leave it at 1"
                )
        if gqa.head_dim % multiple:
            raise InputError(
                f"{without} no fused kernel takes a head_dim of {gqa.head_dim} in {w.dtypes.activations}, which is no "
                f"multiple of {multiple}; leave it at 1"
            )


def check_divides(name: str, degree: int, whole: int, what: str) -> None:
    """Raise InputError where `degree` does not divide `whole`, which is called `what`."""
    if whole % degree:
        works = list_of(n for n in range(1, min(whole, LISTED) + 1) if whole % n == 0)
        more = ", or a larger divisor" if whole > LISTED else ""
        raise InputError(f"{name} is {degree}, which does not divide {what}; use one of: {works}{more}")


def list_of(degrees: Iterable[int]) -> str:
    """``1, 2, 4``."""
    return ", ".join(map(str, degrees))
