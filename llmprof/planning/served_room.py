"""How many sequences of a served model the memory of a device has room for, where the planner can say."""

from __future__ import annotations

from functools import lru_cache

from llmprof.device_figures import Device
from llmprof.errors import LlmprofError
from llmprof.latency.compose_pass import Layout
from llmprof.latency.op import Dtype
from llmprof.latency.serving.names import Named
from llmprof.latency.serving.scheduler import BUDGET
from llmprof.planning.deployment import Deployment
from llmprof.planning.inverse import largest_batch
from llmprof.sharding import Sharding
from llmprof.workload import Dtypes, NotApplicable, StorageDtype

STORED: dict[Dtype, StorageDtype] = {
    "bf16": "bf16",
    "fp16": "fp16",
    "fp8": "fp8",
    "fp8_block": "fp8",
    "int8": "int8",
    "int4": "int4",
    "fp4": "int4",
}
"""What a format takes of memory, as the planner counts it: fp4 as int4, whose groups are larger by a little."""


def room_of(served: Named, device: Device, layout: Layout, tokens: int) -> int | None:
    """Sequences of `tokens` that one replica has room for; None where the planner cannot say, or says none at all.

    A run that was measured did fit: where the planner says that nothing fits, its memory is not the run's.
    """
    if layout.attention_copies > 1:
        return None
    return _room(served, device.name, layout, tokens)


@lru_cache(maxsize=4096)
def _room(served: Named, device: str, layout: Layout, tokens: int) -> int | None:
    from llmprof.device import find

    precision = served.precision
    deployment = Deployment(
        device=find(device),
        sharding=Sharding(
            tensor_parallel=layout.tensor, pipeline_parallel=layout.pipeline, expert_parallel=layout.expert
        ),
        dtypes=Dtypes(weights=STORED[precision.experts], kv_cache=STORED[precision.kv_cache]),
    )
    try:
        found = largest_batch(served.arch, deployment, tokens=tokens, chunk_tokens=BUDGET)
    except (LlmprofError, NotApplicable):
        return None
    return found or None
