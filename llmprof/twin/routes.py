"""The routing of a pass as tensors: which experts each token goes to (docs/reference-experts.md, section 1).

Axis legend: N tokens of a pass, k experts of a token, E experts.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import chain

import torch
from torch import Tensor

from llmprof.routing import Routing, choices, loads
from llmprof.twin.desk import Desk

MOST_ON_META = 1 << 22
"""How many entries of a table are made where only shapes are wanted: a second's work. Beyond it `loads` is asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """Rows `first` .. `last - 1`, in the order of experts, go to `expert`."""

    expert: int
    first: int
    last: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Routes:
    """The constants of a routing, and which of their rows each expert that has some takes."""

    chosen: Tensor
    """int64 `[N, k]`: the table."""
    order: Tensor
    """int64 `[N k]`: the tokens in the order of experts, those of one expert in their own order."""
    slots: Tensor
    """int64 `[N k]`: the entry of the flattened table that each row of `order` comes from."""
    runs: tuple[Runs, ...]


def routes(desk: Desk, n_experts: int, top_k: int) -> Routes:
    """The routing of the pass at `desk` for layers of `n_experts` experts; all such layers of the model share it."""
    tokens = desk.batch * desk.rows
    return desk.once_in_model(
        ("routes", tokens, n_experts, top_k), lambda: _make(desk, desk.workload.routing, tokens, top_k, n_experts)
    )


def _make(desk: Desk, routing: Routing, tokens: int, top_k: int, n_experts: int) -> Routes:
    shapes_alone = desk.device.type == "meta"
    if shapes_alone and tokens * top_k > MOST_ON_META:
        counts = loads(routing, tokens, top_k, n_experts)
    else:
        chosen = table(routing, tokens, top_k, n_experts)
        counts = tuple(torch.bincount(chosen.flatten(), minlength=n_experts).tolist())
    if shapes_alone:
        chosen = torch.empty(tokens, top_k, dtype=torch.int64, device="meta")
        slots = torch.empty(tokens * top_k, dtype=torch.int64, device="meta")
        order = torch.empty_like(slots)
    else:
        slots = torch.argsort(chosen.flatten(), stable=True)
        order = slots // top_k
    return Routes(
        chosen=desk.register(chosen.to(desk.device)),
        order=desk.register(order.to(desk.device)),
        slots=desk.register(slots.to(desk.device)),
        runs=tuple(sorted(runs_of(counts), key=lambda run: run.first - run.last)),
    )


def runs_of(counts: tuple[int, ...]) -> list[Runs]:
    found: list[Runs] = []
    first = 0
    for expert, count in enumerate(counts):
        if count:
            found.append(Runs(expert=expert, first=first, last=first + count))
        first += count
    return found


@lru_cache(maxsize=4)
def table(routing: Routing, tokens: int, top_k: int, n_experts: int) -> Tensor:
    """The experts of every token, int64 `[N, k]` on the CPU. Not to be written to: calls share it."""
    entries = chain.from_iterable(choices(routing, tokens, top_k, n_experts))
    return torch.tensor(list(entries), dtype=torch.int64).view(tokens, top_k)
