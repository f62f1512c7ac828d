"""Predict one forward pass: FLOPs, bytes and memory of every leaf, from shapes alone.

The contract of what is run is docs/reference-execution.md. Nothing here imports a framework.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from llmprof.ledger import Basis, Entry, Ledger, Quantity
from llmprof.predict import cost, fused, objective
from llmprof.predict.backward import backward_flops
from llmprof.predict.cost import NOTHING, Cost
from llmprof.predict.leaf import Leaves
from llmprof.predict.leaves import model_leaves
from llmprof.predict.lowering import is_cache
from llmprof.predict.model import Program, lower
from llmprof.predict.mtp import further_leaves
from llmprof.predict.op import Op
from llmprof.predict.parameters import ParameterCount, parameters
from llmprof.predict.reference import check_reference
from llmprof.predict.setting import Setting, setting
from llmprof.predict.tensor import Tensor
from llmprof.predict.unconfirmed import unconfirmed_quantities
from llmprof.spec.arch import ArchSpec
from llmprof.workload import Execution, Workload, check_workload

if TYPE_CHECKING:
    from llmprof.predict.training.step import TrainingStep

__all__ = ["Cost", "OpLine", "ParameterCount", "Prediction", "parameters", "predict"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpLine:
    """One kernel of a distinct layer, or of the model around the layers, and how often it is launched.

    `path` folds equal layers: ``layers.{0-79}.attn.core``. Bytes and FLOPs are of one launch;
    `formula` has the einsums of its contractions.
    """

    path: str
    kind: str
    count: int
    read_bytes: int
    write_bytes: int
    matmul_flops: int
    matmul_flops_causal: int
    vector_flops: int
    formula: str


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a forward pass should cost. Totals are cheap; `ledger` and `ops` are made on first use."""

    arch: ArchSpec
    workload: Workload
    execution: Execution
    program: Program

    # --- totals -------------------------------------------------------------------------------

    @cached_property
    def cost(self) -> Cost:
        """All kernels of the pass together."""
        whole = cost.total(self.program.ops)
        for group in self.program.groups:
            whole = whole.plus(cost.total(group.ops), times=group.count)
        return whole

    @property
    def peak_live_bytes(self) -> int:
        """The largest sum of live tensors other than weights and caches (section 3 of the reference).

        Of a training pass, over forward and backward. AssertionError for grouped leaves, of which it is not defined
        what lives how long, and where no rule says what backward keeps (`TrainingStep.unpredicted`).
        """
        if self.workload.phase == "train":
            return self.training.peak_live_bytes
        assert self.execution.grouping == "eager", "the peak of grouped leaves is not defined"
        return self.program.peak_bytes

    @cached_property
    def weight_bytes(self) -> int:
        """Bytes of all parameters as they are stored."""
        program = self.program
        layers = sum(group.count * cost.all_stored_bytes(program.setting, group.leaves) for group in program.groups)
        return cost.all_stored_bytes(program.setting, program.outer) + layers

    @property
    def kv_cache_bytes(self) -> int:
        """Bytes of all caches, for the whole batch."""
        return self.kv_cache_bytes_self + self.kv_cache_bytes_cross

    @cached_property
    def kv_cache_bytes_self(self) -> int:
        """Bytes of the self-attention caches, for the whole batch."""
        return sum(group.count * cost.held_bytes(group.cache("attn")) for group in self.program.groups)

    @cached_property
    def kv_cache_bytes_cross(self) -> int:
        """Bytes of the cross-attention caches, for the whole batch."""
        return sum(group.count * cost.held_bytes(group.cache("cross_attn")) for group in self.program.groups)

    @cached_property
    def recurrent_state_bytes(self) -> int:
        """Bytes of all that is kept between tokens whatever their number, for the whole batch; in no cache."""
        return sum(group.count * cost.held_bytes(group.state) for group in self.program.groups)

    # --- totals of a training pass --------------------------------------------------------------

    @property
    def loss_tokens(self) -> int:
        """Positions with loss, of the whole batch."""
        return self.workload.batch * self.workload.loss_tokens

    @property
    def logits_bytes(self) -> int:
        """Bytes of the logits as the head makes them, of the whole batch."""
        *_, last = (op for op in self.program.ops if op.path == "lm_head")
        return sum(made.nbytes for made in last.writes)

    @cached_property
    def matmul_flops_backward(self) -> int:
        """FLOPs of the contractions of the backward pass, where the workload is a training pass.

        Those of what it computes again too.
        """
        again = self.training.matmul_flops_recomputed
        return backward_flops(self.program.items, self.program.returned) + again

    @cached_property
    def training(self) -> TrainingStep:
        """What the backward and the optimiser cost; AssertionError where this is no training pass."""
        from llmprof.predict.training.step import TrainingStep

        assert self.workload.phase == "train", self.workload.phase
        return TrainingStep(self.program)

    # --- what ran -----------------------------------------------------------------------------

    @cached_property
    def kernels(self) -> tuple[str, ...]:
        """The reference names of the cores that run: ``lean-eager``, ``flash``; torch's fused kernels first."""
        launched = dict.fromkeys(name for group in self.program.groups for name in group.kernels)
        return (*(name for name in fused.KERNELS if name in launched), *(n for n in launched if n not in fused.KERNELS))

    @property
    def kernel(self) -> str:
        """The same in words: ``lean-eager``, ``flash``, ``mixed: flash, efficient``, or ``no core``."""
        if not self.kernels:
            return "no core"
        return self.kernels[0] if len(self.kernels) == 1 else "mixed: " + ", ".join(self.kernels)

    @cached_property
    def unconfirmed(self) -> Mapping[str, str]:
        """Quantity -> why nothing independent confirms it in this setting."""
        launched = {op.kind for group in self.program.groups for op in group.ops}
        grouped = self.execution.grouping == "compiled"
        return unconfirmed_quantities(self.workload.dtypes, launched, cached=self.kv_cache_bytes > 0, grouped=grouped)

    # --- details ------------------------------------------------------------------------------

    @cached_property
    def ledger(self) -> Ledger:
        """Every leaf path at full depth, zeros included, and the tensors that are kept between tokens.

        At path "" the peak, and in training what backward and optimiser cost as a whole.
        """
        return Ledger(self._entries())

    @cached_property
    def ops(self) -> tuple[OpLine, ...]:
        """Every kernel with equal layers folded: first those around the layers, then those of the layers."""
        lines = [_line(op.path, 1, op) for op in self.program.ops]
        for group in self.program.groups:
            lines += [_line(f"{group.folded_path}.{op.path}", group.count, op) for op in group.ops]
        return tuple(lines)

    def _entries(self) -> Iterator[Entry]:
        """The ledger's entries in the order of the call tree."""
        program = self.program
        training = self.workload.phase == "train"
        if training:
            yield _entry("", "matmul_flops_backward", self.matmul_flops_backward)
        elif self.execution.grouping == "eager":
            yield _entry("", "peak_live_bytes", self.peak_live_bytes)
        figures = dict(_figures(program.setting, program.outer, program.ops))
        kept: dict[str, dict[str, Tensor]] = {}
        for group in program.groups:
            inside = dict(_figures(program.setting, group.leaves, group.ops))
            for index in group.indices:
                layer = f"{group.prefix}layers.{index}"
                figures.update((f"{layer}.{path}", found) for path, found in inside.items())
                for path, tensor in group.kept.items():
                    leaf = path.rpartition(".")[0]
                    kept.setdefault(f"{layer}.{leaf}", {})[f"{layer}.{path}"] = tensor
        further = further_leaves(self.arch) if self.workload.mtp else {}
        for path in (
            *objective.with_loss(model_leaves(self.arch, dropout=program.setting.drops), self.workload),
            *further,
        ):
            for quantity, value in figures[path]:
                yield _entry(path, quantity, value)
            for held, tensor in kept.pop(path, {}).items():
                yield _entry(held, "kv_cache_bytes" if is_cache(held) else "recurrent_state_bytes", tensor.nbytes)
        assert not kept, f"kept below no leaf, and so in no row: {sorted(kept)}"
        if training:
            yield _entry("lm_head", "logits_bytes", self.logits_bytes)
            yield _entry(objective.LOSS, "loss_tokens", self.loss_tokens)
            for path, quantity, value in self.training.figures():
                yield _entry(path, quantity, value)


def predict(arch: ArchSpec, workload: Workload, execution: Execution) -> Prediction:
    """Predict one forward pass of `arch`.

    Raises InputError where the workload contradicts itself or the architecture, or where the unfused reference has no
    op list for it (`check_reference`) or the grouping is not defined (`compiled.check_grouping`), and NotApplicable
    where the structure has no such phase (`check_workload`).
    """
    check_workload(arch, workload)
    check_reference(arch, workload, execution)
    program = lower(setting(arch, workload, execution))
    if execution.grouping == "compiled":
        from llmprof.predict import compiled

        compiled.check_grouping(workload, execution)
        program = compiled.grouped(program)
    return Prediction(arch, workload, execution, program)


Figures = tuple[tuple[Quantity, int], ...]


def _figures(made: Setting, leaves: Leaves, ops: tuple[Op, ...]) -> Iterator[tuple[str, Figures]]:
    """What the ledger says of every leaf, launched or not."""
    costs = cost.by_path(ops)
    for path, inside in leaves.items():
        spent = costs.get(path, NOTHING)
        yield (
            path,
            (
                ("params", cost.owned(inside)),
                ("weight_bytes", cost.stored_bytes(made, inside)),
                ("matmul_flops", spent.matmul_flops),
                ("matmul_flops_causal", spent.causal_flops),
                ("hbm_bytes", spent.hbm_bytes),
            ),
        )


def _entry(path: str, quantity: Quantity, value: int) -> Entry:
    return Entry(path=path, quantity=quantity, value=value, basis=Basis.PREDICTED)


def _line(path: str, count: int, op: Op) -> OpLine:
    return OpLine(
        path=path,
        kind=op.kind,
        count=count * op.times,
        read_bytes=op.read_bytes,
        write_bytes=op.write_bytes,
        matmul_flops=op.matmul_flops,
        matmul_flops_causal=op.causal_flops,
        vector_flops=op.vector_flops,
        formula=op.formula,
    )
