"""What cannot be shared is refused by both halves alike, with what would do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llmprof import catalog
from llmprof.errors import InputError
from llmprof.measure.sharded.account import accounts_on_meta
from llmprof.routing import Routing
from llmprof.sharding import Sharding
from llmprof.workload import Dtypes
from tests.sharded_specs import AFTER_PAST, DECODE, LONG, PREFILL, packed, spec
from tests.test_sharding import predicted


def test_what_cannot_be_shared_is_refused_by_both() -> None:
    mamba, one_group, latents = catalog.resolve(["mamba-130m", "mamba2-130m", "nemotron-3-super-120b-a12b"])
    refused = [
        (spec("grouped"), PREFILL, Sharding(tensor_parallel=3), "use one of: 1, 2, 4, 8"),
        (spec("grouped"), DECODE, Sharding(tensor_parallel=2, sequence_parallel=True), "leave it out"),
        (spec("grouped"), PREFILL, Sharding(pipeline_parallel=5), "more stages than the 4 layers"),
        (spec("grouped"), PREFILL, Sharding(data_parallel=4), "use one of: 1, 2"),
        (spec("grouped"), PREFILL, Sharding(tensor_parallel=0), "at least 1"),
        (
            spec("grouped"),
            packed(PREFILL, "int4"),
            Sharding(tensor_parallel=4),
            "10 inputs that a rank has of 40 are no",
        ),
        (mamba, PREFILL, Sharding(tensor_parallel=2), "layers.0 has attention of kind mamba-1"),
        (one_group, PREFILL, Sharding(tensor_parallel=2), r"n_groups \(1\) of mamba-2 in layers"),
        (spec("states"), LONG, Sharding(context_parallel=2), "attention of kind gated-deltanet"),
        (spec("sinks"), LONG, Sharding(context_parallel=2), "has sinks"),
        (spec("grouped"), PREFILL, Sharding(tensor_parallel=2, expert_parallel=2), "no experts; use one of: 1"),
        (spec("experts"), PREFILL, Sharding(tensor_parallel=2, expert_parallel=4), "no divisor of tensor_parallel"),
        (spec("latent"), PREFILL, Sharding(tensor_parallel=4, expert_parallel=8), "use one of: 1, 2, 4"),
        (spec("experts"), PREFILL, Sharding(data_parallel=2, expert_parallel=4), r"2 replicas \(2\); use one of: 1, 2"),
        (
            spec("experts"),
            PREFILL,
            Sharding(tensor_parallel=2, data_parallel=2, expert_parallel=4),
            "add sequence parallelism, or let 2 ranks share the experts",
        ),
        (spec("parallel-experts"), PREFILL, Sharding(data_parallel=2, expert_parallel=2), "experts in parallel layers"),
        (latents, PREFILL, Sharding(data_parallel=2, expert_parallel=2), "experts that see a latent"),
        (
            spec("experts"),
            replace(PREFILL, routing=Routing("random")),
            Sharding(tensor_parallel=2, expert_parallel=2),
            "the routing is random",
        ),
        (spec("grouped"), LONG, Sharding(context_parallel=2), "a window of 5, shorter than the 32 tokens"),
        (spec("learned"), DECODE, Sharding(context_parallel=2), "the phase is decode"),
        (spec("learned"), AFTER_PAST, Sharding(context_parallel=2), "5 tokens came before"),
        (spec("learned"), LONG, Sharding(context_parallel=3), "use one of: 1, 2, 4, 8, 16$"),
        (
            spec("learned"),
            LONG,
            Sharding(context_parallel=16, tensor_parallel=4, sequence_parallel=True),
            "are 2 on each",
        ),
        (spec("alibi"), LONG, Sharding(context_parallel=2), "positions of kind alibi"),
        (spec("latent"), LONG, Sharding(context_parallel=2), "attention of kind mla"),
        (
            spec("learned"),
            replace(LONG, dtypes=Dtypes(kv_cache="fp8")),
            Sharding(context_parallel=2),
            r"the cache is packed \(fp8\)",
        ),
        (spec("sandwich"), LONG, Sharding(context_parallel=2), "softcap"),
        (spec("parallel"), replace(LONG, dtypes=Dtypes()), Sharding(context_parallel=2), "a head_dim of 4 in bf16"),
        (
            spec("experts"),
            LONG,
            Sharding(context_parallel=2, data_parallel=2, expert_parallel=2),
            "for which together docs/reference-sharding.md has no rule",
        ),
    ]
    for arch, workload, sharding, message in refused:
        for half in (predicted, accounts_on_meta):
            with pytest.raises(InputError, match=message):
                half(arch, workload, sharding)
