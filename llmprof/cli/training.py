"""`--objective`: which training passes a command line means, what it may not say beside, and how they are reported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from llmprof.cli import options, routes
from llmprof.errors import InputError
from llmprof.lengths import default_context
from llmprof.objectives import default_objective, training_workload
from llmprof.routing import BALANCED, Routing
from llmprof.workload import STRUCTURES, Dtypes, Objective, Recompute, Workload

if TYPE_CHECKING:
    from llmprof.spec.arch import ArchSpec

WITHOUT_EFFECT = {
    "phase": "it is neither prefill nor decode",
    "new_tokens": "the objective says how many tokens go through the model; use --context for the text",
    "source_tokens": "the objective says how many tokens the encoder reads; use --context for the text",
    "logits": "the objective says which positions get logits",
    "kv_dtype": "nothing is cached",
    "group_size": "no weights are quantised",
    "latent": "nothing is cached",
    "mtp": "layers that predict further tokens run in prefill and decode",
    "seconds": "only passes of inference are timed",
    "counters": "they are read of passes of inference",
    "caches": "no counters are read",
    "device_spec": "bytes by level are those of prefill and decode",
    "sram": "it is of the forward pass of attention cores in prefill",
    "unfused_reference": "it is defined for lean-eager alone",
    "grouping": "it is defined for prefill and decode",
    "explain": "its figures are of the whole model",
}
"""Option -> why a training pass cannot heed it."""


def refuse_what_has_no_effect(given: Mapping[str, object], defaults: Mapping[str, str]) -> None:
    """InputError where one of the options `given`, by name, differs from its default and is in `WITHOUT_EFFECT`."""
    for name, why in WITHOUT_EFFECT.items():
        if given.get(name) not in (None, False, defaults.get(name)):
            raise InputError(f"--{name.replace('_', '-')} has no effect on a training pass: {why}")


def training_runs(
    archs: Sequence[ArchSpec],
    objective: str,
    *,
    batch: str,
    context: str | None,
    prefix_tokens: str | None,
    dtypes: Dtypes,
    routing: Routing = BALANCED,
    recompute: Recompute = "none",
    dropout: float = 0.0,
) -> list[tuple[ArchSpec, int, Workload]]:
    """Each architecture with every length of text and every batch, and the training pass that they mean.

    Raises InputError naming the option that is wrong, or where an architecture cannot be trained so
    (`training_workload`).
    """
    name = options.choice(objective, ("auto", *STRUCTURES), option="--objective")
    batches = options.lengths(batch, option="--batch")
    texts = None if context is None else options.lengths(context, option="--context")
    prefix = None if prefix_tokens is None else options.length(prefix_tokens, option="--prefix-tokens", least=0)
    routes.refuse_idle(routing, "absorbed", archs)
    runs: list[tuple[ArchSpec, int, Workload]] = []
    for arch in archs:
        chosen = default_objective(arch) if name == "auto" else cast(Objective, name)
        for text in texts or (default_context(arch),):
            for size in batches:
                workload = training_workload(
                    arch,
                    chosen,
                    text=text,
                    batch=size,
                    prefix_tokens=prefix,
                    dtypes=dtypes,
                    recompute=recompute,
                    dropout=dropout,
                )
                runs.append((arch, text, replace(workload, routing=routing)))
    return runs
