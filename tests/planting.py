"""What the tests with planted faults share: a fault, the rows of the question that shows it, and what they must say."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, Literal

from llmprof import catalog, confirm
from llmprof.ledger import Row, Verdict
from llmprof.routing import BALANCED, Routing
from llmprof.spec.arch import ArchSpec
from llmprof.spec.slice import slice_arch, smallest_slice
from llmprof.workload import Dtypes, Execution, LatentForm, Phase
from tests.confirming import BF16, rows, workload
from tests.faults import planted


@dataclass(frozen=True)
class Fault:
    """`old` becomes `new` in `function`; a row of `quantity` whose path ends in `path` must differ in `phase`.

    `spec` is an architecture, or the name of one in the catalogue. The path "" is that of the whole model. `also` are
    further pieces of the same fault, where one piece alone would not run. Of the `tokens` of a prompt `past` stand
    before the new ones. `verdict` is what the row must get: a row that one half alone has can only stay unconfirmed.
    """

    name: str
    function: Callable[..., Any]
    old: str
    new: str
    quantity: str
    path: str
    spec: str | ArchSpec = "attention-options"
    phase: Phase = "prefill"
    tokens: int = 16
    attention: Literal["fused", "unfused"] = "unfused"
    batch: int = 1
    dtypes: Dtypes = BF16
    also: tuple[tuple[Callable[..., Any], str, str], ...] = ()
    past: int = 0
    latent: LatentForm = "absorbed"
    routing: Routing = BALANCED
    mtp: bool = False
    verdict: Verdict = Verdict.DIFFERS

    def shown_by(self, row: Row) -> bool:
        """Whether `row` is one that must differ."""
        here = row.path == "" if self.path == "" else row.path.endswith(self.path)
        return here and row.quantity == self.quantity


def found(fault: Fault) -> list[Row]:
    """Every row of the question that shows the fault."""
    arch = fault.spec
    if isinstance(arch, str):
        (arch,) = catalog.resolve([arch])
    small = slice_arch(arch, smallest_slice(arch)).arch
    work = workload(small, fault.phase, batch=fault.batch, tokens=fault.tokens, dtypes=fault.dtypes)
    work = replace(
        work,
        new_tokens=work.new_tokens - fault.past,
        latent=fault.latent,
        routing=fault.routing,
        mtp=fault.mtp,
    )
    forget()
    return rows(small, work, Execution(attention=fault.attention))


def forget() -> None:
    """Empty what the prediction remembers from one question to the next: it would hide a fault, or keep one."""
    for name, module in list(sys.modules.items()):
        if name.startswith("llmprof.predict."):
            for member in vars(module).values():
                if hasattr(member, "cache_clear"):
                    member.cache_clear()


def check(fault: Fault) -> list[Row]:
    """The rows that differ with the fault in place: there is one where it must be, and there is none without it."""
    assert confirm.outcome(found(fault)) == "confirmed", "without the fault the rows must be clean"
    with ExitStack() as pieces:
        for function, old, new in ((fault.function, fault.old, fault.new), *fault.also):
            pieces.enter_context(planted(function, old, new))
        spoiled = found(fault)
    forget()
    assert confirm.outcome(spoiled) == ("failed" if fault.verdict is Verdict.DIFFERS else "unconfirmed")
    differing = [row for row in spoiled if row.verdict is fault.verdict]
    assert any(fault.shown_by(row) for row in differing), [f"{row.path} {row.quantity}" for row in differing]
    return differing


def planted_for(fault: Fault) -> Iterator[type]:
    """What the layers of the model that a fault is planted in are made of, as classes of the language, each once."""
    assert isinstance(fault.spec, ArchSpec)
    layers = [layer for stack in fault.spec.stacks for layer in stack.layers]
    parts = (part for layer in layers for part in (layer.attention, layer.mixer, layer.ffn, layer.position))
    yield from dict.fromkeys(type(part) for part in parts if part is not None)
