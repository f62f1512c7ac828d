"""Which files an engine is asked to load, and whether it packs the weights itself while it loads them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from llmprof.planning.deploy.line import MODEL
from llmprof.spec.arch import ArchSpec
from llmprof.spec.release import Awq, Fp8, Fp8Blocks, Gptq, Integers, Packing
from llmprof.workload import QUANTISED, Dtypes

REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
"""``organisation/name``, as the Hugging Face Hub has it."""

MADE_BEFOREHAND = {
    "fp8": "compressed-tensors or ModelOpt FP8",
    "int8": "compressed-tensors or GPTQ, weights in 8 bits, 16-bit activations",
    "int4": "AWQ, GPTQ or compressed-tensors, weights in 4 bits, 16-bit activations",
}
"""What makes a checkpoint of a packed dtype, where an engine does not while it loads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """The argument that names the files, whether the engine has to pack what they hold, and what to say of them."""

    model: str
    packed_online: bool
    notes: tuple[str, ...]


def files_of(arch: ArchSpec, dtypes: Dtypes, *, online: frozenset[str]) -> Files:
    """The files for `arch` with weights of `dtypes`; `online` are the dtypes that the engine packs weights into."""
    names = [alias for alias in arch.aliases if REPOSITORY.fullmatch(alias)]
    packing = arch.release.packing if arch.release is not None else None
    wanted = dtypes.weights
    if packing is None and (wanted not in QUANTISED or wanted in online):
        return _released(arch, names, packed_online=wanted in QUANTISED)
    if packing is not None and _holds(packing, dtypes):
        found = _released(arch, names, packed_online=False)
        said = f"the files hold {packing.kind}, which the engine reads from their config; {_beside(packing)}"
        return Files(model=found.model, packed_online=False, notes=(*found.notes, said))
    kept = f"the files of {names[0] if names else arch.label} hold {packing.kind}; " if packing is not None else ""
    if wanted in QUANTISED:
        group = f", groups of {dtypes.group_size}" if wanted == "int4" else ""
        made = f"weights in {wanted} are made beforehand ({MADE_BEFOREHAND[wanted]}{group})"
    else:
        made = f"weights in {wanted} are another checkpoint"
    whose = f" of {names[0]}" if names else f" of {arch.label}"
    return Files(
        model=MODEL,
        packed_online=False,
        notes=(f"{kept}{made}: put the path of such a checkpoint{whose} in place of {MODEL}",),
    )


def _released(arch: ArchSpec, names: list[str], *, packed_online: bool) -> Files:
    if not names:
        why = (
            f"{arch.label} names no repository of weights"
            if arch.variant is None
            else f"{arch.label} is a variant, whose weights nobody is known to have published"
        )
        return Files(
            model=MODEL,
            packed_online=packed_online,
            notes=(f"{why}: put a repository or the path of a checkpoint in place of {MODEL}",),
        )
    others = f"the same shape is published as {', '.join(names[1:4])} too" if names[1:] else None
    return Files(model=names[0], packed_online=packed_online, notes=(others,) if others else ())


def _holds(packing: Packing, dtypes: Dtypes) -> bool:
    """Whether files packed so hold weights of the dtype that is planned."""
    match dtypes.weights, packing:
        case "fp8", Fp8() | Fp8Blocks():
            return True
        case "int8", Gptq(bits=8) | Integers(bits=8):
            return True
        case "int4", Awq(group=group):
            return group == dtypes.group_size
        case "int4", Gptq(bits=4, group=group) | Integers(bits=4, group=group):
            return group == dtypes.group_size
    return False


def _beside(packing: Packing) -> str:
    if isinstance(packing, Fp8Blocks):
        return f"their scales are of {packing.rows} x {packing.columns} values, where a plan counts one per matrix"
    return "their scales may be larger than those that a plan counts (docs/stored-weights.md)"
