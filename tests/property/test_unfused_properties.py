"""Whatever op list a core follows and whatever leaves share kernels, the arithmetic is the same."""

from __future__ import annotations

from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from llmprof.predict.api import Prediction, predict
from llmprof.spec.arch import ArchSpec, Gqa, LayerSpec, RmsNorm, Rope
from llmprof.workload import UNFUSED_REFERENCES, Dtypes, Execution, Workload
from tests.predict_samples import arch, layer, prefill, stack

ROPE = Rope(theta=1e4)
DTYPES = [Dtypes(weights=each, activations=each, kv_cache=each) for each in ("bf16", "fp16", "fp32")]


@st.composite
def layers(draw: st.DrawFn) -> LayerSpec:
    kv_heads = draw(st.integers(1, 3))
    attention = Gqa(
        n_heads=kv_heads * draw(st.integers(1, 3)),
        n_kv_heads=kv_heads,
        head_dim=8,
        window=draw(st.sampled_from([None, 2, 5])),
        qk_norm=draw(st.sampled_from([None, RmsNorm()])),
    )
    return layer(
        attention,
        position=draw(st.sampled_from([None, ROPE, Rope(theta=1e4, rotary_dim=4)])),
        placement=draw(st.sampled_from(["pre", "post", "sandwich"])),
    )


@st.composite
def passes(draw: st.DrawFn) -> tuple[ArchSpec, Workload]:
    made = stack(draw(st.lists(layers(), min_size=1, max_size=4)), final_norm=draw(st.sampled_from([None, RmsNorm()])))
    new, past = draw(st.integers(1, 9)), draw(st.integers(0, 9))
    work = prefill(new, batch=draw(st.integers(1, 3)), context=new + past, dtypes=draw(st.sampled_from(DTYPES)))
    return arch(made, d=24, v=11), work


@settings(max_examples=80)
@given(asked=passes())
def test_flops_do_not_depend_on_the_plan(asked: tuple[ArchSpec, Workload]) -> None:
    plans = [Execution(attention="fused"), Execution(attention="fused", grouping="compiled")]
    plans += [
        Execution(attention="unfused", reference=reference, grouping=grouping)  # type: ignore[arg-type]
        for reference, grouping in product(UNFUSED_REFERENCES, ("eager", "compiled"))
    ]
    found = [predict(*asked, plan) for plan in plans]
    assert len({(each.cost.matmul_flops, each.cost.causal_flops) for each in found}) == 1
    by_leaf = [matmuls(each) for each in found]
    assert all(each == by_leaf[0] for each in by_leaf)


def matmuls(found: Prediction) -> dict[str, int]:
    return {entry.path: entry.value for entry in found.ledger if entry.quantity == "matmul_flops" and entry.value}


@settings(max_examples=80)
@given(asked=passes())
def test_shared_kernels_never_move_more(asked: tuple[ArchSpec, Workload]) -> None:
    eager, compiled = (predict(*asked, Execution(attention="fused", grouping=each)) for each in ("eager", "compiled"))
    moved, grouped = (
        {entry.path: entry.value for entry in each.ledger if entry.quantity == "hbm_bytes"}
        for each in (eager, compiled)
    )
    assert grouped.keys() == moved.keys()
    assert all(grouped[path] <= moved[path] for path in moved)
    assert compiled.cost.vector_flops == eager.cost.vector_flops
