"""Every device, number of devices, way to spread a model over them and dtype: which have room, and how quick they are.

Passes are predicted once for each way to spread and each batch, whatever the device, which only scales them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from llmprof.device import Device
from llmprof.errors import InputError
from llmprof.planning import times
from llmprof.planning.ask import Ask
from llmprof.planning.configuration import Configuration
from llmprof.planning.degrees import Degrees, Refused, degrees, words
from llmprof.planning.footprint import footprint
from llmprof.planning.inverse import largest_batch
from llmprof.planning.memory import Deployment, PlannedEngine, memory_bar
from llmprof.planning.rank import ranked
from llmprof.planning.terms import MemoryBar
from llmprof.planning.work import Predictions
from llmprof.sharding import Sharding
from llmprof.spec.arch import ArchSpec
from llmprof.workload import Dtypes, Workload, check_workload

Lack = Literal["weights", "one request", "all requests"]
"""What a device has no room for: the weights alone, one request beside them, or as many as are asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """A deployment without room; `short_bytes` are missing on its fullest device for `batch` requests."""

    deployment: Deployment
    lack: Lack
    batch: int
    short_bytes: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What was found for one architecture, best first, and why the rest was not.

    `unplanned` are the devices whose figures do not suffice, `refused` the degrees that are none. `without_engine` is
    why memory is what the architecture needs and not what vLLM takes. `predicted` are passes that were predicted.
    """

    arch: ArchSpec
    ask: Ask
    configurations: tuple[Configuration, ...]
    rejected: tuple[Rejected, ...]
    refused: tuple[Refused, ...]
    engine: PlannedEngine
    without_engine: str | None
    unplanned: tuple[tuple[Device, str], ...]
    tokens: int
    considered: int
    predicted: int


def plan(arch: ArchSpec, devices: Sequence[Device], ask: Ask) -> Plan:
    """Search for what serves `arch` as `ask` has it on some of `devices`.

    Raises InputError where the architecture cannot take such a request at all.
    """
    return Search(arch, devices, ask).plan()


class Search:
    """The search for one architecture. What it has predicted it keeps, for further questions of the same kind."""

    def __init__(self, arch: ArchSpec, devices: Sequence[Device], ask: Ask) -> None:
        self.arch, self.ask = arch, ask
        self.tokens, self.source_tokens = ask.tokens(arch), ask.source_tokens(arch)
        self.devices: list[Device] = []
        self.unplanned: list[tuple[Device, str]] = []
        for device in devices:
            why = times.missing(device, ask.dtypes[0].activations)
            if why is None:
                self.devices.append(device)
            else:
                self.unplanned.append((device, why))
        self._passes: dict[Dtypes, Predictions] = {}
        for dtypes in ask.dtypes:
            check_workload(arch, self.pass_of(dtypes))
        check_workload(arch, self.longest_pass())
        self.engine, self.without_engine = self._engine()

    def plan(self) -> Plan:
        """Everything, ranked."""
        found: list[Configuration] = []
        rejected: list[Rejected] = []
        refused: dict[str, Refused] = {}
        for dtypes in self.ask.dtypes:
            ways = self.ways(dtypes)
            refused.update((f"{each.what} {each.why}", each) for each in ways.refused)
            for deployment in self.deployments(ways.shardings, dtypes):
                made = self.configured(deployment)
                if isinstance(made, Configuration):
                    found.append(made)
                else:
                    rejected.append(made)
        return Plan(
            arch=self.arch,
            ask=self.ask,
            configurations=tuple(ranked(found, self.ask.rank)),
            rejected=tuple(rejected),
            refused=tuple(refused.values()),
            engine=self.engine,
            without_engine=self.without_engine,
            unplanned=tuple(self.unplanned),
            tokens=self.tokens,
            considered=len(found) + len(rejected),
            predicted=sum(each.predicted for each in self._passes.values()),
        )

    def deployments(self, shardings: Iterable[Sharding], dtypes: Dtypes) -> Iterator[Deployment]:
        """Each way to spread, on each device."""
        for sharding in shardings:
            for device in self.devices:
                yield self.deployment(device, sharding, dtypes)

    def deployment(self, device: Device, sharding: Sharding, dtypes: Dtypes) -> Deployment:
        """One of them."""
        ask = self.ask
        return Deployment(device=device, sharding=sharding, dtypes=dtypes, engine=self.engine, overheads=ask.overheads)

    def ways(self, dtypes: Dtypes, max_gpus: int | None = None) -> Degrees:
        """The ways to spread the model in these dtypes, of which the engine can keep what each device has."""
        ask = self.ask
        found = degrees(
            self.arch,
            self.pass_of(dtypes),
            max_gpus=max_gpus or ask.max_gpus,
            node_gpus=ask.node_gpus,
            replicas=ask.max_gpus if ask.fill else ask.demand.concurrency,
        )
        unkept = {each: why for each in found.shardings if (why := self._unkept(each, dtypes)) is not None}
        if not unkept:
            return found
        refused = {words(each): Refused(what=words(each), why=why) for each, why in unkept.items()}
        kept = tuple(each for each in found.shardings if each not in unkept)
        return Degrees(shardings=kept, refused=(*found.refused, *refused.values()))

    def _unkept(self, sharding: Sharding, dtypes: Dtypes) -> str | None:
        """Why vLLM cannot keep what a device has, where its own rules do not divide it so; None where it can."""
        if not self.devices or sharding.ranks == sharding.data_parallel:
            return None
        made = self.deployment(self.devices[0], sharding, dtypes)
        try:
            footprint(self.arch, made, self.ask.demand.chunk_tokens, self.source_tokens).kept(self.tokens)
        except InputError as error:
            return str(error)
        return None

    def pass_of(self, dtypes: Dtypes) -> Workload:
        """The pass of one prompt, which all ways to spread the model have to take."""
        return self.passes(dtypes).workload("prefill", batch=1, context=self.ask.demand.prompt_tokens)

    def _engine(self) -> tuple[PlannedEngine, str | None]:
        """The engine whose memory is meant: the architecture's own needs where vLLM has not what it keeps, and why."""
        asked = self.ask.engine
        if asked == "architecture" or not self.devices:
            return asked, None
        for dtypes in self.ask.dtypes:
            of_one: dict[PlannedEngine, Deployment] = {
                name: Deployment(device=self.devices[0], dtypes=dtypes, engine=name, overheads=self.ask.overheads)
                for name in ("vllm", "architecture")
            }
            self.bar(of_one["architecture"], 1)
            try:
                self.bar(of_one["vllm"], 1)
            except InputError as error:
                return "architecture", str(error)
        return asked, None

    def longest_pass(self) -> Workload:
        """The pass that goes furthest: the last step of an answer, or the prompt where nothing is answered."""
        passes = self.passes(self.ask.dtypes[0])
        if passes.decodes:
            return passes.workload("decode", batch=1, context=passes.contexts[1])
        return self.pass_of(self.ask.dtypes[0])

    def passes(self, dtypes: Dtypes) -> Predictions:
        """What has been predicted in these dtypes."""
        if dtypes not in self._passes:
            ask = self.ask
            self._passes[dtypes] = Predictions(self.arch, dtypes, ask.demand, routing=ask.routing, latent=ask.latent)
        return self._passes[dtypes]

    # --- one of them ----------------------------------------------------------------------------

    def batch_of(self, sharding: Sharding) -> int:
        """Requests of one replica: the share of the fullest."""
        return -(-self.ask.demand.concurrency // sharding.data_parallel)

    def _least_batch(self, sharding: Sharding, batch: int) -> int:
        """Of `batch` in the fullest replica, those that every replica has at least where they share experts."""
        if self.ask.fill or not sharding.sends_tokens:
            return batch
        return max(1, self.ask.demand.concurrency // sharding.data_parallel)

    def bar(self, deployment: Deployment, batch: int) -> MemoryBar:
        """The memory of the fullest device with so many requests in each replica."""
        return memory_bar(
            self.arch,
            deployment,
            sequences=batch,
            tokens=self.tokens,
            chunk_tokens=self.ask.demand.chunk_tokens,
            source_tokens=self.source_tokens,
        )

    def room(self, deployment: Deployment) -> int:
        """The most requests of one replica."""
        return largest_batch(
            self.arch,
            deployment,
            tokens=self.tokens,
            chunk_tokens=self.ask.demand.chunk_tokens,
            source_tokens=self.source_tokens,
        )

    def configured(self, deployment: Deployment) -> Configuration | Rejected:
        """The deployment with its batch, its memory and its bounds, or what it has no room for."""
        batch = max(1, self.room(deployment)) if self.ask.fill else self.batch_of(deployment.sharding)
        bar = self.bar(deployment, batch)
        if not bar.fits:
            return self._rejected(deployment, batch, bar)
        passes, demand = self.passes(deployment.dtypes), self.ask.demand
        sharding = deployment.sharding
        at = times.speeds(deployment.device, deployment.dtypes.activations, deployment.dtypes.weights)
        unlinked = self._unlinked(deployment)
        if unlinked is not None:
            at = replace(at, link_bytes=None)
        prefill, steps = passes.prefill(sharding), passes.decode(sharding, batch)
        parts = passes.microbatches(sharding, self._least_batch(sharding, batch))
        request = times.per_request(
            prefill,
            None if steps is None else steps.stages,
            steps=demand.output_tokens - 1,
            batch=batch,
            at=at,
        )
        return Configuration(
            arch=self.arch,
            deployment=deployment,
            batch=batch,
            tokens=self.tokens,
            chunk_tokens=demand.chunk_tokens,
            output_tokens=0 if self.arch.structure == "encoder" else demand.output_tokens,
            prompt_tokens=demand.prompt_tokens,
            source_tokens=self.source_tokens,
            bar=bar,
            prefill=times.prompt(passes.alone(sharding), at, one_pass=demand.prompt_tokens <= demand.chunk_tokens),
            decode=None if parts is None else times.step(*parts, at),
            request=request,
            decode_contexts=None if steps is None else (steps.first_context, steps.last_context),
            unlinked=unlinked,
            price=self.ask.prices.get(deployment.device.name),
        )

    def _rejected(self, deployment: Deployment, batch: int, bar: MemoryBar) -> Rejected:
        alone = bar if batch == 1 else self.bar(deployment, 1)
        if alone.fits:
            return Rejected(deployment=deployment, lack="all requests", batch=batch, short_bytes=-bar.free_bytes)
        lack: Lack = "weights" if alone.bytes_of("weights") > alone.capacity_bytes else "one request"
        return Rejected(deployment=deployment, lack=lack, batch=1, short_bytes=-alone.free_bytes)

    def _unlinked(self, deployment: Deployment) -> str | None:
        """Why collectives take no time in the bounds of a deployment; None where they do, or there are none."""
        together = max(deployment.sharding.tensor_parallel, deployment.sharding.expert_parallel)
        if together == 1:
            return None
        if together > self.ask.node_gpus:
            return "experts are spread over several nodes, of whose links nothing is known: collectives are left out"
        if deployment.device.interconnect is None:
            return "nothing is known of the links between its devices: collectives are left out"
        return None

    # --- questions of room alone ------------------------------------------------------------------

    def has_room(self, deployment: Deployment) -> bool:
        """Whether a deployment has room for what is asked."""
        return self.bar(deployment, 1 if self.ask.fill else self.batch_of(deployment.sharding)).fits

    def fewest(self, dtypes: Dtypes, devices: Sequence[Device], max_gpus: int | None = None) -> Deployment | None:
        """The first deployment of the fewest of some device that has room for what is asked; None where none has."""
        for sharding in self.ways(dtypes, max_gpus).shardings:
            for device in devices:
                made = self.deployment(device, sharding, dtypes)
                if self.has_room(made):
                    return made
        return None

    def asking(self, ask: Ask) -> Search:
        """The same search with another question."""
        return Search(self.arch, self.devices, ask)
