"""One way to serve a model: the devices, how it is spread over them, what they hold, and what bounds it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from llmprof.planning.demand import Demand
from llmprof.planning.inverse import ANY, largest_batch, largest_context, maximum_concurrency
from llmprof.planning.memory import Deployment
from llmprof.planning.terms import MemoryBar
from llmprof.planning.times import Bound
from llmprof.spec.arch import ArchSpec

MILLION = 1e6
SECONDS_PER_HOUR = 3600


@dataclass(frozen=True, eq=False, kw_only=True)
class Configuration:
    """A deployment that has room for what is asked, at `batch` sequences of `tokens` tokens in each replica.

    Times are lower bounds and rates upper bounds. `decode` is the mean step of an answer, None where nothing is decoded
    behind a prompt; `request` what a replica spends on one request. `unlinked` is why collectives take no time in them.
    """

    arch: ArchSpec
    deployment: Deployment
    batch: int
    tokens: int
    chunk_tokens: int
    output_tokens: int
    prompt_tokens: int
    source_tokens: int | None
    bar: MemoryBar
    prefill: Bound
    decode: Bound | None
    request: Bound
    decode_contexts: tuple[int, int] | None
    unlinked: str | None
    price: float | None

    @property
    def gpus(self) -> int:
        """Devices of all replicas."""
        return self.deployment.sharding.ranks

    @property
    def replicas(self) -> int:
        """Copies of the model, each with requests of its own."""
        return self.deployment.sharding.data_parallel

    @property
    def concurrency(self) -> int:
        """Requests in flight, of all replicas."""
        return self.batch * self.replicas

    @property
    def requests_per_s(self) -> float:
        """At most, of all replicas."""
        return self.replicas / self.request.seconds

    @property
    def tokens_per_s(self) -> float:
        """At most, of all replicas: tokens that are answered or, where nothing is, of prompts."""
        return self.requests_per_s * (self.output_tokens or self.prompt_tokens)

    @property
    def price_per_hour(self) -> float | None:
        """Of all devices; None where nobody said what one costs."""
        return None if self.price is None else self.price * self.gpus

    @property
    def cost_per_million(self) -> float | None:
        """Of the tokens of `tokens_per_s`, at least."""
        price = self.price_per_hour
        return None if price is None else price / SECONDS_PER_HOUR / self.tokens_per_s * MILLION

    def as_planned(self, demand: Demand) -> Demand:
        """`demand` with as many requests as run and, where more is kept of each than it has, longer prompts.

        Of an encoder-decoder it is what its decoder takes: one token before the answer.
        """
        before = demand.prompt_tokens if self.source_tokens is None else 1
        prompt = max(before, self.tokens - demand.output_tokens)
        return replace(demand, concurrency=self.concurrency, prompt_tokens=prompt)

    @property
    def in_cache(self) -> bool | None:
        """Whether a device's weights fit into its last-level cache, so that steps may be quicker than their bound.

        None where nothing is known of that cache.
        """
        cache = self.deployment.device.last_level_cache
        return None if cache is None else self.bar.bytes_of("weights") <= cache.value

    # --- what else it has room for, made on first use -------------------------------------------

    @property
    def keeps(self) -> bool:
        """Whether a request keeps anything between passes; any number of those that keep nothing has room."""
        return self.arch.structure != "encoder"

    @cached_property
    def largest_batch(self) -> int | None:
        """The most requests of these tokens that have room, of all replicas; None where any number has."""
        return self.largest_batch_of(self.tokens)

    def largest_batch_of(self, tokens: int) -> int | None:
        """The same for requests of other `tokens`."""
        found = largest_batch(
            self.arch,
            self.deployment,
            tokens=tokens,
            chunk_tokens=self.chunk_tokens,
            source_tokens=self.source_tokens,
        )
        return None if found >= ANY else self.replicas * found

    @cached_property
    def largest_context(self) -> int | None:
        """The most tokens of each request for which this batch has room; None where any number has."""
        return longest(
            self.arch, self.deployment, self.batch, chunk_tokens=self.chunk_tokens, source_tokens=self.source_tokens
        )

    def maximum_concurrency_of(self, tokens: int) -> float | None:
        """How many requests of `tokens` tokens the caches of all replicas have room for; None where any number has.

        As an engine counts them that is started for as many as are planned.
        """
        found = maximum_concurrency(
            self.arch,
            self.deployment,
            tokens=tokens,
            chunk_tokens=self.chunk_tokens,
            source_tokens=self.source_tokens,
            sequences=self.batch,
        )
        return None if found >= ANY else self.replicas * found


def longest(
    arch: ArchSpec, deployment: Deployment, batch: int, *, chunk_tokens: int, source_tokens: int | None
) -> int | None:
    """The most tokens of each of `batch` requests of a replica that have room; None where any number has."""
    found = largest_context(arch, deployment, sequences=batch, chunk_tokens=chunk_tokens, source_tokens=source_tokens)
    return None if found >= ANY else found
