"""What one forward pass of a serving engine is asked to do, and how the model lies on its devices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from llmprof.errors import InputError
from llmprof.latency.op import Dtype
from llmprof.sharding import Sharding
from llmprof.workload import Dtypes


class Chunk(NamedTuple):
    """`tokens` of the prompt of each of `sequences`, after `prefix` tokens that the cache has already.

    A tuple, as simulations make and look up millions of them.
    """

    tokens: int
    prefix: int = 0
    sequences: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """One step of an engine: a token for each of `decode_sequences`, and chunks of prompts beside them.

    `decode_context` is how many tokens such a sequence attends to on average, the new one included.
    """

    decode_sequences: int = 0
    decode_context: int = 0
    chunks: tuple[Chunk, ...] = ()

    @property
    def tokens(self) -> int:
        """Rows of every matrix product of the layers."""
        return self.decode_sequences + sum(chunk.tokens * chunk.sequences for chunk in self.chunks)

    @property
    def logit_rows(self) -> int:
        """Rows of the output matrix: the last position of each sequence, as engines compute it."""
        return self.decode_sequences + sum(chunk.sequences for chunk in self.chunks)


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """Formats of the matrices of attention and dense feed-forward, of routed experts, and of the cache.

    `attention` is that of the attention's matrices where it is another than `dense`. Embedding, router, norms and
    output matrix stay in 16 bits, as quantised releases keep them. `static` says that the scales of activations are
    stored with the weights, so that the kernel which makes an activation can round it.
    """

    dense: Dtype = "bf16"
    experts: Dtype = "bf16"
    kv_cache: Dtype = "bf16"
    static: bool = False
    attention: Dtype | None = None

    @classmethod
    def of(cls, dtypes: Dtypes) -> Precision:
        """The formats of a workload. InputError for tf32 and fp32, which no served kernel here computes in."""
        weights, cache = _format(dtypes.weights), _format(dtypes.kv_cache)
        return cls(dense=weights, experts=weights, kv_cache=cache)


def _format(dtype: str) -> Dtype:
    match dtype:
        case "bf16" | "fp16" | "fp8" | "int8" | "int4":
            return dtype
    raise InputError(f"no times are known for tensors in {dtype}; use bf16, fp16, fp8, int8 or int4")


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How one replica lies on devices.

    `tensor` devices share each attention and dense layer. `group` devices share the experts of a layer, `expert` of
    them by whole experts and the rest by the width of each; where it is larger than `tensor`, group / tensor copies
    of the attention run side by side, each with sequences of its own (attention data parallelism).
    """

    tensor: int = 1
    expert: int = 1
    pipeline: int = 1
    group: int = 1

    @classmethod
    def of(cls, sharding: Sharding) -> Layout:
        """The layout of `sharding`: experts are spread over as many ranks as `expert_parallel` says."""
        tensor, expert = sharding.tensor_parallel, sharding.expert_parallel
        if sharding.context_parallel > 1:
            raise InputError(
                f"context_parallel is {sharding.context_parallel}: no times are known for sequences that several "
                "devices share; leave it at 1"
            )
        if expert > tensor and expert % tensor:
            raise InputError(
                f"expert_parallel is {expert}; it must divide or be a multiple of the {tensor} ranks of tensor_parallel"
            )
        return cls(tensor=tensor, expert=expert, pipeline=sharding.pipeline_parallel, group=max(tensor, expert))

    @property
    def attention_copies(self) -> int:
        """Copies of the attention that share one set of experts."""
        return self.group // self.tensor

    @property
    def expert_tensor(self) -> int:
        """Devices that share the width of one expert."""
        return self.group // self.expert

    @property
    def devices(self) -> int:
        """Of one replica."""
        return self.group * self.pipeline
