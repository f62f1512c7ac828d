"""What the feed-forward of vLLM holds, where that is more than the reference does.

Of a dense one docs/planning.md says what eager starts printed. Experts run all at once, in the reference one by one.

Read in the packages vllm 0.19.0 and 0.33.0 on 2026-11-30 (vllm/model_executor/layers/fused_moe: `workspace_shapes` of
the Triton kernel, `_allocate_buffers` of modular_kernel.py; vllm/v1/worker/workspace.py). With M tokens of which each
goes to `top_k` experts, of N values before and F behind their activation, and of K values outside: one workspace of
M x top_k x max(F, K) values and one of M x top_k x max(N, K), made in the first pass and kept, so that tokens are
sampled beside them. That is the kernel of unquantised experts on Hopper; kernels for other dtypes and devices hold
other amounts, of the same order.

Where devices of a replica share experts each has all of its tokens, and where replicas do all tokens of all replicas
(`all2all_backend` of vllm/config/parallel.py: allgather_reducescatter), whose hidden states it gathers first.
"""

from __future__ import annotations

from collections.abc import Iterator

from llmprof.planning.passes import Peaks
from llmprof.sharding import Sharding
from llmprof.sharding_stages import stage_of_layers
from llmprof.spec.arch import ArchSpec, Glu, LayerSpec, Mlp, Moe

HIDDEN = 4
"""Hidden states beside them: the residual, what the layer was given, what experts take, what shared ones make of it."""


def hidden_states(sharding: Sharding) -> int:
    """How many hidden states of a pass are live in a feed-forward: one more where ranks add up what they made.

    Where replicas share experts those of all are gathered too.
    """
    return HIDDEN + (sharding.tensor_parallel > 1) + (sharding.data_parallel if sharding.sends_tokens else 0)


def dense_values(arch: ArchSpec, sharding: Sharding) -> Peaks:
    """Values of the widest dense feed-forward for each token, on a device of each stage.

    Gate and up are one tensor, their product another; of two matrices there is what lies before and behind the
    activation. Both live until the last matrix has run, as vLLM's layers name them.
    """
    found = [0] * sharding.pipeline_parallel
    for stage, layer in _placed(arch, sharding):
        if isinstance(layer.ffn, Glu | Mlp):
            tensors = 3 if isinstance(layer.ffn, Glu) else 2
            found[stage] = max(found[stage], tensors * layer.ffn.d_ff // sharding.tensor_parallel)
    return tuple(found)


def expert_values(arch: ArchSpec, sharding: Sharding) -> Peaks:
    """Values in the workspaces for each token of a replica's pass, on a device of each stage; 0 without experts."""
    found = [0] * sharding.pipeline_parallel
    known: dict[int, int] = {}  # by identity, because equal layers are the same object
    for stage, layer in _placed(arch, sharding):
        if isinstance(layer.ffn, Moe):
            if id(layer) not in known:
                known[id(layer)] = _of_layer(layer.ffn, arch.d_model, sharding)
            found[stage] = max(found[stage], known[id(layer)])
    return tuple(found)


def _placed(arch: ArchSpec, sharding: Sharding) -> Iterator[tuple[int, LayerSpec]]:
    """The layers and the stage that has each."""
    layers = arch.main.layers
    return zip(stage_of_layers(sharding.stage_depths(len(layers))), layers, strict=True)


def _of_layer(spec: Moe, d_model: int, sharding: Sharding) -> int:
    outside = spec.latent or d_model
    if sharding.sends_tokens:
        ranks, replicas = 1, sharding.data_parallel
    else:
        ranks, replicas = sharding.tensor_parallel // sharding.expert_parallel, 1
    behind = spec.expert.d_ff // ranks
    before = 2 * behind if isinstance(spec.expert, Glu) else behind
    return replicas * spec.top_k * (max(behind, outside) + max(before, outside))
