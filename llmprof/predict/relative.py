"""The bias of a T5 table: rows of it gathered by bucketed distance, laid by heads, and the mask added in.

reference-execution.md, section 7; a table in each layer: reference-options.md, section 4. Axis legend: see `tensor.py`.
"""

from __future__ import annotations

from llmprof.predict import constants
from llmprof.predict.masks import Sight
from llmprof.predict.setting import Side
from llmprof.predict.tape import Tape
from llmprof.predict.tensor import Axes, Tensor


def bias_of_table(tape: Tape, side: Side, sight: Sight, n_heads: int, path: str) -> Tensor:
    """The leaf at `path`: [n, t, s] with rows of s8."""
    with tape.module(path):
        per_pair = {side.row: sight.queries, "s": sight.keys, "n": n_heads}
        gathered = fetch(tape, constants.buckets(side, sight), per_pair)
        by_head = {"n": n_heads, side.row: sight.queries, "s": sight.keys}
        bias = constants.columns(tape.allocate("rel_bias", constants.padded(by_head)), sight.keys)
        tape.copy(gathered, bias)
        if sight.kind != "full":
            tape.in_place("add_", bias, constants.mask(side, sight))
        return bias


def fetch(tape: Tape, indices: Tensor, rows: Axes) -> Tensor:
    """`embedding`: reads the indices and the rows of the current leaf's table that it returns, in the table's dtype."""
    (table,) = tape.parameters()
    fetched = Tensor("rows", rows, table.format, table.storage, None, of=table, via="gather")
    return tape.run("embedding", indices, fetched, axes=rows, fmt=table.format)
