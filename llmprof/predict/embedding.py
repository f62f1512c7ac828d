"""From token ids to the first layer's input: `embed`, `embed_proj` .. `rel_bias`.

reference-execution.md, section 7; reference-options.md, section 4. Tables are never read whole: a gather reads its
indices and the rows that it fetches. Axis legend: see `tensor.py`.
"""

from __future__ import annotations

from typing import assert_never

from llmprof.predict import audio, constants
from llmprof.predict.leaves import biased_attention
from llmprof.predict.linear import linear
from llmprof.predict.norms import normalise
from llmprof.predict.relative import bias_of_table, fetch
from llmprof.predict.setting import Side
from llmprof.predict.tape import Tape
from llmprof.predict.tensor import Axes, Tensor
from llmprof.spec.arch import Learned, Sinusoidal


def enter(tape: Tape, side: Side) -> Tensor:
    """The first [b, t, d] of a stack: its front's, or the embeddings of its tokens."""
    if side.stack.front is not None:
        return audio.listen(tape, side, side.stack.front)
    return embed(tape, side, constants.token_ids(side))


def embed(tape: Tape, side: Side, ids: Tensor) -> Tensor:
    """The leaf `embed`, converted to the activation dtype after the gather, and `embed_proj` where there is one.

    Returns [b, t, d]; the rows of a table with a width of its own are [b, t, embedded] before they are projected.
    """
    with tape.module("embed", ids):
        (table,) = tape.parameters()
        x = _gather(tape, ids, {**side.rows, **table.without("v")})
    return x if side.setting.arch.embedding_width is None else linear(tape, "embed_proj", x)


def open_stack(tape: Tape, side: Side, x: Tensor) -> Tensor:
    """Scale, segments, positions and norm, each where the model has it."""
    arch, stack = side.setting.arch, side.stack
    if stack.front is None:
        x = scale(tape, side, x)
    if arch.type_vocab_size and stack.front is None:
        with tape.module(f"{stack.prefix}type_embed", x):
            x = tape.run("add", x, _gather(tape, constants.segment_ids(side), x.axes))
    match stack.embedded_position:
        case Learned() | Sinusoidal(stored_rows=int()):
            with tape.module(f"{stack.prefix}pos_embed", x):
                rows = {side.row: x.axes[side.row], "d": arch.d_model}
                x = tape.run("add", x, _gather(tape, _own_rows(side, constants.position_ids(side), x), rows))
        case Sinusoidal():
            with tape.module(f"{stack.prefix}pos_embed", x):
                x = tape.run("add", x, _own_rows(side, constants.sinusoid(side), x))
        case None:
            pass
        case other:
            assert_never(other)
    if stack.embedding_norm is not None:
        x = normalise(tape, side.setting, f"{stack.prefix}embed_norm", stack.embedding_norm, x)
    return x


def scale(tape: Tape, side: Side, x: Tensor) -> Tensor:
    """The leaf `embed_scale`, where the model has one."""
    if side.setting.arch.embedding_scale is None:
        return x
    with tape.module(f"{side.stack.prefix}embed_scale", x):
        return tape.run("mul", x)


def relative_bias(tape: Tape, side: Side) -> Tensor | None:
    """The leaf `rel_bias` of a stack whose layers share a T5 table; None where none is shared."""
    if side.stack.relative_bias is None:
        return None
    attention = biased_attention(side.stack)
    return bias_of_table(tape, side, side.sight(attention), attention.n_heads, f"{side.stack.prefix}rel_bias")


def _own_rows(side: Side, table: Tensor, x: Tensor) -> Tensor:
    """The rows of a constant that are about those of x: all, or a view where ranks share the rows."""
    rows = x.axes[side.row]
    return table if rows == side.tokens else table.sliced(side.row, rows, side.row)


def _gather(tape: Tape, indices: Tensor, rows: Axes) -> Tensor:
    """The same, converted to the activation dtype by a kernel of its own where that differs."""
    return tape.cast(fetch(tape, indices, rows))
