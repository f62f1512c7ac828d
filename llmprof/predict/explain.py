"""Each figure of `count` with its formula, in symbols and in numbers, and where the formula comes from.

Nothing here is a second formula: the terms are the axes of the very tensors and contractions that
were counted, equal layers as one factor and like terms collected. Axis legend: see `tensor.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from llmprof.predict import mtp, touched
from llmprof.predict.api import Prediction
from llmprof.predict.formula import WHOLE, Formula, Product, elements, in_layers, multiplications, stored
from llmprof.predict.leaf import Leaves, Parameter
from llmprof.predict.leaves import layer_leaves
from llmprof.predict.model import LayerGroup, Program
from llmprof.predict.op import Op
from llmprof.predict.record import UNFUSED, both, record_of
from llmprof.predict.sram import shared_memory
from llmprof.predict.tensor import Home, Tensor, new
from llmprof.sources import BIBLIOGRAPHY, Reference
from llmprof.spec.arch import ArchSpec
from llmprof.workload import Execution, Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """One figure. `numbers` is arithmetic with ``x``, ``+``, ``-`` and ``/`` that comes to `value`.

    `name` is the figure's key in the record of `count`; `formula` has the names of the same factors;
    `source` is a key of `llmprof.sources.BIBLIOGRAPHY`.
    """

    name: str
    value: int | float
    formula: str
    numbers: str
    source: str

    @property
    def reference(self) -> Reference:
        """Where the formula comes from."""
        return BIBLIOGRAPHY[self.source]


def explain(arch: ArchSpec, workload: Workload, execution: Execution = UNFUSED) -> list[Explanation]:
    """The figures of `count_record` that are computed, in its order. Raises what `predict` raises."""
    fused, unfused = both(arch, workload, execution)
    sums, of_experts = _sums(fused, unfused), touched.expert_figures(fused, unfused)
    record = {**record_of(fused, unfused), _TOKENS: workload.batch * workload.new_tokens}
    made = []
    for name, value in record.items():
        if value is None:
            continue
        if name in sums:
            formula, source = sums[name]
            symbols, numbers, value = formula.symbols, formula.numbers, formula.number
        elif name in _DERIVED:
            operator, *operands = _DERIVED[name]
            symbols = f" {operator} ".join(operands)
            numbers = f" {operator} ".join(str(record[operand]) for operand in operands)
            source = "reference-execution"
        elif name in of_experts:
            figure, source = of_experts[name], touched.SOURCE
            symbols, numbers = figure.formula, figure.numbers
        else:
            continue
        made.append(Explanation(name=name, value=value, formula=symbols, numbers=numbers, source=source))
    return made


_TOKENS = "(batch x new_tokens)"

_DERIVED: dict[str, tuple[str, ...]] = {
    "params_non_embedding": ("-", "params_total", "params_embedding"),
    "params_active": ("+", "params_total"),
    "matmul_flops_dense_per_token": ("/", "matmul_flops_dense", _TOKENS),
    "kv_cache_bytes": ("+", "kv_cache_bytes_self", "kv_cache_bytes_cross"),
    "total_bytes_fused": (
        "+",
        "weight_bytes",
        "kv_cache_bytes",
        "recurrent_state_bytes",
        "activation_peak_bytes_fused",
    ),
    "total_bytes_unfused": (
        "+",
        "weight_bytes",
        "kv_cache_bytes",
        "recurrent_state_bytes",
        "activation_peak_bytes_unfused",
    ),
    "arithmetic_intensity_fused": ("/", "matmul_flops_dense", "hbm_bytes_fused"),
    "arithmetic_intensity_unfused": ("/", "matmul_flops_dense_unfused", "hbm_bytes_unfused"),
}
"""Figures made of other figures: the operator, then the operands."""


def _sums(fused: Prediction, unfused: Prediction) -> dict[str, tuple[Formula, str]]:
    """Figures that are sums over tensors and contractions: the formula and its source."""
    program, ours = fused.program, "reference-execution"
    own, everything = _leaves(program, further=False), _leaves(program, further=True)
    sums = {
        "params_total": (_over_parameters(program, own, lambda p, _: [elements(p.axes)]), ours),
        "params_embedding": (
            _over_parameters(program, own, lambda p, _: [elements(p.axes)] if p.embedding else []),
            ours,
        ),
        "params_mtp": (_over_parameters(program, _further_leaves(program), lambda p, _: [elements(p.axes)]), ours),
        "matmul_flops_dense": (_over_ops(program, _dense), "torch-flop-counter"),
        "matmul_flops_dense_unfused": (_over_ops(unfused.program, _dense), "torch-flop-counter"),
        "matmul_flops_causal": (_over_ops(program, _causal), ours),
        "vector_flops": (_over_ops(program, _vector), "electra-flops"),
        "kv_cache_bytes_self": (_over_kept(program, lambda group: group.cache("attn")), ours),
        "kv_cache_bytes_cross": (_over_kept(program, lambda group: group.cache("cross_attn")), ours),
        "recurrent_state_bytes": (_over_kept(program, lambda group: group.state), ours),
        "kv_cache_bytes_per_token": (_per_token(program), ours),
        "weight_bytes": (_over_parameters(program, everything, lambda _, tensor: stored(tensor)), ours),
        "activation_peak_bytes_fused": (_over_live(program), ours),
        "activation_peak_bytes_unfused": (_over_live(unfused.program), ours),
        "hbm_bytes_fused": (_over_ops(program, _moved), ours),
        "hbm_bytes_unfused": (_over_ops(unfused.program, _moved), ours),
    }
    if any(p.chosen for group in program.groups for inside in group.leaves.values() for p in inside):
        sums["params_active"] = (_over_parameters(program, own, lambda p, _: [elements(p.active_axes)]), ours)
    sram = shared_memory(program)
    if sram is not None:
        sums["sram_bytes_fused"] = (sram.formula, "flash-attention-2-kernel")
        sums["sram_tile_footprint_bytes"] = (sram.footprint, "flash-attention-2-tiles")
    return sums


Terms = Iterable[tuple[Product, int]]


def _over_ops(program: Program, terms: Callable[[Op], Terms]) -> Formula:
    """The sum of `terms` over every kernel; equal layers are one factor."""
    formula = Formula()
    runs: list[tuple[Product, Iterable[Op]]] = [((), program.ops)]
    runs += [(_layers(program, group), group.ops) for group in program.groups]
    for layers, ops in runs:
        for op in ops:
            for product, times in terms(op):
                formula.add((*layers, *product), times * op.times)
    return formula


def _dense(op: Op) -> Terms:
    return [(multiplications(part.contraction, causal=False), 2) for part in op.leaves if part.contraction is not None]


def _causal(op: Op) -> Terms:
    return [(multiplications(part.contraction, causal=True), 2) for part in op.leaves if part.contraction is not None]


def _vector(op: Op) -> Terms:
    parts = [part for part in op.leaves if part.vector_over is not None]
    return [(elements(part.vector_over.axes), part.vector_cost) for part in parts if part.vector_over is not None]


def _moved(op: Op) -> Terms:
    return [(product, 1) for tensor in (*op.reads, *op.writes) for product in stored(tensor)]


Runs = Sequence[tuple[Product, Leaves]]
"""Leaves, with the factor for as many layers as have them."""


def _leaves(program: Program, *, further: bool) -> Runs:
    """The leaves of the model; those of the layers that predict further tokens with `further`, where they run."""
    outer = {path: inside for path, inside in program.outer.items() if further or not path.startswith(mtp.PREFIX)}
    groups = [group for group in program.groups if further or group.prefix != mtp.PREFIX]
    return [((), outer), *((_layers(program, group), group.leaves) for group in groups)]


def _further_leaves(program: Program) -> Runs:
    """The leaves of the layers that predict further tokens, whether they run or not."""
    arch = program.setting.arch
    if arch.mtp is None:
        return []
    layer = layer_leaves(arch.mtp.layer, arch.d_model, cached=True)
    return [((), mtp.outer_leaves(arch)), (in_layers(arch.mtp.count, f"{mtp.PREFIX}layers"), layer)]


def _over_parameters(program: Program, runs: Runs, terms: Callable[[Parameter, Tensor], Iterable[Product]]) -> Formula:
    """The sum of `terms` over every parameter of `runs` that its path owns."""
    formula = Formula()
    for layers, leaves in runs:
        for parameter in (p for inside in leaves.values() for p in inside if p.owned):
            tensor = new(parameter.name, parameter.axes, program.setting.stored_format(parameter), Home.WEIGHT)
            for product in terms(parameter, tensor):
                formula.add((*layers, *product))
    return formula


def _over_kept(program: Program, kept: Callable[[LayerGroup], Mapping[str, Tensor]]) -> Formula:
    """The bytes of what `kept` finds in each layer."""
    formula = Formula()
    for group in program.groups:
        for tensor in kept(group).values():
            for product in stored(tensor):
                formula.add((*_layers(program, group), *product))
    return formula


def _per_token(program: Program) -> Formula:
    """What one more token of one sequence adds: a row each, or a row for every so many tokens."""
    formula = Formula()
    for group in program.groups:
        for row, tokens in group.growth.values():
            for product in stored(row):
                per = WHOLE if tokens == 1 else ("tokens per row", tokens)
                formula.add((*_layers(program, group), *product), per=per)
    return formula


def _layers(program: Program, group: LayerGroup) -> Product:
    """The factor for a group of equal layers, by a name of its own where there are several."""
    return in_layers(group.count, group.factor_name(program))


def _over_live(program: Program) -> Formula:
    """The tensors that are live at the peak."""
    formula = Formula()
    for tensor in program.live:
        for product in stored(tensor):
            formula.add(product)
    return formula
