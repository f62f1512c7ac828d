"""One CTA of a forward kernel: a tile of query rows walks over key tiles with an online softmax."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from llmprof.measure.tiles.memory import Load, Machine
from llmprof.measure.tiles.problem import Tile


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How a kernel is compiled: its tile, and the widths of key and value rows in shared memory.

    `readers` are the warps or warpgroups that read each tile of keys and values, `stages` the tiles of each that shared
    memory holds. `scores_in_shared` where the weights pass through it on their way to the second product;
    `output_bytes` are those of an element of the outputs as they leave.
    """

    tile: Tile
    key_width: int
    value_width: int
    readers: int
    output_bytes: int
    stages: int = 1
    scores_in_shared: bool = False


@dataclass(frozen=True, slots=True)
class Finished:
    """The rows of a CTA that has visited its key tiles: outputs, and the log of the sum of exponentials.

    A row that saw nothing has zeros and -inf.
    """

    outputs: Tensor
    log_sum: Tensor

    @staticmethod
    def unseen(rows: tuple[int, int], width: int) -> Finished:
        """The rows of a CTA that visits nothing."""
        count = rows[1] - rows[0]
        return Finished(
            torch.zeros(count, width, dtype=torch.float64), torch.full((count, 1), -torch.inf, dtype=torch.float64)
        )


def walk(
    machine: Machine,
    form: Form,
    rows: tuple[int, int],
    tiles: Sequence[int],
    load: tuple[Load, Load, Load],
    scale: float,
    visible: Tensor | None,
) -> Finished | None:
    """Visit the key `tiles`, the last first as the kernels do; None in a walk that only counts.

    `load` loads queries, keys and values; `visible` is [rows of the CTA, keys], None where only sizes are walked.
    """
    block, span = form.tile.rows, form.tile.keys
    load_queries, load_keys, load_values = load
    shared, cores = machine.shared, machine.cores
    query_buffer = shared.buffer(block, form.key_width)
    key_buffers = [shared.buffer(span, form.key_width) for _ in range(form.stages)]
    value_buffers = [shared.buffer(span, form.value_width) for _ in range(form.stages)]
    weight_buffer = shared.buffer(block, span) if form.scores_in_shared else None
    query_buffer.write(load_queries(*rows))
    softmax = None if visible is None else _Online(block, form.value_width)
    for step, tile in enumerate(reversed(tiles)):
        machine.visited_tiles += 1
        start, stop = tile * span, (tile + 1) * span
        keys, values = key_buffers[step % form.stages], value_buffers[step % form.stages]
        keys.write(load_keys(start, stop))
        values.write(load_values(start, stop))
        columns = keys.read(form.readers)
        scores = cores.product(block, form.key_width, span, query_buffer.read(), None if columns is None else columns.T)
        weights = None
        if softmax is not None and scores is not None and visible is not None:
            weights = softmax.rescale(scores * scale, visible[:, start:stop])
        if weight_buffer is not None:
            weight_buffer.write(weights)
            weights = weight_buffer.read()
        added = cores.product(block, span, form.value_width, weights, values.read(form.readers))
        if softmax is not None and added is not None:
            softmax.outputs += added
    shared.release(query_buffer, *key_buffers, *value_buffers, *([] if weight_buffer is None else [weight_buffer]))
    done = None if softmax is None else softmax.finish(rows[1] - rows[0])
    return _through_shared(machine, form, done)


def _through_shared(machine: Machine, form: Form, done: Finished | None) -> Finished | None:
    """The outputs pass through shared memory, where the operands were, and are read back in rows; ValueError where
    they do not fit there: no kernel is compiled with such a tile."""
    shared = machine.shared
    room = shared.footprint
    buffer = shared.buffer(form.tile.rows, form.value_width, form.output_bytes)
    if shared.footprint > room:
        raise ValueError(f"outputs of {buffer.size} bytes do not fit where the operands of {form.tile} were")
    buffer.write(None if done is None else done.outputs)
    outputs = buffer.read()
    shared.release(buffer)
    return None if done is None or outputs is None else Finished(outputs[: len(done.log_sum)], done.log_sum)


class _Online:
    """The running maximum and sum of each row, and its outputs, which are rescaled where the maximum rises."""

    def __init__(self, rows: int, width: int) -> None:
        self.maximum = torch.full((rows, 1), -torch.inf, dtype=torch.float64)
        self.total = torch.zeros(rows, 1, dtype=torch.float64)
        self.outputs = torch.zeros(rows, width, dtype=torch.float64)

    def rescale(self, scores: Tensor, visible: Tensor) -> Tensor:
        """The weights of one tile of `scores`, relative to the new maxima; entries that are not `visible` weigh 0."""
        hidden = torch.ones(scores.shape, dtype=torch.bool)
        hidden[: visible.shape[0], : visible.shape[1]] = ~visible
        scores = scores.masked_fill(hidden, -torch.inf)
        maximum = torch.maximum(self.maximum, scores.amax(dim=1, keepdim=True))
        base = maximum.masked_fill(maximum == -torch.inf, 0)  # a row that has seen nothing yet has no maximum
        weights = torch.exp(scores - base)
        shrink = torch.exp(self.maximum - base)
        self.total = self.total * shrink + weights.sum(dim=1, keepdim=True)
        self.outputs *= shrink
        self.maximum = maximum
        return weights

    def finish(self, rows: int) -> Finished:
        """Divide by the sums; only the first `rows` exist."""
        some = self.total.masked_fill(self.total == 0, 1)
        return Finished((self.outputs / some)[:rows], (self.maximum + self.total.log())[:rows])
