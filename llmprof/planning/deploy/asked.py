"""What every engine is told of a deployment, in numbers, and what none of them is asked to serve."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from llmprof.errors import InputError
from llmprof.planning.demand import Demand
from llmprof.planning.deploy.line import Refusal
from llmprof.planning.memory import Deployment
from llmprof.sharding_stages import check_stages
from llmprof.spec.arch import ArchSpec, Gqa, LayerSpec, LmHead, Moe, NoAttention, NoFfn, T5Bias
from llmprof.training_rules import unlike_dtypes
from llmprof.workload import QUANTISED

NODE = 8
"""Devices of one node, as most servers have them: beyond, a command line needs to know its node."""

DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
"""The spelling of a dtype that all three engines share."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A deployment for one replica: `sequences` at once, each of up to `tokens`, `chunk` of them in a pass."""

    arch: ArchSpec
    deployment: Deployment
    sequences: int
    prompt: int
    tokens: int
    chunk: int

    @property
    def pass_tokens(self) -> int:
        """Tokens of the largest pass: an engine that measures itself with more than there can be keeps them free."""
        return min(self.chunk, self.sequences * self.tokens)

    @property
    def replica_devices(self) -> int:
        """Devices that share the layers of one replica."""
        sharding = self.deployment.sharding
        return sharding.tensor_parallel * sharding.pipeline_parallel

    @property
    def split(self) -> tuple[int, ...]:
        """How many layers each stage of the pipeline has."""
        return self.deployment.sharding.stage_depths(len(self.arch.main.layers))

    @property
    def left_over(self) -> int:
        """How many layers are left over where stages have equally many."""
        return len(self.arch.main.layers) % self.deployment.sharding.pipeline_parallel

    @property
    def experts(self) -> bool:
        """Whether some layer has experts."""
        return any(isinstance(layer.ffn, Moe) for layer in self.arch.main.layers)

    @property
    def dense_layers(self) -> bool:
        """Whether some layer has a feed-forward of its own for all tokens."""
        return any(not isinstance(layer.ffn, Moe | NoFfn) for layer in self.arch.main.layers)

    @property
    def plain_pages(self) -> bool:
        """Whether a cache holds nothing but keys and values of heads, so that a page may have any usual size."""
        return all(
            isinstance(layer.attention, Gqa | NoAttention) and layer.mixer is None for layer in self.arch.main.layers
        )

    @property
    def weights(self) -> str:
        """The dtype of the weights."""
        return self.deployment.dtypes.weights


def asked(arch: ArchSpec, deployment: Deployment, demand: Demand) -> Asked:
    """The numbers of one replica. InputError for a demand that asks for nothing."""
    for name, value, least in (
        ("prompt_tokens", demand.prompt_tokens, 1),
        ("output_tokens", demand.output_tokens, 0),
        ("concurrency", demand.concurrency, 1),
        ("chunk_tokens", demand.chunk_tokens, 1),
    ):
        if value < least:
            raise InputError(f"{name} is {value}; it must be at least {least}")
    return Asked(
        arch=arch,
        deployment=deployment,
        sequences=-(-demand.concurrency // deployment.sharding.data_parallel),
        prompt=demand.prompt_tokens,
        tokens=demand.prompt_tokens + demand.output_tokens,
        chunk=demand.chunk_tokens,
    )


def check_asked(a: Asked) -> None:
    """Raise Refusal for what no engine is asked to serve, whatever its version."""
    arch, sharding, dtypes = a.arch, a.deployment.sharding, a.deployment.dtypes
    try:
        check_stages(arch.label, len(arch.main.layers), sharding.pipeline_parallel, sharding.pipeline_layers)
    except InputError as error:
        raise Refusal(f"has no such stages: {error}") from None
    if arch.structure == "encoder" or not isinstance(arch.head, LmHead):
        raise Refusal(f"makes tokens, and {arch.label} has no head that predicts the next one")
    if arch.structure == "prefix-decoder":
        raise Refusal(f"masks causally, and a prefix of {arch.label} sees all of itself (prefix-decoder)")
    if arch.max_context is not None and a.tokens > arch.max_context:
        raise Refusal(
            f"takes no longer requests than the {arch.max_context:,} positions of {arch.label}, and prompt and output "
            f"are {a.tokens:,} tokens"
        )
    if sharding.expert_parallel > 1 and not a.experts:
        raise Refusal(f"has no experts to spread over {sharding.expert_parallel} devices: {arch.label} is dense")
    if dtypes.activations == "tf32" or dtypes.weights == "tf32" or dtypes.kv_cache == "tf32":
        raise Refusal("has no flag for tf32, which is how products of float32 are computed and no dtype of files")
    unlike = None if dtypes.weights in QUANTISED else unlike_dtypes(dtypes.weights, dtypes.activations)
    if unlike is not None:
        raise Refusal(f"has one dtype for weights and activations, but {unlike}")


def check_layers(a: Asked, *, kinds: frozenset[str]) -> None:
    """Raise Refusal where a layer has attention, a mixer or positions that an engine has no kernels for.

    `kinds` are those of attention and of mixers that it has.
    """
    for index, layer in enumerate(a.arch.main.layers):
        for kind in _kinds(layer):
            if kind not in kinds:
                raise Refusal(f"has no kernel for {kind}, which layers.{index} of {a.arch.label} has")


def _kinds(layer: LayerSpec) -> Iterator[str]:
    """The kinds of a layer that need kernels of their own."""
    yield layer.attention.kind
    if layer.mixer is not None:
        yield layer.mixer.kind
    if isinstance(layer.position, T5Bias) or layer.position.kind == "gaussian":
        yield layer.position.kind
    if layer.ffn.kind == "rwkv-channel-mix":
        yield layer.ffn.kind
