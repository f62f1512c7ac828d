"""Faults planted in the code of each half in turn: each must come back as DIFFERS, at the module that it touches.

This is what makes a confirmation mean something: the same rows are clean without the fault.
"""

from __future__ import annotations

import pytest

from llmprof.measure import flops as measured_flops
from llmprof.measure.bytes import kernel_bytes
from llmprof.predict import fused as predicted_fused
from llmprof.predict import layer as predicted_layer
from llmprof.predict import leaves as predicted_leaves
from llmprof.predict.gqa import GqaLowering
from llmprof.predict.op import Contraction, Op
from llmprof.predict.setting import Side
from llmprof.twin import block as twin_block
from llmprof.twin import heads as twin_heads
from llmprof.twin.attention import SelfAttention
from llmprof.twin.cache import prepare_cache
from llmprof.twin.projections import Projections
from tests.planting import Fault, check

PREDICTED = [
    Fault("a factor 2", Contraction.flops.fget, "2 * prod", "1 * prod", "matmul_flops", "attn.core"),  # type: ignore[attr-defined]
    Fault(
        "KV heads for query heads",
        predicted_fused.launch,
        'if kernel == "efficient"',
        'if kernel == "flash"',
        "hbm_bytes",
        "attn.core",
        attention="fused",
    ),
    Fault("a bias", GqaLowering.leaves, '"q_proj": matrix("q", q, "d", d, bias=spec.qkv_bias)',
          '"q_proj": matrix("q", q, "d", d, bias=True)', "params", "attn.q_proj"),
    Fault("a missing norm", predicted_layer._serial, 'norm("norm", x) if norm_before(layer, name) else x', "x", "hbm_bytes", "attn_norm"),
    Fault("a tie", predicted_leaves.closing_leaves, "owned = not arch.tied_embeddings", "owned = True", "params", "lm_head"),
    Fault("a window", Side.cache_rows, "min(", "max(", "kv_cache_bytes", "attn.cache.v",
          spec="attention-options:window", phase="decode", tokens=1500),
    Fault("a read that is forgotten", Op.hbm_bytes.fget, "self.read_bytes + ", "", "hbm_bytes", "ffn.up"),  # type: ignore[attr-defined]
]  # fmt: skip

MEASURED = [
    Fault("a factor 2", measured_flops._product, "2 * prod", "prod", "matmul_flops", "attn.core"),
    Fault(
        "KV heads for query heads",
        SelfAttention.prepare,
        "k=self.keys, v=self.values",
        "k=self.queries, v=self.queries",
        "kv_cache_bytes",
        "attn.cache.k",
        spec="falcon-7b",
    ),
    Fault("a bias", Projections.__init__, "q_width, bias=qkv_bias", "q_width, bias=True", "params", "attn.q_proj"),
    Fault("a missing norm", twin_block.PreNormLayer.through, "self.attn(_behind(self.attn_norm, x), run", "self.attn(x, run",
          "hbm_bytes", "attn_norm"),
    Fault("a tie", twin_heads.language_head, "table if spec.tied_embeddings else None", "None", "params", "lm_head"),
    Fault("a window", prepare_cache, "desk.context if window is None else min(window, desk.context)", "desk.context",
          "kv_cache_bytes", "attn.cache.v", spec="attention-options:window", phase="decode", tokens=1500),
    Fault("a read that is forgotten", kernel_bytes, "_distinct_bytes(_outermost(launch.inputs)) + ", "", "hbm_bytes", "ffn.up"),
]  # fmt: skip


@pytest.mark.parametrize("fault", PREDICTED, ids=lambda f: f"predicted: {f.name}")
def test_a_fault_in_the_prediction_differs(fault: Fault) -> None:
    check(fault)


@pytest.mark.parametrize("fault", MEASURED, ids=lambda f: f"measured: {f.name}")
def test_a_fault_in_the_measurement_differs(fault: Fault) -> None:
    check(fault)
