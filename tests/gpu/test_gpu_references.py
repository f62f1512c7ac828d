"""The named unfused references on a GPU: CUDA tensors launch what is predicted, and the fp16 softmax converts in its kernel.

docs/reference-unfused.md, sections 2 and 3.
"""

from __future__ import annotations

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from llmprof.spec.arch import Gqa
from llmprof.twin.hf_eager import hf_eager
from llmprof.twin.sdpa_math import sdpa_math
from llmprof.workload import Dtypes, Execution, UnfusedReference
from tests.confirming import FP32, disagreements, rows
from tests.predict_samples import arch, decode, layer, prefill, stack

pytestmark = pytest.mark.gpu

FP16 = Dtypes(weights="fp16", activations="fp16", kv_cache="fp16")
SPEC = arch(
    stack([layer(Gqa(n_heads=4, n_kv_heads=k, head_dim=64, window=w)) for k in (4, 2, 1) for w in (None, 9)]),
    d=128,
    v=64,
)


@pytest.mark.parametrize("dtypes", [Dtypes(), FP16, FP32], ids=["bf16", "fp16", "fp32"])
@pytest.mark.parametrize("reference", ["hf-eager", "sdpa-math"])
def test_the_ops_of_a_gpu_are_those_that_are_predicted(reference: UnfusedReference, dtypes: Dtypes) -> None:
    execution = Execution(attention="unfused", reference=reference)
    for work in (
        prefill(24, batch=2, dtypes=dtypes),
        prefill(5, batch=2, context=24, dtypes=dtypes),
        decode(24, dtypes=dtypes),
    ):
        assert disagreements(rows(SPEC, work, execution, device="cuda")) == [], work  # fmt: skip


def _kernels(dtype: torch.dtype, *, math: bool) -> list[str]:
    """The GPU kernels of one core, by the profiler."""
    q = torch.randn(2, 24, 4, 64, dtype=dtype, device="cuda")
    k = torch.randn(2, 4, 24, 64, dtype=dtype, device="cuda")

    def run() -> None:
        if math:
            sdpa_math(q, k, k, None, causal=True, scale=0.125)
        else:
            hf_eager(q, k, k, None, scale=0.125)

    with torch.no_grad():
        run()
        torch.cuda.synchronize()
        with profile(activities=[ProfilerActivity.CUDA]) as record:
            run()
            torch.cuda.synchronize()
    return [event.name for event in record.events() if "Mem" not in event.name]


def test_fp16_casts_once_and_bf16_twice() -> None:
    """One kernel less in fp16: its softmax reads what the other casts first."""
    fp16, bf16 = (_kernels(dtype, math=False) for dtype in (torch.float16, torch.bfloat16))
    if not fp16:
        pytest.skip("the profiler sees no kernels here")
    assert len(bf16) == len(fp16) + 1


def test_the_safe_softmax_is_five_kernels() -> None:
    """A softmax, a comparison, a reduction, a fill and a choice run after the scores."""
    names = _kernels(torch.float32, math=True)
    if not names:
        pytest.skip("the profiler sees no kernels here")
    first = next(i for i, name in enumerate(names) if "softmax" in name.lower())
    # What follows: isneginf, all, scalar, where, the product of weights and values, the last copy.
    assert len(names) - first == 7
