"""The tape of one rank: the same kernels, and between them the collectives of its part.

docs/reference-sharding.md, section 8: a collective is a kernel whose operand and result are alive at its end, and which
moves no `hbm_bytes` and has no FLOPs. Where one stands is what `collectives.py` says, so that a pass makes the calls
that are counted. Axis legend: see `predict/tensor.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from llmprof.predict.formats import BOOL, INT64, Format
from llmprof.predict.op import Op
from llmprof.predict.tape import Seam, Tape
from llmprof.predict.tensor import Axes, Home, Tensor, new
from llmprof.sharding import Collective, CollectiveKind, Sharding


class RankTape(Tape):
    """A tape that makes `calls` where they stand; a path may have one of each kind."""

    def __init__(
        self,
        fmt: Format,
        parameters: Callable[[str], Sequence[Tensor]],
        sharding: Sharding,
        calls: Collection[Collective],
    ) -> None:
        super().__init__(fmt, parameters)
        self.sharding = sharding
        self._calls = {(call.path, call.kind) for call in calls}

    def across(self, seam: Seam, x: Tensor, at: str | None = None) -> Tensor:
        """All rows of x, the sum of what all ranks have of it, or all its columns, where the part has such a call."""
        path, ranks = self.path if at is None else at, self.sharding.tensor_parallel
        match seam:
            case "rows" if self.sharding.splits_rows and (path, "all-gather") in self._calls:
                return self.collective("all-gather", x, _times(x, "t", ranks))
            case "columns" if (path, "all-gather") in self._calls:
                return self.collective("all-gather", x, _times(x, "v", ranks))
            case "sum" if (path, "reduce-scatter") in self._calls:
                assert x.axes["t"] % ranks == 0, x
                return self.collective("reduce-scatter", x, {**x.axes, "t": x.axes["t"] // ranks})
            case "sum" if (path, "all-reduce") in self._calls:
                return self.collective("all-reduce", x, x.axes)
        return x

    def collective(self, kind: CollectiveKind, x: Tensor, axes: Axes) -> Tensor:
        """One call with operand x, whose result is a new tensor of these `axes` in the activation dtype."""
        result = new(kind, axes, self.fmt, Home.ACTIVATION)
        self._record(Op(self.path, kind, (x,), (result,)))
        return result

    def kernels(self) -> tuple[Op, ...]:
        """Those that are no collectives."""
        kinds = {kind for _, kind in self._calls}
        return tuple(item for item in self.items if isinstance(item, Op) and item.kind not in kinds)

    # --- the lookup in a table of which a rank has some rows --------------------------------------

    def foreign(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """The ids counted from the first own row, those of foreign rows 0, and which ones these are."""
        local = self.run("sub", ids, fmt=INT64)
        below, above = (self.run(kind, local, fmt=BOOL, cost=1) for kind in ("lt", "ge"))
        foreign = self.run("or", below, above, fmt=BOOL, cost=1)
        self.overwrite("masked_fill_", local, foreign)
        return local, foreign

    def overwrite(self, kind: str, x: Tensor, *others: Tensor) -> None:
        """Launch `kind`, which reads `x` and `others` and overwrites `x`, and whose arithmetic is not counted."""
        self._record(Op(self.path, kind, (x, *others), (x,)))


def _times(x: Tensor, axis: str, ranks: int) -> Axes:
    return {**x.axes, axis: x.axes[axis] * ranks}
