"""The routing of a pass as the tensors of one rank (docs/reference-sharding.md, section 9).

Axis legend: N tokens that a rank has, k experts of a token, E experts, G rows that go to a rank's own experts.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from llmprof.routing import loads
from llmprof.twin.desk import Desk
from llmprof.twin.routes import MOST_ON_META, Routes, Runs, runs_of, table


def own_routes(desk: Desk, n_experts: int, top_k: int, *, block: int, blocks: int) -> Routes:
    """Those of a rank with one block of the experts, which has all tokens: `order` and `slots` are `[G]`."""
    tokens = desk.batch * desk.rows
    return desk.once_in_model(
        ("routes", tokens, n_experts, top_k), lambda: _own(desk, tokens, top_k, n_experts, block, blocks)
    )


def _own(desk: Desk, tokens: int, top_k: int, n_experts: int, block: int, blocks: int) -> Routes:
    each = n_experts // blocks
    if _shapes_alone(desk, tokens * top_k):
        counts = loads(desk.workload.routing, tokens, top_k, n_experts)
    else:
        chosen = table(desk.workload.routing, tokens, top_k, n_experts)
        counts = tuple(torch.bincount(chosen.flatten(), minlength=n_experts).tolist())
    first, last = sum(counts[: block * each]), sum(counts[: (block + 1) * each])
    if desk.device.type == "meta":
        chosen = torch.empty(tokens, top_k, dtype=torch.int64, device="meta")
        slots = torch.empty(last - first, dtype=torch.int64, device="meta")
        order = torch.empty_like(slots)
    else:
        slots = torch.argsort(chosen.flatten(), stable=True)[first:last].clone()
        order = slots // top_k
    return Routes(
        chosen=desk.register(chosen.to(desk.device)),
        order=desk.register(order.to(desk.device)),
        slots=desk.register(slots.to(desk.device)),
        runs=_most_first(counts[block * each : (block + 1) * each]),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SentRoutes:
    """The constants of a routing between ranks, and who sends how many rows to whom."""

    chosen: Tensor
    """int64 `[N, k]`: the rank's own rows of the table."""
    order: Tensor
    """int64 `[N k]`: its tokens in the order of experts, those of one expert in their own order."""
    slots: Tensor
    """int64 `[N k]`: the entry of the flattened `chosen` that each row of `order` comes from."""
    arrived: Tensor
    """int64 `[G]`: the rows that come, by rank and then by expert, in the order of experts."""
    runs: tuple[Runs, ...]
    """Of the rank's own experts, over `arrived`."""
    sent: tuple[int, ...]
    """Rows that go to each rank."""
    received: tuple[int, ...]
    """Rows that come from each rank."""


def sent_routes(desk: Desk, n_experts: int, top_k: int, *, rank: int, ranks: int, parts: int) -> SentRoutes:
    """Those of rank `rank` of `ranks`, which have as many tokens each; `parts` of them share those of a sequence."""
    tokens = desk.batch * desk.rows
    return desk.once_in_model(
        ("routes", tokens, n_experts, top_k), lambda: _sent(desk, top_k, n_experts, rank, ranks, parts)
    )


def _sent(desk: Desk, top_k: int, n_experts: int, rank: int, ranks: int, parts: int) -> SentRoutes:
    own = desk.batch * desk.rows // parts
    tokens, each = own * ranks, n_experts // ranks
    first = rank * each
    if _shapes_alone(desk, tokens * top_k):
        counts = loads(desk.workload.routing, tokens, top_k, n_experts)[first : first + each]
        # Which rows come from where is of no consequence to shapes.
        nobody = (0,) * (ranks - 1)
        sent, received = (own * top_k, *nobody), (sum(counts), *nobody)
    else:
        by_rank = _by_rank(desk, table(desk.workload.routing, tokens, top_k, n_experts), ranks, parts)
        per_expert = torch.stack([torch.bincount(rows, minlength=n_experts) for rows in by_rank.flatten(1)])
        counts = tuple(per_expert[:, first : first + each].sum(0).tolist())
        sent = tuple(per_expert[rank].view(ranks, each).sum(1).tolist())
        received = tuple(per_expert[:, first : first + each].sum(1).tolist())
    if desk.device.type == "meta":
        chosen = torch.empty(own, top_k, dtype=torch.int64, device="meta")
        slots = torch.empty(own * top_k, dtype=torch.int64, device="meta")
        order = torch.empty_like(slots)
        arrived = torch.empty(sum(counts), dtype=torch.int64, device="meta")
    else:
        chosen = by_rank[rank]
        slots = torch.argsort(chosen.flatten(), stable=True)
        order = slots // top_k
        come = [rows.sort().values for rows in by_rank.flatten(1)]
        here = [rows[(rows >= first) & (rows < first + each)] for rows in come]
        arrived = torch.argsort(torch.cat(here), stable=True)
    return SentRoutes(
        chosen=desk.register(chosen.to(desk.device)),
        order=desk.register(order.to(desk.device)),
        slots=desk.register(slots.to(desk.device)),
        arrived=desk.register(arrived.to(desk.device)),
        runs=_most_first(counts),
        sent=sent,
        received=received,
    )


def _by_rank(desk: Desk, chosen: Tensor, ranks: int, parts: int) -> Tensor:
    """The table `[ranks N, k]` of all sequences as `[ranks, N, k]`: replica after replica, of each part after part."""
    replicas, top_k = ranks // parts, chosen.shape[1]
    split = chosen.view(replicas, desk.batch, parts, desk.rows // parts, top_k)
    return split.transpose(1, 2).reshape(ranks, -1, top_k)


def _most_first(counts: tuple[int, ...]) -> tuple[Runs, ...]:
    """The runs of experts with so many rows, those with most rows first and equal ones in their order."""
    return tuple(sorted(runs_of(counts), key=lambda run: run.first - run.last))


def _shapes_alone(desk: Desk, entries: int) -> bool:
    return desk.device.type == "meta" and entries > MOST_ON_META
