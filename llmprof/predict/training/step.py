"""A training step as numbers: what `Prediction.training` is. The contract is docs/reference-training.md.

All figures are of the whole batch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from llmprof.ledger import Quantity
from llmprof.predict import objective
from llmprof.predict.calls import Call
from llmprof.predict.leaf import Leaves
from llmprof.predict.leaves import model_leaves
from llmprof.predict.model import Program
from llmprof.predict.op import Op
from llmprof.predict.training import lifetimes, optimizer
from llmprof.predict.training.engine import Engine, Key, NoRule, Walked
from llmprof.predict.training.lines import BackwardLine, backward_lines
from llmprof.predict.training.recompute import regions
from llmprof.predict.training.saved import SavedTensor, saved_tensors
from llmprof.training_rules import unlike_dtypes, without_rule

WALKED: tuple[Quantity, ...] = ("hbm_bytes_backward", "saved_bytes", "peak_live_bytes")
"""What follows from a walk back through the kernels, and so needs a rule for each of them."""


@dataclass(frozen=True, eq=False)
class TrainingStep:
    """What backward and optimiser of a lowered training pass cost. Figures are made on first use.

    Those of `unpredicted` are absent: asking for one is an AssertionError.
    """

    program: Program

    @cached_property
    def unpredicted(self) -> Mapping[Quantity, str]:
        """Quantity -> why no rule says what it comes to."""
        setting = self.program.setting
        reason = without_rule(setting.arch)
        if reason is None:
            reason = unlike_dtypes(setting.workload.dtypes.weights, setting.workload.dtypes.activations)
        if reason is None and setting.drops and any("cpu" in group.kernels for group in self.program.groups):
            reason = "the fused kernel of the CPU drops nothing"
        execution = setting.execution
        if reason is None and (execution.reference != "lean-eager" or execution.grouping != "eager"):
            reason = "backward is that of lean-eager and of the fused kernels, op by op"
        if reason is None and isinstance(self._walk, NoRule):
            reason = f"kernels without a rule for their backward: {self._walk}"
        return {} if reason is None else dict.fromkeys(WALKED, f"{reason} (docs/reference-training.md)")

    # --- totals -------------------------------------------------------------------------------------

    @cached_property
    def hbm_bytes_backward(self) -> int:
        """Op-level bytes of the kernels of backward, and of what is computed again."""
        walked = self._walked
        return _moved(walked.ops) + sum(self._moved_by_frames[frame.walked] for frame in walked.frames)

    @cached_property
    def matmul_flops(self) -> int:
        """FLOPs of the contractions among the same kernels."""
        walked = self._walked
        return sum(op.matmul_flops for walk in (walked, *(f.walked for f in walked.frames)) for op in walk.ops)

    @cached_property
    def matmul_flops_recomputed(self) -> int:
        """FLOPs of the contractions that are computed again; 0 where nothing is."""
        calls = Counter(item.segment for item in self.program.items if isinstance(item, Call))
        what = self.program.setting.workload.recompute
        return sum(
            count * region.matmul_flops
            for segment, count in calls.items()
            for region in regions(what, segment.ops, segment.inputs)
        )

    @cached_property
    def peak_live_bytes(self) -> int:
        """The largest sum of live tensors other than parameters, over forward and backward."""
        program = self.program
        *_, head = (op for op in program.ops if op.path == "lm_head")
        constants = sum(constant.nbytes for constant in program.setting.constants.values())
        return constants + lifetimes.peak(program.items, self._walked, (*program.returned, *head.writes))

    @cached_property
    def saved(self) -> tuple[SavedTensor, ...]:
        """What the forward pass keeps for backward, each storage once, in the order of the pass."""
        return tuple(saved_tensors(self._walked))

    @property
    def saved_bytes(self) -> int:
        """Bytes of all that is saved."""
        return sum(tensor.nbytes for tensor in self.saved)

    @property
    def gradient_bytes(self) -> int:
        """Bytes of the gradients of all parameters that take part."""
        return sum(self.gradient_bytes_at.values())

    @property
    def optimizer_bytes(self) -> int:
        """Bytes of all that the optimiser keeps."""
        return sum(self.optimizer_bytes_at.values())

    @cached_property
    def optimizer_peak_bytes(self) -> int:
        """What lives in the optimiser's step beside parameters and states: the gradients, and their casts to fp32."""
        return self.gradient_bytes + optimizer.cast_bytes(sum(self._values_at.values()), self.program.setting.weights)

    @cached_property
    def hbm_bytes_optimizer(self) -> int:
        """Op-level bytes of the optimiser's step."""
        return optimizer.step_bytes(sum(self._values_at.values()), self.program.setting.weights)

    # --- by leaf --------------------------------------------------------------------------------------

    @cached_property
    def saved_bytes_at(self) -> Mapping[str, int]:
        """Path -> what it saves: every leaf, and the layers that are computed again."""
        found = dict.fromkeys(self._leaves, 0)
        if self.program.setting.workload.recompute == "full":
            found.update((frame.call.path, 0) for frame in self._walked.frames)
        for tensor in self.saved:
            found[tensor.path] += tensor.nbytes
        return found

    @cached_property
    def gradient_bytes_at(self) -> Mapping[str, int]:
        """Leaf -> bytes of the gradients of the parameters that it owns."""
        weights = self.program.setting.weights
        return {path: values * (weights.bits // 8) for path, values in self._values_at.items()}

    @cached_property
    def optimizer_bytes_at(self) -> Mapping[str, int]:
        """Leaf -> bytes of what the optimiser keeps for the parameters that it owns."""
        weights = self.program.setting.weights
        return {path: optimizer.state_bytes(values, weights) for path, values in self._values_at.items()}

    @cached_property
    def ops(self) -> tuple[BackwardLine, ...]:
        """Every kernel of backward with equal layers folded."""
        return tuple(backward_lines(self._walked))

    def figures(self) -> Iterator[tuple[str, Quantity, int]]:
        """All that is predicted, by path: what the ledger of a training pass has beside the forward pass."""
        absent = self.unpredicted
        if "hbm_bytes_backward" not in absent:
            yield "", "hbm_bytes_backward", self.hbm_bytes_backward
            yield "", "peak_live_bytes", self.peak_live_bytes
            yield from ((path, "saved_bytes", value) for path, value in self.saved_bytes_at.items())
        yield "", "optimizer_peak_bytes", self.optimizer_peak_bytes
        yield "", "hbm_bytes_optimizer", self.hbm_bytes_optimizer
        for path, value in self.gradient_bytes_at.items():
            yield path, "gradient_bytes", value
            yield path, "optimizer_bytes", self.optimizer_bytes_at[path]

    # --- what they are made of --------------------------------------------------------------------------

    @cached_property
    def _leaves(self) -> Leaves:
        setting = self.program.setting
        return objective.with_loss(model_leaves(setting.arch, dropout=setting.drops), setting.workload)

    @cached_property
    def _values_at(self) -> Mapping[str, int]:
        """Leaf -> how many of the values that it owns have a gradient."""
        program = self.program
        taking = optimizer.learned(program.items, program.returned)
        return {
            path: sum(p.count for p in parameters if p.name in taking.get(path, ()))
            for path, parameters in self._leaves.items()
        }

    @cached_property
    def _walk(self) -> Walked | NoRule:
        program = self.program
        engine = Engine(_owners(program.outer), program.setting.workload.recompute)
        try:
            return engine.from_loss(program.items, program.returned[0])
        except NoRule as reason:
            return reason

    @property
    def _walked(self) -> Walked:
        assert not self.unpredicted, self.unpredicted
        assert isinstance(self._walk, Walked)
        return self._walk

    @cached_property
    def _moved_by_frames(self) -> Mapping[Walked, int]:
        """What the backward of each distinct layer moves."""
        return {walked: _moved(walked.ops) for walked in dict.fromkeys(f.walked for f in self._walked.frames)}


def _moved(ops: tuple[Op, ...]) -> int:
    return sum(op.hbm_bytes for op in ops)


def _owners(leaves: Leaves) -> Mapping[Key, Key]:
    """The parameters that a leaf borrows, and whose they are: a tied output matrix is the token table."""
    (table,) = (("embed", parameter.name) for parameter in leaves["embed"])
    return {(path, p.name): table for path, parameters in leaves.items() for p in parameters if not p.owned}
