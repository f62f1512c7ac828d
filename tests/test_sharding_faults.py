"""Faults planted in the prediction of ranks: each makes a figure, or a call, differ from what ranks on `meta` do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pytest

from llmprof.measure.sharded.account import accounts_on_meta
from llmprof.predict import embedding, layer
from llmprof.predict.sharding import experts, loads, parts, ring, slices, weights
from llmprof.predict.sharding.api import ShardedPrediction
from llmprof.predict.sharding.collectives import Calls
from llmprof.predict.sharding.tape import RankTape
from llmprof.sharding import Sharding, StageAccount
from llmprof.workload import Workload
from tests.faults import planted
from tests.planting import forget
from tests.sharded_specs import DECODE, PREFILL, packed, spec
from tests.test_sharding import calls, figures, predicted

TWO = Sharding(tensor_parallel=2)
ROWS = Sharding(tensor_parallel=2, sequence_parallel=True)
FOUR = Sharding(tensor_parallel=4)
STAGED = Sharding(tensor_parallel=2, pipeline_parallel=2)
BLOCKS = Sharding(tensor_parallel=4, expert_parallel=2)
SENT = Sharding(data_parallel=2, expert_parallel=2)
RING = Sharding(context_parallel=2)
LONG_RING = Sharding(context_parallel=4)
RINGS = replace(PREFILL, new_tokens=16, context=16)


@dataclass(frozen=True)
class Case:
    """`old` becomes `new` in `function`: what ranks of `name` do differs at `path`, in a quantity or a kind of call."""

    fault: str
    function: Callable[..., Any]
    old: str
    new: str
    name: str
    workload: Workload
    sharding: Sharding
    path: str
    what: str


E0 = "layers.1.ffn"
CASES = (
    Case("heads that are whole", slices._attention, "_part(spec.n_heads, ranks), n_kv", "spec.n_heads, n_kv", "grouped", PREFILL, TWO,
         "layers.0.attn.q_proj", "params"),
    Case("few heads are not replicated", slices.kv_heads_of_rank, "max(n_kv_heads, ranks)", "n_kv_heads * ranks", "grouped", DECODE, FOUR,
         "layers.0.attn.cache.k", "kv_cache_bytes"),
    Case("a vocabulary that is not padded", slices.arch_of_rank, "-(-arch.vocab_size // ranks)", "arch.vocab_size // ranks", "learned",
         DECODE, FOUR, "embed", "params"),
    Case("columns of experts that are dealt out too", slices._ffn, "ranks // sharding.expert_parallel", "ranks", "experts", DECODE, BLOCKS,
         E0 + ".experts", "params"),
    Case("a shared expert that is whole", slices._ffn, "d_ff=_part(spec.shared.d_ff, ranks)", "d_ff=spec.shared.d_ff", "experts", DECODE,
         BLOCKS, E0 + ".shared.up", "weight_bytes"),
    Case("every rank has all experts", slices._of_block, "_part(parameter.axes[EXPERTS], blocks)", "parameter.axes[EXPERTS]", "experts",
         DECODE, BLOCKS, E0 + ".experts", "weight_bytes"),
    Case("latent heads that are whole", slices._attention, "return replace(spec, n_heads=_part(spec.n_heads, ranks))", "return spec", "latent",
         DECODE, TWO, "layers.0.attn.kv_up", "params"),
    Case("one table of two stages", weights.weights_of_rank, "if staged else arch", "if False else arch", "learned", DECODE, STAGED,
         "lm_head", "params"),
    Case("packed like all others", weights.Weights._format, "if parameter.packable", "if False", "grouped", packed(PREFILL, "int8"), TWO,
         "layers.0.ffn.up", "weight_bytes"),
    Case("all sequences on every replica", parts.pass_of_rank, "workload.batch // sharding.data_parallel", "workload.batch", "learned",
         DECODE, Sharding(data_parallel=2), "layers.0.attn.cache.v", "kv_cache_bytes"),
    Case("ids that are looked up as they are", parts._opening, "if sharding.tensor_parallel == 1", "if True", "learned", DECODE, TWO,
         "embed", "hbm_bytes"),
    Case("rows that nobody has are not masked", parts._own_embed, 'tape.overwrite("masked_fill_", x, foreign)', "pass", "learned", DECODE,
         TWO, "embed", "hbm_bytes"),
    Case("all rows outside of blocks", parts._hidden, "if sharding.splits_rows", "if False", "sandwich", PREFILL, ROWS,
         "layers.0.attn_residual", "hbm_bytes"),
    Case("a layer that lets its input go", parts._layer, "tape.touch((x,))", "pass", "grouped", PREFILL, FOUR, "", "peak_live_bytes"),
    Case("all positions on every rank", embedding._own_rows, "if rows == side.tokens", "if True", "learned", PREFILL, ROWS,
         "pos_embed", "hbm_bytes"),
    Case("a sum in place", RankTape.collective, "new(kind, axes, self.fmt, Home.ACTIVATION)",
         "x if axes == x.axes else new(kind, axes, self.fmt, Home.ACTIVATION)", "learned", replace(DECODE, logits="none"), FOUR,
         "", "peak_live_bytes"),
    Case("parts that are summed on their own", layer._parallel, 'tape.across("sum", tape.run("add", a, f))', 'tape.run("add", a, f)',
         "parallel", PREFILL, ROWS, "layers.0.residual", "hbm_bytes"),
    Case("an all-reduce where sums are scattered", Calls._reduce, "if self.sharding.splits_rows", "if False", "grouped", PREFILL, ROWS,
         "layers.0.ffn.down", "reduce-scatter"),
    Case("two gathers for one norm", Calls._of_tensors, "if layer.parallel_norms == 1", "if False", "parallel", PREFILL, ROWS,
         "layers.0.attn_norm", "all-gather"),
    Case("logits without their padding", Calls.of_head, "ranks * -(-self.arch.vocab_size // ranks)", "self.arch.vocab_size", "learned",
         DECODE, TWO, "lm_head", "all-gather"),
    Case("a rank of rows that sends all", Calls.to_next_stage, "if self.sharding.splits_rows", "if False", "grouped", PREFILL,
         replace(STAGED, sequence_parallel=True), "layers.1", "send"),
    Case("a last stage that sends", ShardedPrediction._sent, "if stage == self.sharding.pipeline_parallel - 1:", "if False:", "grouped",
         DECODE, STAGED, "layers.3", "send"),
    Case("stages that begin where equal ones would", ShardedPrediction.layers_of, "sum(depths[:stage])", "stage * depths[stage]", "experts",
         DECODE, Sharding(pipeline_parallel=3), "layers.1.attn.q_proj", "params"),
    Case("stages that end where equal ones would", ShardedPrediction.layers_of, "first + depths[stage]", "first + depths[0]", "experts",
         DECODE, Sharding(pipeline_parallel=3), "layers.1", "send"),
    Case("a sum of experts behind their matrix", Calls._of_tensors, 'yield self._reduce("ffn")', 'yield self._reduce("ffn.down")',
         "experts", DECODE, TWO, E0, "all-reduce"),
    Case("rows that stay are not handed over", Calls._exchange, "got * d", "got * d // 2", "experts", PREFILL, SENT,
         E0 + ".experts", "all-to-all"),
    Case("tokens of one replica", Calls._exchange, "s.data_parallel * w.batch", "w.batch", "experts", PREFILL, SENT,
         E0 + ".experts", "all-to-all"),
    Case("the last block of experts", loads.own_loads, "[: spec.n_experts // blocks]", "[-(spec.n_experts // blocks) :]", "experts", DECODE,
         BLOCKS, E0 + ".experts", "hbm_bytes"),
    Case("all rows in the order of experts", experts._own_table, "routed = rows_of_experts(found)",
         "routed = prod(side.rows.values()) * spec.top_k", "experts", PREFILL, BLOCKS,
         E0 + ".router", "hbm_bytes"),
    Case("experts that see what came as it came", experts._mixture_of_sent, "rows_of(tape, dispatched, arrived)", "dispatched", "experts",
         PREFILL, SENT, E0 + ".experts", "hbm_bytes"),
    Case("weighed before they are sent", experts._mixture_of_sent, 'spec.weigh == "output"', 'spec.weigh == "input"', "experts", PREFILL,
         SENT, E0 + ".experts", "hbm_bytes"),
    Case("a ring that comes back", Calls._around_ring, "s.context_parallel - 1", "s.context_parallel", "learned", RINGS, RING,
         "layers.0.attn.core", "send"),
    Case("all queries see what comes", ring.ring_core, "rows, blocks = side.tokens // 2", "rows, blocks = side.tokens", "learned", RINGS, RING,
         "layers.0.attn.core", "matmul_flops"),
    Case("a sum of weights behind the last block", ring.ring_core, "last=step == blocks - 1", "last=False", "learned", RINGS, LONG_RING,
         "layers.0.attn.core", "hbm_bytes"),
)  # fmt: skip


@cache
def counted(name: str, workload: Workload, sharding: Sharding) -> tuple[StageAccount, ...]:
    return accounts_on_meta(spec(name), workload, sharding)


def differing(case: Case) -> set[tuple[str, str]]:
    """Where prediction and count differ: by path, and quantity or kind of a call."""
    forget()
    found = set[tuple[str, str]]()
    expected = counted(case.name, case.workload, case.sharding)
    for mine, its in zip(predicted(spec(case.name), case.workload, case.sharding), expected, strict=True):
        held, real = figures(mine.ledger), figures(its.ledger)
        unseen = its.unmeasured.keys()
        found |= {key for key in (held.keys() | real.keys()) - unseen if held.get(key, 0) != real.get(key, 0)}
        said, made = calls(mine), calls(its)
        found |= {key for key in said.keys() | made.keys() if said.get(key) != made.get(key)}
    return found


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.fault)
def test_a_fault_is_seen(case: Case) -> None:
    assert not differing(case), "without the fault both say the same"
    try:
        with planted(case.function, case.old, case.new):
            assert (case.path, case.what) in differing(case)
    finally:
        forget()
