"""What is predicted of ranks is what ranks on `meta` do, for the architectures of the catalogue at their own widths.

Each is cut down to one layer of each kind. Of a few models one way of spreading them is tried; with LLMPROF_EVERY=1
every way that fits, of every model.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from llmprof import catalog
from llmprof.errors import InputError
from llmprof.measure.sharded.account import accounts_on_meta
from llmprof.routing import Routing
from llmprof.sharding import Sharding, check_sharding
from llmprof.spec.arch import ArchSpec
from llmprof.spec.slice import slice_arch, smallest_slice
from llmprof.workload import Dtypes, NotApplicable, Workload
from tests.importing import EVERYTHING
from tests.test_sharding import agree, predicted

CONCENTRATED = Routing("concentrated")
PREFILL = Workload(phase="prefill", batch=8, new_tokens=16, context=16, routing=CONCENTRATED)
CHUNK = replace(PREFILL, context=40, logits="last")
DECODE = Workload(phase="decode", batch=8, new_tokens=1, context=40, dtypes=Dtypes(kv_cache="fp32"))
PACKED = replace(DECODE, dtypes=Dtypes(weights="fp8"), routing=CONCENTRATED)

WAYS = (
    (PREFILL, Sharding(tensor_parallel=2, sequence_parallel=True)),
    (DECODE, Sharding(tensor_parallel=4, data_parallel=2)),
    (CHUNK, Sharding(tensor_parallel=8, sequence_parallel=True)),
    (PREFILL, Sharding(context_parallel=4)),
    (replace(DECODE, dtypes=Dtypes()), Sharding(data_parallel=4)),
    (PREFILL, Sharding(tensor_parallel=2, sequence_parallel=True, context_parallel=2)),
    (PACKED, Sharding(tensor_parallel=8)),
    (PREFILL, Sharding(tensor_parallel=4, expert_parallel=2)),
    (DECODE, Sharding(tensor_parallel=2, expert_parallel=2)),
    (replace(DECODE, routing=CONCENTRATED), Sharding(data_parallel=8, expert_parallel=8)),
    (CHUNK, Sharding(tensor_parallel=2, sequence_parallel=True, data_parallel=2, expert_parallel=4)),
)
STEP = 1 if EVERYTHING else 11
NAMES = [entry.name for entry in catalog.entries()][::STEP]


def fits(arch: ArchSpec, workload: Workload, sharding: Sharding) -> bool:
    """Whether a pass can be spread so."""
    try:
        check_sharding(arch, workload, sharding)
    except (InputError, NotApplicable):
        return False
    return True


@pytest.mark.parametrize("name", NAMES)
def test_a_model_of_the_catalogue(name: str) -> None:
    turn = NAMES.index(name)
    for arch in catalog.resolve([name], all_variants=EVERYTHING):
        fitting = [way for way in WAYS if fits(arch, *way)]
        if not fitting:
            continue
        small = slice_arch(arch, smallest_slice(arch)).arch
        for workload, sharding in fitting if EVERYTHING else [fitting[turn % len(fitting)]]:
            agree(predicted(small, workload, sharding), accounts_on_meta(small, workload, sharding))


@pytest.mark.parametrize("name", ["mixtral-8x7b", "deepseek-v3", "gpt-oss-20b"])
def test_models_with_experts(name: str) -> None:
    [arch] = catalog.resolve([name])
    small = slice_arch(arch, smallest_slice(arch)).arch
    fitting = [way for way in WAYS if way[1].expert_parallel > 1 and fits(small, *way)]
    assert len(fitting) >= 4
    for workload, sharding in fitting:
        agree(predicted(small, workload, sharding), accounts_on_meta(small, workload, sharding))
